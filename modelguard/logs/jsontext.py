"""JSON of a training log: a stranger wrote it, and unlike a header it may honestly hold NaN (a loss that diverged)."""

from __future__ import annotations

import json
from typing import Any

from modelguard.errors import Malformed

MAX_CONTAINERS = 1_000_000  # objects and arrays of one text: each costs far more memory than the two bytes that write it


class _Repeated(ValueError):
    """A key stands twice in one object: two readers may see two different logs."""


def loads(text: str, name: str, *, line: int = 1) -> Any:
    """The JSON value in `text`, which starts at `line` of the file. Raises Malformed, naming the file and the place."""
    if text.count("{") + text.count("[") > MAX_CONTAINERS:
        raise Malformed(f"{name}: more than {MAX_CONTAINERS} JSON objects and arrays", advice="no training log needs as many: split it")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except _Repeated as error:
        raise Malformed(f"{name}: ambiguous JSON, {error}", advice="keep one of the two values") from error
    except RecursionError as error:
        raise Malformed(f"{name}: JSON is nested too deeply (from line {line})", advice="a training log is a flat list") from error
    except json.JSONDecodeError as error:
        where = f"line {line + error.lineno - 1} column {error.colno}"
        raise Malformed(f"{name}: not JSON ({where})", advice="commit the file as the trainer wrote it") from error
    except ValueError as error:  # integers of thousands of digits
        raise Malformed(f"{name}: a number of thousands of digits (from line {line})", advice="no trainer writes one") from error


def decode(data: bytes, name: str) -> str:
    """The text of a log file. Raises Malformed where it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"{name}: not UTF-8 (byte {error.start})", advice="commit the file as the trainer wrote it") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        again = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Repeated(f"the key {again[:60]!a} stands twice in one object")
    return result
