"""JSON that a stranger wrote, read without the surprises of `json.loads`: no duplicate keys, no NaN, bounded depth."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from modelguard.errors import Malformed


class _Refused(ValueError):
    """A JSON text that parsers may read differently."""


def parse_object(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object in `data`. Raises Malformed with the reason, for anything that two parsers could read differently."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise Malformed(f"{name}: not UTF-8 at byte {error.start}") from error
    except _Refused as error:
        raise Malformed(f"{name}: ambiguous JSON, {error}", advice="write it again with a standard library") from error
    except RecursionError as error:
        raise Malformed(f"{name}: JSON is nested too deeply") from error
    except ValueError as error:
        position = f" (line {error.lineno} column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Malformed(f"{name}: not JSON{position}", advice="the file is damaged or not what its name says") from error
    if not isinstance(value, dict):
        raise Malformed(f"{name}: not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _Refused(f"the key {key[:80]!a} stands twice")
        if not _encodable(key):
            raise _Refused("a key holds a lone surrogate")
        result[key] = value
    return result


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _refuse_constant(constant: str) -> NoReturn:
    raise _Refused(f"{constant} is no JSON number")
