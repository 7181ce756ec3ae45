"""Every event that names two commits is understood; every other one is a bad request, whatever its payload holds."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.activity import Activity, activity
from modelguard.errors import BadRequest

BASE, HEAD, NONE = "b" * 40, "a" * 40, "0" * 40


def pull(number: object = 7, base: object = BASE, head: object = HEAD, repository: str | None = "org/models") -> dict[str, object]:
    head_repository = None if repository is None else {"full_name": repository}
    sides = {"base": {"sha": base, "repo": {"full_name": "org/models"}}, "head": {"sha": head, "repo": head_repository}}
    return {"action": "synchronize", "pull_request": {"number": number, "title": "$(id)", **sides}}


@pytest.mark.parametrize("event", ["pull_request", "pull_request_target"])
@pytest.mark.parametrize(("repository", "fork"), [("org/models", False), ("someone/models", True), (None, True)])
def test_a_pull_request_names_its_commits_and_whether_it_is_a_fork(event: str, repository: str | None, fork: bool) -> None:
    assert activity(event, pull(repository=repository)) == Activity(event=event, base=BASE, head=HEAD, number=7, fork=fork)
    assert activity(event, pull(head="c" * 64)).head == "c" * 64


def test_a_push_goes_from_before_to_after() -> None:
    assert activity("push", {"before": BASE, "after": HEAD, "ref": "refs/heads/x"}) == Activity(event="push", base=BASE, head=HEAD)


def test_a_new_branch_is_held_against_what_it_grew_from() -> None:
    commits = [{"id": "c" * 40}, {"id": HEAD}]
    assert activity("push", {"before": NONE, "after": HEAD, "commits": commits}).base == "c" * 40 + "^"
    assert activity("push", {"before": NONE, "after": HEAD, "commits": []}).idle
    assert activity("push", {"before": BASE, "after": NONE}).idle
    assert not activity("push", {"before": BASE, "after": HEAD}).idle


def test_a_branch_with_more_commits_than_an_event_lists_is_refused() -> None:
    commits = [{"id": HEAD}] * 2048
    with pytest.raises(BadRequest, match="commits") as caught:
        activity("push", {"before": NONE, "after": HEAD, "commits": commits})
    assert "pull_request" in caught.value.advice
    assert activity("push", {"before": NONE, "after": HEAD, "commits": commits[1:]}).base == HEAD + "^"


def test_a_run_by_hand_names_its_commits_as_inputs() -> None:
    asked = activity("workflow_dispatch", {"inputs": {"base": BASE, "head": HEAD}})
    assert asked == Activity(event="workflow_dispatch", base=BASE, head=HEAD)
    for inputs in (None, {}, {"base": BASE}, {"base": BASE, "head": ""}):
        with pytest.raises(BadRequest, match=r"without .*head") as caught:
            activity("workflow_dispatch", {"inputs": inputs})
        assert "inputs `base` and `head`" in caught.value.advice


def test_a_merge_group_is_held_against_what_the_queue_builds_on() -> None:
    group = {"head_sha": HEAD, "head_ref": "refs/heads/gh-readonly-queue/main/pr-7-x", "base_sha": BASE, "base_ref": "refs/heads/main"}
    asked = activity("merge_group", {"action": "checks_requested", "merge_group": group})
    assert asked == Activity(event="merge_group", base=BASE, head=HEAD)
    assert activity("merge_group", {"action": "destroyed", "reason": "merged", "merge_group": group}).idle
    for wrong in ({}, {"head_sha": HEAD}, {"head_sha": "main", "base_sha": BASE}):
        with pytest.raises(BadRequest):
            activity("merge_group", {"merge_group": wrong})


def test_a_schedule_looks_at_everything_on_the_default_branch() -> None:
    asked = activity("schedule", {"schedule": "0 3 * * 1", "repository": {"default_branch": "main"}}, HEAD)
    assert (asked.base, asked.head, asked.whole, asked.number) == (HEAD, HEAD, True, None)
    for wrong in ("", "main", HEAD[:-1]):
        with pytest.raises(BadRequest, match="GITHUB_SHA"):
            activity("schedule", {"schedule": "0 3 * * 1"}, wrong)


def ended(**run: object) -> dict[str, object]:
    """A `workflow_run` event; from a fork, GitHub lists no pull request in it."""
    standing = {"event": "pull_request", "head_sha": HEAD, "head_branch": "topic", "pull_requests": []}
    theirs = {"head_repository": {"full_name": "someone/models"}}
    return {"action": "completed", "repository": {"full_name": "org/models"}, "workflow_run": {**standing, **theirs, **run}}


def listed(number: object = 7, head: str = HEAD) -> dict[str, object]:
    return {"number": number, "head": {"ref": "topic", "sha": head}, "base": {"ref": "main", "sha": BASE}}


def test_the_second_stage_takes_the_pull_request_that_stands_at_the_runs_commit() -> None:
    ours = {"head_repository": {"full_name": "org/models"}}
    asked = activity("workflow_run", ended(pull_requests=[listed(8, NONE), listed()], **ours))
    assert asked == Activity(event="workflow_run", base=BASE, head=HEAD, number=7)
    for pulls in ([], None, [listed(head=NONE)], [listed(7), listed(8)]):
        fork = activity("workflow_run", ended(pull_requests=pulls))
        assert fork == Activity(event="workflow_run", base="", head=HEAD, fork=True, branch="someone:topic")
        assert not fork.idle


@pytest.mark.parametrize(
    "run", [{"event": "push"}, {"head_sha": "main"}, {"head_repository": None}, {"head_branch": None}, {"pull_requests": [listed("7")]}]
)
def test_a_second_stage_that_does_not_say_what_it_is_about_is_refused(run: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        activity("workflow_run", ended(**run))


@pytest.mark.parametrize("event", ["", "issue_comment", "release", "x\n::error::y"])
def test_other_events_are_bad_requests_with_advice(event: str) -> None:
    with pytest.raises(BadRequest, match="names no change") as caught:
        activity(event, pull())
    assert "pull_request" in caught.value.advice
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["main", "--upload-pack=x", HEAD[:-1], HEAD.upper(), HEAD + "\n", "", None, 7, HEAD + "^", [HEAD]])
def test_only_full_commit_ids_are_commits(wrong: object) -> None:
    payloads: Mapping[str, list[Mapping[str, object]]] = {
        "pull_request": [pull(head=wrong), pull(base=wrong)],
        "push": [
            {"before": wrong, "after": HEAD},
            {"before": BASE, "after": wrong},
            {"before": NONE, "after": HEAD, "commits": [{"id": wrong}]},
        ],
        "workflow_dispatch": [{"inputs": {"base": wrong, "head": HEAD}}, {"inputs": {"base": BASE, "head": wrong}}],
    }
    for event, all_of_them in payloads.items():
        for payload in all_of_them:
            with pytest.raises(BadRequest):
                activity(event, payload)


@pytest.mark.parametrize("number", [0, -1, True, "7", None, 7.0])
def test_a_number_is_a_number(number: object) -> None:
    with pytest.raises(BadRequest, match="number"):
        activity("pull_request", pull(number=number))


keys = st.sampled_from(
    [
        "merge_group",
        "workflow_run",
        "base_sha",
        "head_sha",
        "pull_requests",
        "event",
        "pull_request",
        "base",
        "head",
        "sha",
        "repo",
        "number",
        "before",
        "after",
        "commits",
        "inputs",
        "id",
    ]
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from([BASE, HEAD, NONE])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)


@given(
    st.sampled_from(["pull_request", "push", "workflow_dispatch", "merge_group", "workflow_run"]), st.dictionaries(keys, values, max_size=4)
)
def test_any_payload_is_understood_or_refused(event: str, payload: dict[str, object]) -> None:
    try:
        asked = activity(event, payload)
    except BadRequest:
        return
    assert asked.idle or set(asked.base.rstrip("^") + asked.head) <= set("0123456789abcdef")
