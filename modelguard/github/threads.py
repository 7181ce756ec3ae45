"""File-level review threads on blocking findings: they can be answered, and a branch rule can ask that they are resolved.

A thread belongs to a rule and a subject, whose hash stands in its marker. It is edited while the finding stands, edited and resolved
when it is gone, and never deleted: somebody may have answered. Model files are binary, so a thread is on the file, not on a line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from modelguard.github.api import MAX_PAGES, Api, Json, Meaning, Refused
from modelguard.github.bodies import normal, own_item, within_limit

MAX_THREADS = 10
RESERVED_CALLS = 4  # for resolving, and for what else a run has to say
_MARKER = re.compile(r"<!-- modelguard:finding id=([a-z0-9-]{1,64}) key=([0-9a-f]{16})( resolved)? -->")
THREADS = """query Threads($owner: String!, $name: String!, $number: Int!, $after: String) {
  repository(owner: $owner, name: $name) { pullRequest(number: $number) { reviewThreads(first: 100, after: $after) {
    pageInfo { hasNextPage endCursor }
    nodes { id isResolved viewerCanResolve viewerCanUnresolve comments(first: 1) { nodes { databaseId } } }
  } } }
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """What a thread says, and on which file. Concerns of one `key` share a thread."""

    key: str
    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Threads:
    """What was done to the threads; `left` counts what was not, and `unresolved` those that only their text calls resolved."""

    opened: int = 0
    edited: int = 0
    resolved: int = 0
    unresolved: int = 0
    left: int = 0

    def __str__(self) -> str:
        told = ((self.opened, "opened"), (self.edited, "edited"), (self.resolved, "resolved"))
        rest = ((self.unresolved, "to resolve by hand"), (self.left, "left to the next run, or on no file of the pull request"))
        return ", ".join(f"{count} {word}" for count, word in (*told, *rest) if count) or "nothing to do"


@dataclass(frozen=True, slots=True)
class _Own:
    id: int
    key: str
    body: str
    resolved: bool


def key_of(rule: str, subject: str) -> str:
    """Names the thread of a rule on a subject, whatever the numbers in its text are."""
    return hashlib.sha256(f"{rule}\0{subject}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def review(api: Api, concerns: Sequence[Concern], *, head: str, identity: str = "default") -> Threads:
    """Brings the threads of a pull request up to date with what blocks it. Raises CannotPost."""
    api.begin(f"the review threads on #{api.to.number} were not brought up to date")
    wanted = {concern.key: concern for concern in concerns}
    mine = _own_threads(api, identity)
    standing = {own.key: own for own in mine}
    gone = [own for own in mine if own.key not in wanted and not own.resolved]
    again = [own for own in mine if own.key in wanted and own.resolved]
    edited, left = _edit(api, [(own, _live(wanted[own.key], identity)) for own in mine if own.key in wanted])
    told, late = _edit(api, [(own, _gone(own, head)) for own in gone])
    opened, refused = _open(api, [concern for key, concern in wanted.items() if key not in standing], head, identity)
    turned = _turn(api, {own.id: True for own in gone} | {own.id: False for own in again})
    return Threads(
        opened=opened, edited=edited + told, resolved=turned, unresolved=len(gone) + len(again) - turned, left=left + late + refused
    )


def _own_threads(api: Api, identity: str) -> list[_Own]:
    found: dict[str, _Own] = {}
    for item in api.pages(f"/pulls/{api.to.number}/comments"):
        own = own_item(item, api.is_ours, lambda body: (match := _MARKER.match(body)) is not None and match[1] == identity)
        match = _MARKER.match(own[2]) if own and not item.get("in_reply_to_id") else None
        if own and match:
            found.setdefault(match[2], _Own(own[0], match[2], own[2], bool(match[3])))
    return list(found.values())


def _edit(api: Api, changes: Sequence[tuple[_Own, str]]) -> tuple[int, int]:
    """(edited, left) over the threads whose text is not what it should be."""
    done = left = 0
    for own, text in changes:
        if normal(own.body) == normal(text):
            continue
        if api.left <= RESERVED_CALLS:
            left += 1
            continue
        try:
            api.update(f"/pulls/comments/{own.id}", {"body": text})
        except Refused as refused:
            if refused.meaning is not Meaning.NOT_FOUND:  # somebody deleted it meanwhile
                raise
            continue
        done += 1
    return done, left


def _open(api: Api, concerns: Sequence[Concern], head: str, identity: str) -> tuple[int, int]:
    """(opened, left) over the findings without a thread. A file that is not part of the pull request's changes is refused, and skipped."""
    done = 0
    for concern in concerns[:MAX_THREADS]:
        if api.left <= RESERVED_CALLS:
            break
        body = {"body": _live(concern, identity), "commit_id": head, "path": concern.path, "subject_type": "file"}
        try:
            api.create(f"/pulls/{api.to.number}/comments", body)
        except Refused as refused:
            if refused.meaning is not Meaning.INVALID:
                raise
            continue
        done += 1
    return done, len(concerns) - done


def _turn(api: Api, wanted: dict[int, bool]) -> int:
    """Resolves threads (true) or opens them again (false), all in one mutation; 0 where the token may not: their text says it already."""
    if not wanted:
        return 0
    try:
        threads = _threads(api, wanted)
        if not threads:
            return 0
        names = [f"{'resolve' if resolve else 'unresolve'}ReviewThread" for _, resolve in threads]
        declared = ", ".join(f"$t{place}: ID!" for place in range(len(threads)))
        calls = " ".join(f"r{place}: {name}(input: {{threadId: $t{place}}}) {{ thread {{ id }} }}" for place, name in enumerate(names))
        api.graphql(f"mutation Turn({declared}) {{ {calls} }}", {f"t{place}": node for place, (node, _) in enumerate(threads)})
    except Refused:
        return 0
    return len(threads)


def _threads(api: Api, wanted: dict[int, bool]) -> list[tuple[str, bool]]:
    """(thread, whether to resolve it) for those comments' threads that the token may turn and that are not as wanted already."""
    owner, _, name = api.to.repository.partition("/")
    after: object = None
    found: list[tuple[str, bool]] = []
    for _ in range(MAX_PAGES):
        data = api.graphql(THREADS, {"owner": owner, "name": name, "number": api.to.number, "after": after})
        listed = _inside(data, "repository", "pullRequest", "reviewThreads")
        nodes = listed.get("nodes")
        for node in nodes if isinstance(nodes, list) else ():
            comments = _inside(node, "comments").get("nodes")
            first = comments[0].get("databaseId") if isinstance(comments, list) and comments and isinstance(comments[0], dict) else None
            if first in wanted and node.get("isResolved") is not wanted[first]:
                may = node.get("viewerCanResolve" if wanted[first] else "viewerCanUnresolve")
                found += [(str(node.get("id")), wanted[first])] if may else []
        page = _inside(listed, "pageInfo")
        if not page.get("hasNextPage"):
            break
        after = page.get("endCursor")
    return found


def _inside(data: object, *names: str) -> Json:
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _live(concern: Concern, identity: str) -> str:
    return within_limit(f"<!-- modelguard:finding id={identity} key={concern.key} -->\n{concern.text}")


def _gone(own: _Own, head: str) -> str:
    """The text struck out of force: what it said stays readable, for those who answered."""
    match = _MARKER.match(own.body)
    rest = own.body[match.end() :].strip() if match else own.body
    first = f"<!-- modelguard:finding id={match[1] if match else 'default'} key={own.key} resolved -->"
    note = f"**Resolved as of {head[:12]}**: this finding does not come up any more."
    return within_limit(f"{first}\n{note}\n\n<details><summary>What it said</summary>\n\n{rest}\n\n</details>")
