"""The sticky comment: one for each identity, found by marker and author, edited in place, written only while its commit is the head."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from modelguard.errors import BadRequest
from modelguard.github.api import Api, Destination, Meaning, Refused
from modelguard.github.bodies import MAX_BODY, normal, own_item, within_limit
from modelguard.types.findings import Verdict

BODY_LIMIT = MAX_BODY - 512  # what is left beside the marker and the line on the previous verdict
WORDS = {"consistent": "✅ consistent", "inconsistent": "❌ inconsistent", "cannot-determine": "❔ cannot determine"}
_IDENTITY = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_COMMIT = "[0-9a-f]{40,64}"
_VERDICT = "|".join(WORDS)
_MARKER = re.compile(
    rf"<!-- modelguard:comment id=([a-z0-9-]{{1,64}}) head=({_COMMIT})(?: verdict=({_VERDICT}))?(?: was=({_VERDICT})@({_COMMIT}))? -->"
)


class Delivery(StrEnum):
    """What became of the comment."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"  # the pull request stands at another commit by now: its own run reports on it
    NOT_WANTED = "not-wanted"  # there is none, and none was to be created


@dataclass(frozen=True, slots=True)
class Posted:
    """A comment's address ("" when there is none) and what was done to it."""

    url: str
    delivery: Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What to say, and on which commit. `collapsed` is said instead of `body` where a comment stands that is no longer wanted."""

    body: str
    head: str
    identity: str = "default"
    verdict: Verdict | None = None
    create: bool = True
    collapsed: str = ""


@dataclass(frozen=True, slots=True)
class _Own:
    """A comment of ours, as it stands there."""

    id: int
    url: str
    body: str


def marker(identity: str, head: str, verdict: Verdict | None = None, was: str = "") -> str:
    """The invisible first line by which a later run finds its comment again, with its commit and verdict, and those before (`was`)."""
    line = f"<!-- modelguard:comment id={identity} head={head}{f' verdict={verdict}' if verdict else ''}{f' was={was}' if was else ''} -->"
    if _IDENTITY.fullmatch(identity) is None or _MARKER.fullmatch(line) is None:
        raise BadRequest(
            "a comment's identity is lower-case letters, digits and hyphens, its head a full commit id", advice="check the input id"
        )
    return line


def post_comment(to: Destination, body: str, *, head: str, identity: str = "default", create: bool = True) -> Posted:
    """Creates the comment or edits it in place; an equal one is left alone. Raises CannotPost."""
    api = Api(to)
    try:
        return deliver(api, Message(body=body, head=head, identity=identity, create=create))
    finally:
        api.close()


def deliver(api: Api, message: Message) -> Posted:
    """As `post_comment`, with the calls of a run that does more than that."""
    api.begin(f"the comment on #{api.to.number} was not posted")
    marker(message.identity, message.head)
    mine = _own_comment(api, message.identity)
    if api.live_head() != message.head:
        return Posted(mine.url if mine else "", Delivery.SUPERSEDED)
    if mine is None:
        return _create(api, message) if message.create else Posted("", Delivery.NOT_WANTED)
    return _edit(api, mine, message)


def _create(api: Api, message: Message) -> Posted:
    """A new comment. Where the answer got lost, the comment is looked for, not written again."""
    text = within_limit(f"{marker(message.identity, message.head, message.verdict)}\n{message.body}")
    try:
        made = api.create(f"/issues/{api.to.number}/comments", {"body": text})
    except Refused as refused:
        mine = _own_comment(api, message.identity) if refused.lost else None
        if mine is None:
            raise
        return Posted(mine.url, Delivery.CREATED)
    return Posted(str(made.get("html_url", "")), Delivery.CREATED)


def _edit(api: Api, mine: _Own, message: Message) -> Posted:
    """The comment brought up to date. One that was deleted meanwhile is written anew."""
    text = _text(mine.body, message)
    if normal(mine.body) == normal(text):
        return Posted(mine.url, Delivery.UNCHANGED)
    try:
        api.update(f"/issues/comments/{mine.id}", {"body": text})
    except Refused as refused:
        if refused.meaning is not Meaning.NOT_FOUND:
            raise
        return _create(api, message)
    return Posted(mine.url, Delivery.UPDATED)


def _text(before: str, message: Message) -> str:
    """The new body; below it, what the comment said of the commit before, which those who linked to it look for."""
    found = _MARKER.match(before)
    was = ""
    if found:
        same, told = found[2] == message.head, found[3]
        was = (f"{found[4]}@{found[5]}" if found[4] else "") if same else (f"{told}@{found[2]}" if told else "")
    lines = [marker(message.identity, message.head, message.verdict, was), message.collapsed or message.body]
    verdict, _, commit = was.partition("@")
    if was:
        lines.append(f"\n<sub>Updated for {message.head[:12]}; the previous verdict, on {commit[:12]}, was {WORDS[verdict]}.</sub>")
    return within_limit("\n".join(lines))


def _own_comment(api: Api, identity: str) -> _Own | None:
    """The first comment that carries the marker and was written by us: anyone can write a marker, nobody else as us.

    A list of several pages may lose an item between two of them while somebody deletes one: it is read twice before ours counts as absent.
    """
    for _ in range(2):
        before = api.calls
        for comment in api.pages(f"/issues/{api.to.number}/comments"):
            own = own_item(comment, api.is_ours, lambda body: (match := _MARKER.match(body)) is not None and match[1] == identity)
            if own is not None:
                return _Own(*own)
        if api.calls - before == 1:
            break
    return None
