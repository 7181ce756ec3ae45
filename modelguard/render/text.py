"""The escape functions, one for each language that strangers' words are printed in. Nothing else may print them.

What is not plainly harmless is written as `\\xNN` or `\\u{…}`: visible, unambiguous, inert. The runner reads commands out of
logs (`::name::` at the start of a line, `##[name]` anywhere, compared by culture, so that invisible characters do not count),
GitHub reads markup, mentions, images and mathematics out of comments, terminals read escape sequences.
"""

from __future__ import annotations

import html as _html
import re
import unicodedata

ELLIPSIS = "…"
NOTHING = "(empty)"
_MARKDOWN_REFUSED = frozenset("`|\\$<>")
_BLANK_LETTERS = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_COMMAND_SIGNS = frozenset(":#[")
_COMMAND_START = re.compile(r"^( *):(?=:)")
_MERMAID_PLAIN = re.compile(r"[A-Za-z0-9 ._/,=+^%-]")
_PIECE = re.compile(r"\\x[0-9a-f]{2}|\\u\{[0-9a-f]{1,6}\}|.")
_COMMAND_ANYWHERE = re.compile(r"#(?=\[)|(?<=#)#")


def markdown(text: str, limit: int = 80) -> str:
    """An inline code span that shows `text` and that nothing in it can leave: no span, table cell, comment or formula is broken.

    Content longer than `limit` characters keeps its two ends. Runs of spaces, which HTML would collapse, are written out.
    """
    kept = _clipped(text, limit)
    pieces = [_in_code_span(character, before) for character, before in zip(kept, " " + kept, strict=False)]
    if pieces and pieces[-1] == " ":
        pieces[-1] = _escaped(" ")
    return f"`{_joined(pieces, limit) or NOTHING}`"


def terminal(text: str, limit: int = 4096) -> str:
    """One line for a terminal or a log: no control sequence, no line break, no reordering, and no command of the runner.

    Applying it twice changes nothing, so that a log may escape whole lines whose parts are escaped already.
    """
    shown = "".join(map(_visible, _clipped(text, limit)))
    quiet = _COMMAND_ANYWHERE.sub(r"\\x23", _COMMAND_START.sub(r"\1\\x3a", shown))
    return _joined(_PIECE.findall(quiet), limit)


def workflow_data(text: str, limit: int = 4096) -> str:
    """The message of a workflow command (`::error::message`)."""
    return terminal(text, limit).replace("%", "%25")


def workflow_property(text: str, limit: int = 300) -> str:
    """A property of a workflow command (`::error title=property::`)."""
    return workflow_data(text, limit).replace(":", "%3A").replace(",", "%2C")


def html(text: str) -> str:
    """The content of an HTML element or of a quoted attribute."""
    return _html.escape("".join(map(_visible, text)), quote=True)


def mermaid(text: str, limit: int = 80) -> str:
    """The quoted label of a mermaid node or edge: letters, digits and a few signs; whatever mermaid or HTML could read becomes a dot."""
    kept = (character if _MERMAID_PLAIN.fullmatch(character) else "·" for character in _clipped(text, limit))
    return f'"{_joined(list(kept), limit).strip() or NOTHING}"'


def _in_code_span(character: str, before: str) -> str:
    if character == " ":
        return _escaped(" ") if before == " " else " "
    return character if "!" <= character <= "~" and character not in _MARKDOWN_REFUSED else _escaped(character)


def _visible(character: str) -> str:
    if " " <= character <= "~":
        return character
    readable = unicodedata.category(character)[0] in "LNPS" and unicodedata.bidirectional(character) not in ("R", "AL", "AN")
    if not readable or character in _BLANK_LETTERS or _COMMAND_SIGNS & set(unicodedata.normalize("NFKC", character)):
        return _escaped(character)
    return character


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{{{code:x}}}"


def _clipped(text: str, limit: int) -> str:
    """Enough of both ends of an endless text, so that escaping it costs nothing."""
    return text if len(text) <= 4 * limit else text[: 2 * limit] + text[-2 * limit :]


def _joined(pieces: list[str], limit: int) -> str:
    """The pieces whole, or as many whole ones of both ends as fit `limit` characters with an ellipsis between them."""
    if sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    tail = _fitting(pieces[::-1], (limit - 1) // 3)[::-1]
    head = _fitting(pieces, limit - 1 - sum(map(len, tail)))
    return "".join(head) + ELLIPSIS + "".join(tail)


def _fitting(pieces: list[str], room: int) -> list[str]:
    kept: list[str] = []
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            break
        kept.append(piece)
    return kept


_PLAIN_WORD = re.compile(r"[A-Za-z0-9.,;:()%+'\"=?!/^&-]+")
_LIST_MARK = re.compile(r"\d{1,9}[.)]")
_NEGATIVE = re.compile(r"-[\d.,^]+|[%–-]")
_LINKED = re.compile(r"://|www\.|^GH-\d|[0-9a-f]{7,40}$|&#?\w+;", re.IGNORECASE)


def prose(text: str, limit: int = 600) -> str:
    """A sentence of ours with strangers' names in it: words that are plain letters stay, every other word becomes a code span."""
    words = text[:limit].split()
    first = [markdown(word) for word in words[:1] if _LIST_MARK.fullmatch(word)] or [_word(word) for word in words[:1]]
    return " ".join([*first, *(_word(word) for word in words[1:])])


def _word(word: str) -> str:
    core = word.strip(',;:.()"')
    start = word.find(core)
    plain = not core or (_PLAIN_WORD.fullmatch(core) and not _LINKED.search(core) and (core[0].isalnum() or _NEGATIVE.fullmatch(core)))
    return word if plain else f"{word[:start]}{markdown(core)}{word[start + len(core) :]}"
