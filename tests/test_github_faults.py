"""What goes wrong with GitHub: forty scripted faults by id, each with the state that they must end in and the line that is said.

A run posts the sticky comment and brings one review thread up to date. Whatever happens, there is at most one comment and one thread of
ours, nothing is written twice, a refusal is one line that says what to do, and at most thirty calls are made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from modelguard.errors import CannotPost
from modelguard.github.api import MAX_CALLS, Api, Destination, Meaning, meaning_of
from modelguard.github.comment import Message, deliver, marker
from modelguard.github.threads import Concern, review
from tests.servers.github import Answer, Fault, GitHubServer

HEAD, NEWER, OLDER = "a" * 40, "c" * 40, "d" * 40
PATH = "models/m.safetensors"
CONCERN = Concern(key="0123456789abcdef", path=PATH, text="the weights do not support the declared base")
COMMENTS, WRITTEN, PULL, QUERY = "/issues/7/comments", "/issues/comments/", "/pulls/7", "/graphql"
REVIEWED, THREAD = "/pulls/7/comments", "/pulls/comments/"


def answer(status: int, message: str, **headers: str) -> Answer:
    return Answer(status, {"message": message}, {name.replace("_", "-"): value for name, value in headers.items()})


def soon() -> str:
    return str(int(time.time()))


NO = "Resource not accessible by integration"
BURST = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
HOURLY = "API rate limit exceeded for installation ID 1."


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scripted fault. `says` is what the one line holds ("" where all ends well), `body` what the comment says in the end."""

    id: str
    faults: Callable[[], tuple[Fault, ...]]
    says: str = ""
    standing: bool = False  # whether a comment and a thread of an earlier run are there
    comments: int = 1
    threads: int = 1
    body: str = "new"
    writes: int = 1  # how often the comment was written


def once(method: str, path: str, given: Answer, times: int = 1) -> Callable[[], tuple[Fault, ...]]:
    return lambda: (Fault(method=method, path=path, answer=given, times=times),)


def always(method: str, path: str, given: Answer) -> Callable[[], tuple[Fault, ...]]:
    return once(method, path, given, 1 << 30)


def gone(github: GitHubServer) -> None:
    """Somebody deletes our comment."""
    github.everything = [comment for comment in github.everything if comment.path or comment.login != github.writer]


def first_gone(github: GitHubServer) -> None:
    """Somebody deletes the first comment while the list is read: every later one moves up by one."""
    github.everything.pop(0)


def pushed(github: GitHubServer) -> None:
    github.add_pull(7, head=NEWER)


def nothing(says: str, case: str, faults: Callable[[], tuple[Fault, ...]]) -> Case:
    """A fault that leaves nothing written."""
    return Case(id=case, faults=faults, says=says, comments=0, threads=0, body="", writes=0)


def kept(says: str, case: str, faults: Callable[[], tuple[Fault, ...]], writes: int = 0) -> Case:
    """A fault that leaves an earlier comment as it was."""
    return Case(id=case, faults=faults, says=says, standing=True, body="old", writes=writes)


CASES = (
    # 403, no permission: a fork's token, a personal token, single sign-on, an address that is not allowed, a closed conversation
    Case(
        id="403-create-no-permission", faults=always("POST", COMMENTS, answer(403, NO)), says="pull-requests: write", comments=0, threads=0
    ),
    kept("pull-requests: write", "403-edit-no-permission", always("PATCH", WRITTEN, answer(403, NO)), 1),
    nothing("pull-requests: write", "403-list-no-permission", always("GET", COMMENTS, answer(403, NO))),
    nothing("pull-requests: write", "403-pull-no-permission", always("GET", PULL, answer(403, NO))),
    nothing("permissions", "403-personal-token", always("GET", COMMENTS, answer(403, "Resource not accessible by personal access token"))),
    nothing("permissions", "403-single-sign-on", always("GET", "", answer(403, "Resource protected by organization SAML enforcement."))),
    nothing("permissions", "403-allowed-addresses", always("GET", "", answer(403, "the org has an IP allow list enabled"))),
    Case(
        id="403-locked",
        faults=always("POST", COMMENTS, answer(403, "Unable to create comment because issue is locked.")),
        says="closed",
        comments=0,
        threads=0,
    ),
    Case(
        id="403-archived",
        faults=always("POST", "", answer(403, "Repository was archived so is read-only.")),
        says="closed",
        comments=0,
        threads=0,
    ),
    # 403, the hourly limit
    nothing(
        "HTTP 403, in", "403-hourly-far", always("GET", "", answer(403, HOURLY, x_ratelimit_remaining="0", x_ratelimit_reset="99999999999"))
    ),
    Case(
        id="403-hourly-soon",
        faults=lambda: once("GET", COMMENTS, answer(403, HOURLY, x_ratelimit_remaining="0", x_ratelimit_reset=soon()))(),
    ),
    nothing("HTTP 403, in 60 s", "403-hourly-no-header", always("GET", COMMENTS, answer(403, HOURLY))),
    # 403, the limit on bursts
    Case(id="403-burst-create", faults=once("POST", COMMENTS, answer(403, BURST, retry_after="1")), writes=2),
    Case(id="403-burst-edit", faults=once("PATCH", WRITTEN, answer(403, BURST, retry_after="1")), standing=True, writes=2),
    nothing("HTTP 403, in 3600 s", "403-burst-long", always("GET", COMMENTS, answer(403, BURST, retry_after="3600"))),
    nothing("HTTP 403, in 60 s", "403-abuse", always("GET", COMMENTS, answer(403, "You have triggered an abuse detection mechanism."))),
    # 429
    Case(id="429-list-soon", faults=once("GET", COMMENTS, answer(429, BURST, retry_after="0"))),
    Case(id="429-create-soon", faults=once("POST", COMMENTS, answer(429, BURST, retry_after="0")), writes=2),
    nothing("HTTP 429, in 60 s", "429-without-headers", always("GET", COMMENTS, answer(429, "Too many requests"))),
    nothing("HTTP 429, in 60 s", "429-header-of-nonsense", always("GET", COMMENTS, answer(429, "Too many", retry_after="soon"))),
    nothing("HTTP 429", "429-always", always("GET", COMMENTS, answer(429, "Too many", retry_after="0"))),
    # what makes no sense to GitHub, or is not there
    Case(id="422-create", faults=always("POST", COMMENTS, answer(422, "Validation Failed")), says="report it", comments=0, threads=0),
    kept("report it", "422-edit", always("PATCH", WRITTEN, answer(422, "Validation Failed")), 1),
    Case(id="422-thread-not-in-diff", faults=always("POST", REVIEWED, answer(422, "pull_request_review_thread.path")), threads=0),
    nothing("not valid", "401-token", always("GET", "", answer(401, "Bad credentials"))),
    nothing("cannot see", "404-pull", always("GET", PULL, answer(404, "Not Found"))),
    nothing("closed", "410-gone", always("GET", COMMENTS, answer(410, "Issues has been disabled in this repository."))),
    # 5xx
    Case(id="500-list-once", faults=once("GET", COMMENTS, answer(500, "Server Error"))),
    Case(id="502-edit-once", faults=once("PATCH", WRITTEN, answer(502, "Server Error")), standing=True, writes=2),
    nothing("unwell", "503-list-always", always("GET", COMMENTS, answer(503, "Service Unavailable"))),
    Case(
        id="502-create-lost", faults=lambda: (Fault(method="POST", path=COMMENTS, answer=answer(502, "Server Error"), done=True, times=1),)
    ),
    Case(id="502-create-not-done", faults=once("POST", COMMENTS, answer(502, "Server Error")), says="unwell", comments=0, threads=0),
    # connections and answers
    Case(id="reset-list-once", faults=lambda: (Fault(method="GET", path=COMMENTS, times=1),)),
    Case(id="reset-create-lost", faults=lambda: (Fault(method="POST", path=COMMENTS, done=True, times=1),)),
    nothing("unwell", "timeout-list", lambda: (Fault(method="GET", path=COMMENTS, stall=2.5),)),
    nothing("not one of GitHub's", "answer-of-html", lambda: (Fault(method="GET", path=COMMENTS, raw=b"<html>a proxy</html>"),)),
    nothing("not one of GitHub's", "answer-cut-off", lambda: (Fault(method="GET", path=COMMENTS, raw=b'[{"id": 1, "bo'),)),
    # the world changes meanwhile
    Case(
        id="deleted-before-edit",
        faults=lambda: (Fault(method="PATCH", path=WRITTEN, before=gone, goes_on=True, times=1),),
        standing=True,
        writes=2,
    ),
    Case(
        id="pushed-meanwhile",
        faults=lambda: (Fault(method="GET", path=PULL, before=pushed, goes_on=True, times=1),),
        comments=0,
        threads=0,
        body="",
        writes=0,
    ),
    Case(id="query-refused", faults=lambda: (Fault(method="POST", path=QUERY, answer=answer(403, NO)),), standing=True),
)


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        server.add_pull(7, head=HEAD)
        yield server


def run(github: GitHubServer, patience: float = 3.0) -> tuple[str, Api]:
    """The line that is said ("" for none), and the calls."""
    api = Api(Destination(api_url=github.url, repository=github.repository, number=7, token=github.token, patience=patience, timeout=1))
    try:
        posted = deliver(api, Message(body="new", head=HEAD))
        if posted.delivery != "superseded":
            review(api, [CONCERN], head=HEAD)
    except CannotPost as error:
        return f"{error}: {error.advice}", api
    finally:
        api.close()
    return "", api


def earlier(github: GitHubServer) -> None:
    """What an earlier run left."""
    github.add_comment(7, marker("default", OLDER) + "\nold", github.writer)
    github.add_comment(7, f"<!-- modelguard:finding id=default key={CONCERN.key} -->\nold", github.writer, PATH, OLDER)


def test_there_are_forty_of_them() -> None:
    assert len({case.id for case in CASES}) == len(CASES) == 40


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_fault_ends_in_the_right_state_or_in_one_line(github: GitHubServer, case: Case) -> None:
    github.add_comment(7, "chatter")
    if case.standing:
        earlier(github)
    github.fail(*case.faults())
    said, api = run(github)
    ours = [comment for comment in github.comments(7) if comment.login == github.writer]
    assert bool(said) is bool(case.says), said
    assert case.says in said
    assert "\n" not in said
    assert len(ours) == case.comments
    assert all(comment.body.endswith(case.body) for comment in ours)
    assert len(github.threads(7)) == case.threads
    written = [request for request in github.requests if request.method in ("POST", "PATCH") and "/issues/" in request.path]
    assert case.says or len(written) == case.writes
    assert api.calls == len(github.requests) <= MAX_CALLS


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.id in ("502-create-lost", "429-always", "pushed-meanwhile")], ids=lambda case: case.id
)
def test_the_next_run_makes_it_good(github: GitHubServer, case: Case) -> None:
    github.fail(*case.faults())
    run(github)
    github.allow()
    github.add_pull(7, head=HEAD)
    said, _ = run(github)
    assert said == ""
    assert len(github.comments(7)) == len(github.threads(7)) == 1


def test_a_list_that_loses_an_item_between_two_pages_is_read_again() -> None:
    with GitHubServer(page=5) as github:
        github.add_pull(7, head=HEAD)
        for index in range(5):
            github.add_comment(7, f"chatter {index}")
        earlier(github)
        pages = iter((lambda _: None, first_gone))
        github.fail(Fault(method="GET", path=COMMENTS, before=lambda server: next(pages)(server), goes_on=True, times=2))
        assert run(github)[0] == ""
        assert len([comment for comment in github.comments(7) if comment.login == github.writer]) == 1


def test_a_conversation_without_end_is_not_read_to_its_end() -> None:
    with GitHubServer(page=1) as github:
        github.add_pull(7, head=HEAD)
        for index in range(40):
            github.add_comment(7, f"chatter {index}")
        said, api = run(github)
        assert "pages" in said
        assert api.calls <= MAX_CALLS
        assert not github.made("POST")


def test_a_refusal_means_what_its_headers_and_words_say() -> None:
    assert meaning_of(403, {}, NO) is Meaning.PERMISSION
    assert meaning_of(403, {"x-ratelimit-remaining": "4999"}, NO) is Meaning.PERMISSION
    assert meaning_of(403, {"x-ratelimit-remaining": "0"}, "") is Meaning.LIMIT
    assert meaning_of(403, {"retry-after": "5"}, "") is Meaning.LIMIT
    assert meaning_of(403, {}, BURST) is Meaning.LIMIT
    assert meaning_of(429, {}, "") is Meaning.LIMIT
    assert meaning_of(418, {}, "") is Meaning.UNWELL
