"""The comment is delivered once, edited in place, found again among strangers' comments; refusals are reasons, never crashes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.errors import BadRequest, CannotPost, ExitCode
from modelguard.github.api import Api, Destination
from modelguard.github.bodies import MAX_BODY, within_limit
from modelguard.github.comment import Delivery, Message, Posted, deliver, marker, post_comment
from modelguard.github.job import MAX_SUMMARY_BYTES, annotation, append_outputs, append_summary
from modelguard.types.findings import Verdict
from tests.servers.github import Answer, Fault, GitHubServer

HEAD, NEWER, OLDER = "a" * 40, "c" * 40, "d" * 40


def to(github: GitHubServer, number: int = 7) -> Destination:
    return Destination(api_url=github.url, repository=github.repository, number=number, token=github.token)


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        server.add_pull(7, head=HEAD)
        yield server


def test_the_first_run_creates_a_comment_with_a_marker(github: GitHubServer) -> None:
    posted = post_comment(to(github), "the report\nof two lines", head=HEAD)
    (comment,) = github.comments(7)
    assert posted.delivery is Delivery.CREATED
    assert posted.url.endswith(f"#issuecomment-{comment.id}")
    assert comment.body == f"<!-- modelguard:comment id=default head={HEAD} -->\nthe report\nof two lines"
    assert comment.login == "github-actions[bot]"


def test_an_equal_comment_is_left_alone_and_another_edited_in_place(github: GitHubServer) -> None:
    first = post_comment(to(github), "one\ntwo\n", head=HEAD)
    again = post_comment(to(github), "one\ntwo\n", head=HEAD)
    assert (again.delivery, again.url) == (Delivery.UNCHANGED, first.url)
    assert not github.made("PATCH")
    changed = post_comment(to(github), "three", head=HEAD)
    (comment,) = github.comments(7)
    assert (changed.delivery, changed.url, comment.edits) == (Delivery.UPDATED, first.url, 1)
    assert comment.body.endswith("three")


@pytest.mark.parametrize("login", [None, "our-app[bot]", "a-robot"])
def test_the_comment_is_found_on_a_later_page_by_marker_and_author(login: str | None) -> None:
    with GitHubServer(login=login, page=10) as github:
        github.add_pull(7, head=HEAD)
        for index in range(25):
            github.add_comment(7, f"chatter {index}")
        github.add_comment(7, marker("default", HEAD) + "\nplanted by a stranger")
        github.add_comment(7, marker("other", HEAD) + "\nof another run", github.writer)
        github.add_comment(7, "quoting " + marker("default", HEAD), github.writer)
        github.add_comment(7, marker("default", HEAD) + "\nof somebody who left", "")
        mine = github.add_comment(7, marker("default", OLDER) + "\nold", github.writer)
        posted = post_comment(to(github), "new", head=HEAD)
        assert posted.delivery is Delivery.UPDATED
        assert mine.body == marker("default", HEAD) + "\nnew"
        assert [comment.edits for comment in github.comments(7)] == [0] * 29 + [1]
        assert len(github.comments(7)) == 30


def test_a_strangers_marker_is_no_comment_of_ours(github: GitHubServer) -> None:
    planted = github.add_comment(7, marker("default", HEAD) + "\nall is well")
    assert post_comment(to(github), "the report", head=HEAD).delivery is Delivery.CREATED
    assert planted.body.endswith("all is well")


def test_a_late_run_does_not_overwrite_a_newer_one(github: GitHubServer) -> None:
    github.add_pull(7, head=NEWER)
    post_comment(to(github), "newer", head=NEWER)
    late = post_comment(to(github), "older", head=OLDER)
    assert late.delivery is Delivery.SUPERSEDED
    assert github.comments(7)[0].body.endswith("newer")
    github.add_pull(7, head=HEAD)  # pushed again
    assert post_comment(to(github), "newest", head=HEAD).delivery is Delivery.UPDATED


def test_a_comment_that_is_not_wanted_is_not_created_but_kept_up_to_date(github: GitHubServer) -> None:
    assert post_comment(to(github), "clean", head=HEAD, create=False).delivery is Delivery.NOT_WANTED
    assert not github.comments(7)
    post_comment(to(github), "found", head=HEAD)
    assert post_comment(to(github), "clean", head=HEAD, create=False).delivery is Delivery.UPDATED


def test_enterprise_addresses_have_a_path() -> None:
    with GitHubServer(prefix="/api/v3") as github:
        github.add_pull(7, head=HEAD)
        assert post_comment(to(github), "one", head=HEAD).delivery is Delivery.CREATED
        assert post_comment(to(github), "two", head=HEAD).delivery is Delivery.UPDATED


@pytest.mark.parametrize(("status", "advice"), [(403, "pull-requests: write"), (422, "report it"), (429, "later"), (418, "again")])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_refusals_are_reasons_with_advice(github: GitHubServer, method: str, status: int, advice: str) -> None:
    if method == "PATCH":
        post_comment(to(github), "first", head=HEAD)
    github.refuse(method, status)
    with pytest.raises(CannotPost, match=rf"#7 .*{status}") as caught:
        post_comment(to(github), "second", head=HEAD)
    assert advice in caught.value.advice
    assert caught.value.exit_code is ExitCode.CANNOT_DETERMINE
    assert len(github.made("POST")) == 1


def test_what_is_unwell_for_a_moment_is_asked_again_within_bounds(github: GitHubServer) -> None:
    github.refuse("GET", 502, path="/pulls/", times=2)
    assert post_comment(to(github), "first", head=HEAD).delivery is Delivery.CREATED
    github.refuse("GET", 502, path="/pulls/")
    before = len(github.requests)
    with pytest.raises(CannotPost, match="502"):
        post_comment(to(github), "second", head=HEAD)
    assert len(github.requests) - before == 6  # comments, the writer, then the pull request and three repetitions


def test_a_comment_is_never_created_twice(github: GitHubServer) -> None:
    github.refuse("POST", 502, times=1)
    with pytest.raises(CannotPost, match="502"):
        post_comment(to(github), "first", head=HEAD)
    assert len(github.made("POST")) == 1


def test_no_message_names_the_token(github: GitHubServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "ghs_" + "s3cr3t" * 6
    place = Destination(api_url=github.url, repository=github.repository, number=7, token=secret)
    with pytest.raises(CannotPost, match="401") as caught:
        post_comment(place, "body", head=HEAD)
    closed = Destination(api_url="http://127.0.0.1:9", repository="a/b", number=7, token=secret)
    with pytest.raises(CannotPost, match="ConnectionError") as unreachable:
        post_comment(closed, "body", head=HEAD)
    said = [str(caught.value), caught.value.advice, str(unreachable.value), repr(place), caplog.text]
    assert not any("s3cr3t" in words for words in said)
    assert caught.value.__cause__ is None


def test_an_unknown_pull_request_is_a_reason(github: GitHubServer) -> None:
    with pytest.raises(CannotPost, match="404"):
        post_comment(to(github, 8), "body", head=HEAD)


@pytest.mark.parametrize("size", [MAX_BODY - 200, MAX_BODY, MAX_BODY * 3])
def test_a_body_never_exceeds_what_github_takes(github: GitHubServer, size: int) -> None:
    body = "\n".join(["x" * 99] * (size // 100))
    post_comment(to(github), body, head=HEAD)
    written = github.comments(7)[0].body
    assert len(written) <= MAX_BODY
    assert written.startswith(marker("default", HEAD))
    lines, left = written.splitlines(), body.count("\n") + 2
    if len(body) > MAX_BODY - 100:
        cut = re.fullmatch(r"\((\d+) more lines are in the report\.\)", lines[-1])
        assert cut
        assert len(lines) - 2 + int(cut[1]) == left
    else:
        assert len(lines) == left


@given(st.text(max_size=50), st.integers(0, 3000))
def test_the_limit_holds_for_any_text(line: str, count: int) -> None:
    assert len(within_limit("\n".join([line] * count))) <= MAX_BODY


@pytest.mark.parametrize(("identity", "head"), [("a b", HEAD), ("-->", HEAD), ("", HEAD), ("default", "main"), ("default", "A" * 40)])
def test_a_marker_takes_only_what_cannot_break_it(identity: str, head: str) -> None:
    with pytest.raises(BadRequest):
        marker(identity, head)
    assert marker("default", HEAD)
    assert marker("weights-2", "0" * 64)


def test_outputs_are_fenced_lines_that_no_value_can_leave(tmp_path: Path) -> None:
    path = tmp_path / "out"
    append_outputs(path, {"verdict": "consistent", "report-path": "/tmp/a b/report.json"})
    append_outputs(path, {"findings-count": "3"})
    fences = re.findall(r"^(\S+)<<(modelguard_[0-9a-f]{32})\n(.*)\n\2$", path.read_text(), re.MULTILINE)
    assert [(name, value) for name, _, value in fences] == [
        ("verdict", "consistent"),
        ("report-path", "/tmp/a b/report.json"),
        ("findings-count", "3"),
    ]
    assert len({fence for _, fence, _ in fences}) == 3


@pytest.mark.parametrize("value", ["a\nverdict=consistent", "a\rb", "\u202e", "\x1b[0m"])
def test_an_output_that_is_more_than_a_line_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(BadRequest, match="verdict"):
        append_outputs(tmp_path / "out", {"verdict": value})


@pytest.mark.parametrize("line", ["short", "é" * 500])
def test_a_summary_stays_below_what_github_drops(tmp_path: Path, line: str) -> None:
    path = tmp_path / "summary"
    append_summary(path, "\n".join([line] * 3000))
    data = path.read_bytes()
    assert len(data) < MAX_SUMMARY_BYTES
    assert data.decode().startswith(line + "\n" + line)
    assert ("The rest is in the report" in data.decode()) is (line != "short")


def test_an_annotation_is_one_command() -> None:
    line = annotation("error", "50% of\nx ##[y]::z", title="a:b,c", file="models/a,b.safetensors")
    assert line == r"::error file=models/a%2Cb.safetensors,title=a%3Ab%2Cc::50%25 of\x0ax #\x23\x23[y]::z" or "\n" not in line
    assert line.startswith("::error file=models/a%2Cb.safetensors,title=a%3Ab%2Cc::50%25 of\\x0ax ")
    assert "##[" not in line
    assert annotation("warning", "m", title="t") == "::warning title=t::m"


def said(github: GitHubServer, **more: object) -> Posted:
    api = Api(to(github))
    try:
        return deliver(api, Message(**{"body": "the report", "head": github.pulls[7].head, **more}))  # type: ignore[arg-type]
    finally:
        api.close()


def test_the_previous_verdict_and_its_commit_stay_readable(github: GitHubServer) -> None:
    said(github, verdict=Verdict.INCONSISTENT)
    assert "previous" not in github.comments(7)[0].body
    github.add_pull(7, head=NEWER)
    assert said(github, verdict=Verdict.CONSISTENT).delivery is Delivery.UPDATED
    (comment,) = github.comments(7)
    assert comment.body.endswith("<sub>Updated for cccccccccccc; the previous verdict, on aaaaaaaaaaaa, was ❌ inconsistent.</sub>")
    assert said(github, verdict=Verdict.CONSISTENT).delivery is Delivery.UNCHANGED  # a run that is repeated says nothing new
    github.add_pull(7, head=OLDER)
    said(github, verdict=Verdict.CANNOT_DETERMINE)
    assert comment.body.endswith("on cccccccccccc, was ✅ consistent.</sub>")
    assert (comment.edits, len(github.comments(7))) == (2, 1)


def test_a_run_whose_commit_is_not_the_head_any_more_writes_nothing(github: GitHubServer) -> None:
    assert said(github, head=OLDER).delivery is Delivery.SUPERSEDED
    assert not github.comments(7)


def test_a_comment_that_is_no_longer_wanted_is_one_line(github: GitHubServer) -> None:
    assert said(github, collapsed="no model files changed", create=False).delivery is Delivery.NOT_WANTED
    said(github, verdict=Verdict.INCONSISTENT)
    github.add_pull(7, head=NEWER)
    said(github, collapsed="no model files changed", create=False, verdict=Verdict.CONSISTENT)
    (comment,) = github.comments(7)
    assert "the report" not in comment.body
    assert comment.body.splitlines()[1] == "no model files changed"
    assert "was ❌ inconsistent" in comment.body


def test_each_identity_has_a_comment_of_its_own(github: GitHubServer) -> None:
    for identity in ("chat", "vision", "chat"):
        said(github, identity=identity)
    assert [comment.body.split()[2] for comment in github.comments(7)] == ["id=chat", "id=vision"]


UNSPOKEN = Fault(method="POST", path="/graphql", answer=Answer(403, {"message": "Resource not accessible by integration"}))


@pytest.mark.parametrize("login", [None, "our-app[bot]", "a-robot"])
def test_the_comment_is_found_again_where_graphql_is_closed(login: str | None) -> None:
    """REST tells a person's token whose it is; an App's it does not: then the author is a bot, and never a person."""
    with GitHubServer(login=login) as github:
        github.add_pull(7, head=HEAD)
        github.fail(UNSPOKEN)
        planted = github.add_comment(7, marker("default", HEAD) + "\nplanted by a person")
        assert post_comment(to(github), "one", head=HEAD).delivery is Delivery.CREATED
        assert post_comment(to(github), "two", head=HEAD).delivery is Delivery.UPDATED
        (mine,) = [comment for comment in github.comments(7) if comment is not planted]
        assert (mine.login, planted.edits) == (github.writer, 0)
        assert mine.body.endswith("two")


def test_a_person_whose_token_it_is_never_takes_a_bots_comment_for_theirs() -> None:
    with GitHubServer(login="a-robot") as github:
        github.add_pull(7, head=HEAD)
        github.fail(UNSPOKEN)
        bots = github.add_comment(7, marker("default", HEAD) + "\nan App's", "github-actions[bot]")
        assert post_comment(to(github), "one", head=HEAD).delivery is Delivery.CREATED
        assert bots.edits == 0


def test_an_outage_is_no_answer_to_who_we_are(github: GitHubServer) -> None:
    github.add_comment(7, marker("default", HEAD) + "\nold", github.writer)
    github.refuse("POST", 503, path="/graphql")
    with pytest.raises(CannotPost, match="503"):
        post_comment(to(github), "new", head=HEAD)
    assert len(github.comments(7)) == 1  # a second one would be there to stay


class Named(Api):
    """The calls of a token whose name is told, or not ("")."""

    name = ""

    def login(self) -> str:
        return self.name


@given(name=st.text(max_size=20), kind=st.sampled_from(["User", "Bot", "Organization", None]))
def test_only_bots_may_be_an_app_that_nobody_names(name: str, kind: str | None) -> None:
    api = Named(Destination(api_url="http://127.0.0.1:9", repository="org/models", number=7, token=""))
    for login in (name, f"{name}[bot]", ""):
        assert api.is_ours({"login": login, "type": kind}) is (kind == "Bot" and login.endswith("[bot]"))
    api.name = "an-app"
    assert api.is_ours({"login": "an-app[bot]", "type": kind}) is (kind == "Bot")  # GraphQL may leave the suffix out
    assert api.is_ours({"login": "an-app", "type": kind})
    assert not api.is_ours({"login": f"{name}-x", "type": kind})
    api.close()
