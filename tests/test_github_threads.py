"""Review threads: one for each rule and subject, edited while the finding stands, resolved when it is gone, never deleted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from modelguard.github.api import MAX_CALLS, Api, Destination
from modelguard.github.threads import MAX_THREADS, Concern, Threads, key_of, review
from tests.requirement import require
from tests.servers.github import GitHubServer
from tests.servers.github_description import HOW, description, graphql_faults, graphql_schema

HEAD, NEWER = "a" * 40, "c" * 40


def concern(number: int = 0, text: str = "does not fit") -> Concern:
    path = f"models/{number}.safetensors"
    return Concern(key=key_of("weights-base-mismatch", path), path=path, text=text)


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with GitHubServer() as server:
        server.add_pull(7, head=HEAD)
        yield server


def run(github: GitHubServer, *concerns: Concern, identity: str = "default") -> tuple[Threads, Api]:
    api = Api(Destination(api_url=github.url, repository=github.repository, number=7, token=github.token))
    try:
        return review(api, concerns, head=github.pulls[7].head, identity=identity), api
    finally:
        api.close()


def test_a_thread_is_on_the_file_and_is_opened_once(github: GitHubServer) -> None:
    assert run(github, concern())[0] == Threads(opened=1)
    assert run(github, concern())[0] == Threads()
    (thread,) = github.threads(7)
    assert (thread.path, thread.commit, thread.edits) == ("models/0.safetensors", HEAD, 0)
    assert thread.body.endswith("does not fit")
    assert github.made("POST")[0].body == {"body": thread.body, "commit_id": HEAD, "path": thread.path, "subject_type": "file"}


def test_other_numbers_are_an_edit_of_the_same_thread(github: GitHubServer) -> None:
    run(github, concern(text="0.03 of them"))
    github.add_pull(7, head=NEWER)
    assert run(github, concern(text="0.04 of them"))[0] == Threads(edited=1)
    (thread,) = github.threads(7)
    assert thread.body.endswith("0.04 of them")


@pytest.mark.parametrize("may", [True, False])
def test_a_finding_that_is_gone_resolves_its_thread_or_says_so(github: GitHubServer, may: bool) -> None:
    github.may_resolve = may
    run(github, concern(0), concern(1))
    done, _ = run(github, concern(1))
    assert done == Threads(edited=1, resolved=int(may), unresolved=int(not may))
    first, second = github.threads(7)
    assert (first.resolved, second.resolved) == (may, False)
    assert "**Resolved as of aaaaaaaaaaaa**" in first.body
    assert "does not fit" in first.body  # what somebody answered to stays readable
    assert run(github, concern(1))[0] == Threads()
    assert not github.made("DELETE")


def test_a_finding_that_comes_back_opens_its_thread_again(github: GitHubServer) -> None:
    run(github, concern())
    run(github)
    assert run(github, concern())[0] == Threads(edited=1, resolved=1)
    (thread,) = github.threads(7)
    assert not thread.resolved
    assert "Resolved" not in thread.body


def test_at_most_ten_threads_and_thirty_calls(github: GitHubServer) -> None:
    done, api = run(github, *map(concern, range(14)))
    assert done == Threads(opened=MAX_THREADS, left=4)
    assert "4 left" in str(done)
    done, api = run(github, *map(concern, range(100, 114)))  # ten to resolve, ten to open
    assert api.calls <= MAX_CALLS
    assert done.opened + done.edited + done.resolved >= MAX_THREADS
    for _ in range(2):
        run(github, *map(concern, range(100, 114)))
    assert len(github.threads(7)) == 24
    assert [thread.resolved for thread in github.threads(7)] == [True] * 10 + [False] * 14


def test_a_strangers_marker_and_another_identity_are_not_ours(github: GitHubServer) -> None:
    run(github, concern(), identity="other")
    planted = github.add_comment(7, f"<!-- modelguard:finding id=default key={concern().key} -->\nall is well", "someone", "m", HEAD)
    assert run(github, concern())[0] == Threads(opened=1)
    assert run(github)[0].resolved == 1
    assert planted.body.endswith("all is well")
    assert len(github.threads(7)) == 3
    assert [thread.resolved for thread in github.threads(7)] == [False, False, True]


def test_a_file_that_the_pull_request_does_not_change_is_skipped(github: GitHubServer) -> None:
    github.pulls[7].files = ("models/1.safetensors",)
    assert run(github, concern(0), concern(1))[0] == Threads(opened=1, left=1)


def test_requests_and_answers_are_held_against_githubs_own_descriptions() -> None:
    found = description()
    require("openapi", found and graphql_schema(), HOW)
    assert found is not None
    place, good = "/repos/org/models/pulls/7/comments", {"body": "b", "commit_id": HEAD, "path": "m", "subject_type": "file"}
    assert not list(found.request_faults("POST", place, {}, good))
    assert list(found.request_faults("POST", place, {}, {**good, "subject_type": "binary"}))
    assert list(found.request_faults("POST", place, {}, {"body": "b"}))
    assert list(found.request_faults("POST", place, {}, {**good, "subjectType": "file"}))
    assert list(found.request_faults("GET", place, {"perpage": "100"}, None))
    assert list(found.request_faults("PUT", place, {}, good))
    assert list(found.answer_faults("POST", place, 201, {"id": 1}))
    assert list(found.answer_faults("POST", place, 200, good))
    assert not list(graphql_faults("{ viewer { login } }"))
    assert list(graphql_faults("{ viewer { logon } }"))
