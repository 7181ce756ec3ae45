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

    `base` is "" when the event leaves nothing to look at (a deleted branch, a new branch without new commits).
    """

    event: str
    base: str
    head: str
    number: int | None = None
    fork: bool = False

    @property
    def idle(self) -> bool:
        return not self.base


def activity(event_name: str, payload: Payload) -> Activity:
    """What an event asks for. Raises BadRequest for events that name no two commits, with what to trigger on instead."""
    read = _READERS.get(event_name)
    if read is None:
        raise BadRequest(
            f"the event {event_name!a} names no change to audit", advice=f"trigger the workflow on one of {', '.join(_READERS)}"
        )
    return read(event_name, payload)


def _pull_request(event: str, payload: Payload) -> Activity:
    pull = _object(payload, "pull_request", event)
    base, head = _object(pull, "base", event), _object(pull, "head", event)
    number = pull.get("number")
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise _incomplete(event, "pull_request.number")
    return Activity(event=event, base=_sha(base, event), head=_sha(head, event), number=number, fork=_name(head) != _name(base))


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
    "push": _push,
    "workflow_dispatch": _dispatch,
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


def _name(side: Payload) -> object:
    """The repository of one side; a fork that was deleted has none."""
    repository = side.get("repo")
    return repository.get("full_name") if isinstance(repository, dict) else None


def _incomplete(event: str, key: str) -> BadRequest:
    return BadRequest(
        f"the payload of the event {event} has no usable {key}", advice="check that GITHUB_EVENT_PATH is the event's own file"
    )
