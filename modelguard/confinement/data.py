"""Values of ours as JSON and back: frozen dataclasses by their type's fields, with nothing in between that could name code.

A dataclass is written as a list, its name first, so that a union of several can be told apart. Numbers stay what they were: 3 does
not become 3.0 on the way, because documents are to be the same to the byte.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any

from modelguard.errors import Malformed

Decoder = Callable[[Any], Any]
PLAIN: Mapping[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (float, int), str: (str,)}


def encode(value: object) -> Any:
    """A value as what JSON has. Raises TypeError for what is none of ours."""
    kind: Any = type(value)
    if value is None or kind in PLAIN:
        return value
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [kind.__name__, *(encode(getattr(value, name)) for name in _fields(kind))]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return [encode(item) for item in (sorted(value) if isinstance(value, frozenset) else value)]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, int | float | str):  # numpy's float64 is a float, and writes itself otherwise
        return next(plain for plain in (int, float, str) if isinstance(value, plain))(value)
    raise TypeError(f"{kind.__name__} is no value that travels")


def decode(kind: Any, data: Any) -> Any:
    """The value of type `kind` that JSON data stands for. Raises Malformed for data of any other shape."""
    try:
        return _decoder(kind)(data)
    except RecursionError as error:
        raise Malformed("a value nested too deeply") from error


def dumps(value: object) -> bytes:
    """JSON text of what `encode` gives; NaN and lone surrogates included, which only `loads` need understand."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def loads(data: bytes | bytearray) -> Any:
    """Raises Malformed for what is no JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed("an answer that is not JSON") from error


@cache
def _fields(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind) if field.init)


@cache
def _decoder(kind: Any) -> Decoder:
    """What makes values of a type; for a union, of the one of its types that the data shows."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union(inside)
    if origin is tuple:
        return _tuple(inside)
    if origin in (frozenset, list):
        return lambda data: origin(map(_decoder(inside[0]), _listed(data)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        item = _decoder(inside[1])
        return lambda data: {key: item(value) for key, value in _of(data, dict).items()}
    if kind in PLAIN:
        return lambda data: _of(data, *PLAIN[kind])
    if kind is type(None):
        return _nothing
    if kind is bytes:
        return _bytes
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda data: _member(kind, data)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind)
    raise TypeError(f"{kind} is no type that travels")


def _record(kind: type) -> Decoder:
    hints = typing.get_type_hints(kind)
    names = _fields(kind)

    def make(data: Any) -> Any:
        if not isinstance(data, list) or len(data) != len(names) + 1 or data[0] != kind.__name__:
            raise Malformed(f"no {kind.__name__}")
        return kind(**{name: _decoder(hints[name])(item) for name, item in zip(names, data[1:], strict=True)})

    return make


def _union(members: tuple[Any, ...]) -> Decoder:
    """Dataclasses are told apart by their name, the others by what JSON has for them."""
    records: list[Any] = [member for member in members if dataclasses.is_dataclass(member)]
    named = {member.__name__: member for member in records}
    others: list[Any] = [member for member in members if member not in records]

    def make(data: Any) -> Any:
        if named and isinstance(data, list) and data and isinstance(data[0], str) and data[0] in named:
            return _decoder(named[data[0]])(data)
        exact: list[Any] = [member for member in others if type(data) is member or (data is None and member is type(None))]
        for member in exact or others:
            try:
                return _decoder(member)(data)
            except Malformed:
                continue
        raise Malformed("a value of none of the types that may stand there")

    return make


def _tuple(inside: tuple[Any, ...]) -> Decoder:
    if inside[-1] is Ellipsis:
        return lambda data: tuple(map(_decoder(inside[0]), _listed(data)))

    def make(data: Any) -> Any:
        if len(_listed(data)) != len(inside):
            raise Malformed(f"{len(data)} values where {len(inside)} belong")
        return tuple(_decoder(member)(item) for member, item in zip(inside, data, strict=True))

    return make


def _listed(data: Any) -> list[Any]:
    return typing.cast(list[Any], _of(data, list))


def _of(data: Any, *kinds: type) -> Any:
    if type(data) not in kinds:
        raise Malformed(f"a {type(data).__name__} where a {kinds[0].__name__} belongs")
    return data


def _nothing(data: Any) -> None:
    if data is not None:
        raise Malformed("a value where none belongs")


def _bytes(data: Any) -> bytes:
    try:
        return base64.b64decode(_of(data, str), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("bytes that are not base64") from error


def _member(kind: type[Enum], data: Any) -> Enum:
    try:
        return kind(_of(data, str, int))
    except ValueError as error:
        raise Malformed(f"no {kind.__name__}") from error
