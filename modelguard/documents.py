"""JSON and YAML that a stranger wrote, read without the surprises of their libraries: no duplicate keys, no NaN, no aliases."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any, NoReturn

import yaml

from modelguard.errors import Malformed

try:
    from yaml import CSafeLoader as SafeLoader  # ten times as fast: a card may carry a megabyte of front matter
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

MAX_YAML_BYTES = 1 << 20
MAX_YAML_DEPTH = 64


class _Refused(ValueError):
    """A JSON text that parsers may read differently."""


def json_object(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object in `data`. Raises Malformed with the reason, for anything that two parsers could read differently."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_int=_integer, parse_constant=_refuse_constant)
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
        if not _encodable(key) or (isinstance(value, str) and not _encodable(value)):
            raise _Refused("a lone surrogate")
        result[key] = value
    return result


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _integer(digits: str) -> int:
    if digits == "-0":
        raise _Refused("-0 is an integer to some and a fraction to others")
    return int(digits)


def _refuse_constant(constant: str) -> NoReturn:
    raise _Refused(f"{constant} is no JSON number")


class _StrictLoader(SafeLoader):
    """Safe YAML in which a repeated key is an error rather than the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!a}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def yaml_document(data: bytes, name: str) -> object:
    """The YAML document in `data`. Raises Malformed, with line and column where they are known.

    Aliases are refused, because they expand without bound, and so are tags and deep nesting, which the library does not survive.
    """
    if len(data) > MAX_YAML_BYTES:
        raise Malformed(f"{name}: larger than {MAX_YAML_BYTES} bytes")
    try:
        text = data.decode("utf-8")
        _refuse_surprises(text, name)
        return yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or type(error).__name__
        raise Malformed(f"{name}{where}: not valid YAML ({reason[:200]})", advice="mend the line") from error


def _refuse_surprises(text: str, name: str) -> None:
    """Raises Malformed for an alias, a tag, or nesting deeper than anybody writes; reads no further than to the first of them."""
    depth = 0
    for event in yaml.parse(text, Loader=SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise Malformed(f"{name}: YAML aliases are refused", advice="write the value out")
        if getattr(event, "tag", None) is not None:
            raise Malformed(f"{name}: YAML tags are refused", advice="write the value without its tag")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_YAML_DEPTH:
            raise Malformed(f"{name}: YAML is nested too deeply")
