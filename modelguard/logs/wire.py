"""The protocol buffer wire format, as far as event files need it: fields of one message, bounded and without a schema."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}


class Broken(ValueError):
    """Bytes that are no message."""


def fields(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(field number, wire type, varint value, bytes) of each field; the value is 0 and the bytes are empty where they do not apply."""
    offset = 0
    while offset < len(data):
        key, offset = varint(data, offset)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise Broken("field number 0")
        if wire == VARINT:
            value, offset = varint(data, offset)
            yield number, wire, value, b""
            continue
        if wire == BYTES:
            length, offset = varint(data, offset)
        elif wire in _FIXED:
            length = _FIXED[wire]
        else:
            raise Broken(f"wire type {wire}")
        if length > len(data) - offset:
            raise Broken("a field runs over the end")
        yield number, wire, 0, data[offset : offset + length]
        offset += length


def varint(data: bytes, offset: int) -> tuple[int, int]:
    """An unsigned 64-bit varint and the offset behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if offset >= len(data):
            raise Broken("a number runs over the end")
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, offset
    raise Broken("a number of more than ten bytes")


def signed(value: int) -> int:
    """An int64 from the varint that carries it."""
    return value - (1 << 64) if value >> 63 else value
