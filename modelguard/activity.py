"""Which two commits an event of GitHub asks about. All branching on events stands here, in one pure function."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from modelguard.errors import BadRequest

Payload = Mapping[str, object]
MAX_COMMITS = 2048  # a push event lists no more, and does not say that it leaves some out
OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """The commits to hold against each other, and the pull request to answer on (None: there is none).

    `base` is "" when the event leaves nothing to look at (a deleted branch, a new branch without new commits). `whole` asks for every
    model of `head`, not for a change: `base` is then `head`. `branch` (owner:name) is set where the event does not say which pull
    request it belongs to: the one that GitHub lists for that branch, if it stands at `head`.
    """

    event: str
    base: str
    head: str
    number: int | None = None
    fork: bool = False
    whole: bool = False
    branch: str = ""

    @property
    def in_base_context(self) -> bool:
        """Whether the job runs with the base repository's permissions and secrets on what a stranger wrote."""
        return self.event in ("pull_request_target", "workflow_run")

    @property
    def idle(self) -> bool:
        return not self.base and not self.branch


def activity(event_name: str, payload: Payload, sha: str = "") -> Activity:
    """What an event asks for. Raises BadRequest for events that name no two commits, with what to trigger on instead.

    `sha` is the commit of the default branch that GitHub runs a `schedule` on: its payload names none.
    """
    if event_name == "schedule":
        commit = _object_id(sha, event_name, "GITHUB_SHA")
        return Activity(event=event_name, base=commit, head=commit, whole=True)
    read = _READERS.get(event_name)
    if read is None:
        raise BadRequest(
            f"the event {event_name!a} names no change to audit",
            advice=f"trigger the workflow on one of {', '.join((*_READERS, 'schedule'))}",
        )
    return read(event_name, payload)


def _pull_request(event: str, payload: Payload) -> Activity:
    pull = _object(payload, "pull_request", event)
    base, head = _object(pull, "base", event), _object(pull, "head", event)
    number = _number(pull.get("number"), event, "pull_request.number")
    return Activity(event=event, base=_sha(base, event), head=_sha(head, event), number=number, fork=_name(head) != _name(base))


def _merge_group(event: str, payload: Payload) -> Activity:
    """A queue's group of pull requests, merged on a branch of its own. There is no single pull request to answer on."""
    if payload.get("action") == "destroyed":
        return Activity(event=event, base="", head="")
    group = _object(payload, "merge_group", event)
    return Activity(
        event=event, base=_object_id(group.get("base_sha"), event, "base_sha"), head=_object_id(group.get("head_sha"), event, "head_sha")
    )


def _workflow_run(event: str, payload: Payload) -> Activity:
    """The second stage: of the first one only the event is believed. Forks' pull requests are not listed in it, and are looked up."""
    run = _object(payload, "workflow_run", event)
    if run.get("event") not in ("pull_request", "pull_request_target"):
        raise BadRequest(f"{event}: the run that ended was not one of a pull request", advice="start it with `on: pull_request`")
    head = _object_id(run.get("head_sha"), event, "head_sha")
    ours, theirs = _name({"repo": payload.get("repository")}), _name({"repo": run.get("head_repository")})
    listed = run.get("pull_requests")
    pulls = [pull for pull in listed if isinstance(pull, dict)] if isinstance(listed, list) else []
    standing = [pull for pull in pulls if _object(pull, "head", event).get("sha") == head]
    if len(standing) == 1:
        number = _number(standing[0].get("number"), event, "pull_requests.number")
        base = _sha(_object(standing[0], "base", event), event)
        return Activity(event=event, base=base, head=head, number=number, fork=ours != theirs)
    branch = run.get("head_branch")
    owner = theirs.partition("/")[0] if isinstance(theirs, str) else ""
    if not owner or not isinstance(branch, str) or not branch:
        raise _incomplete(event, "head_branch")
    return Activity(event=event, base="", head=head, fork=ours != theirs, branch=f"{owner}:{branch}")


def _push(event: str, payload: Payload) -> Activity:
    before, after = _object_id(payload.get("before"), event, "before"), _object_id(payload.get("after"), event, "after")
    if not after.strip("0"):
        return Activity(event=event, base="", head="")
    return Activity(event=event, base=before if before.strip("0") else _parent_of_first(event, payload), head=after)


def _parent_of_first(event: str, payload: Payload) -> str:
    """What a new branch grew from: the parent of the first commit that the push brought; nothing when it brought none."""
    commits = payload.get("commits")
    if not isinstance(commits, list):
        raise _incomplete(event, "commits")
    if not commits:
        return ""
    if len(commits) >= MAX_COMMITS:
        reason = f"{event}: a new branch with {MAX_COMMITS} commits or more, of which the event does not list all"
        raise BadRequest(reason, advice="open a pull request and trigger on pull_request")
    first = commits[0].get("id") if isinstance(commits[0], dict) else None
    return f"{_object_id(first, event, 'commits[0].id')}^"


def _dispatch(event: str, payload: Payload) -> Activity:
    """Somebody asked by hand and named the commits as inputs of their workflow."""
    inputs = payload.get("inputs")
    named = inputs if isinstance(inputs, dict) else {}
    missing = [name for name in ("base", "head") if not named.get(name)]
    if missing:
        advice = "give the workflow the inputs `base` and `head` (full commit ids)"
        raise BadRequest(f"{event}: the workflow was started without {' and '.join(missing)}", advice=advice)
    return Activity(event=event, base=_object_id(named["base"], event, "base"), head=_object_id(named["head"], event, "head"))


_READERS: Mapping[str, Callable[[str, Payload], Activity]] = {
    "pull_request": _pull_request,
    "pull_request_target": _pull_request,
    "merge_group": _merge_group,
    "push": _push,
    "workflow_dispatch": _dispatch,
    "workflow_run": _workflow_run,
}


def _object(payload: Payload, key: str, event: str) -> Payload:
    value = payload.get(key)
    if not isinstance(value, dict):
        raise _incomplete(event, key)
    return value


def _sha(side: Payload, event: str) -> str:
    return _object_id(side.get("sha"), event, "sha")


def _object_id(value: object, event: str, key: str) -> str:
    """A full object id: a branch's name would be read anew by git, and may be anything."""
    if not isinstance(value, str) or OBJECT_ID.fullmatch(value) is None:
        raise BadRequest(f"{event}: {key} is no full commit id", advice="give 40 (SHA-1) or 64 (SHA-256) lower-case hex digits")
    return value


def _number(value: object, event: str, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _incomplete(event, key)
    return value


def _name(side: Payload) -> object:
    """The repository of one side; a fork that was deleted has none."""
    repository = side.get("repo")
    return repository.get("full_name") if isinstance(repository, dict) else None


def _incomplete(event: str, key: str) -> BadRequest:
    return BadRequest(
        f"the payload of the event {event} has no usable {key}", advice="check that GITHUB_EVENT_PATH is the event's own file"
    )
