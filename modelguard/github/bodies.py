"""Bodies of comments as GitHub takes them and gives them back."""

from __future__ import annotations

from collections.abc import Callable

from modelguard.github.api import Json

MAX_BODY = 65_536  # characters; GitHub refuses longer ones


def within_limit(text: str) -> str:
    """The text, or its first whole lines with a count of those left out: the last resort behind the renderer's own limit."""
    if len(text) <= MAX_BODY:
        return text
    kept = text[: MAX_BODY - 100].rpartition("\n")[0]
    return f"{kept}\n\n({text.count(chr(10)) - kept.count(chr(10))} more lines are in the report.)"


def own_item(item: Json, author: Callable[[Json], bool], ours: Callable[[str], bool]) -> tuple[int, str, str] | None:
    """(id, address, body) of a comment that says it is ours and was written by us."""
    user, body, identifier = item.get("user"), item.get("body"), item.get("id")
    if not (isinstance(user, dict) and isinstance(body, str) and isinstance(identifier, int) and ours(body)):
        return None
    return (identifier, str(item.get("html_url", "")), body) if author(user) else None


def normal(body: str) -> str:
    """A body as compared: GitHub stores line ends as CR LF and drops white space at the end."""
    return body.replace("\r\n", "\n").rstrip()
