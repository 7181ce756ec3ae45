"""TFRecord framing: u64 length, its masked CRC32C, the data, its masked CRC32C (tensorflow/core/lib/io/record_writer.h)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from modelguard.errors import Malformed

MAX_RECORD = 64 << 20
HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")


def _table() -> tuple[int, ...]:
    """The byte table of CRC32C: Castagnoli's polynomial, bit-reversed (RFC 3720, appendix B.4)."""
    entries = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        entries.append(value)
    return tuple(entries)


_TABLE = _table()


def masked_crc32c(data: bytes) -> int:
    """The checksum as TFRecord stores it: rotated and offset, so that a checksum of checksums stays sound."""
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def starts_record(head: bytes) -> bool:
    """Whether bytes begin with a length whose checksum holds: 1 in 4 billion by chance."""
    if len(head) < HEADER.size:
        return False
    length, crc = HEADER.unpack_from(head)
    return bool(length <= MAX_RECORD and masked_crc32c(head[:8]) == crc)


def records(data: bytes, name: str) -> Iterator[bytes | None]:
    """The records of a file in order, and None last when it ends inside one. Raises Malformed on damage before the end."""
    offset, number = 0, 0
    while offset < len(data):
        number += 1
        if len(data) - offset < HEADER.size or _blank(data, offset):
            yield None  # cut short, or padded with zeros by a file system that went down
            return
        length, crc = HEADER.unpack_from(data, offset)
        if masked_crc32c(data[offset : offset + 8]) != crc or length > MAX_RECORD:
            raise _damaged(name, number, offset)
        start, end = offset + HEADER.size, offset + HEADER.size + length
        if end + FOOTER.size > len(data):
            yield None
            return
        body = data[start:end]
        if masked_crc32c(body) != FOOTER.unpack_from(data, end)[0]:
            raise _damaged(name, number, offset)
        yield body
        offset = end + FOOTER.size


def _blank(data: bytes, offset: int) -> bool:
    return not any(data[offset : offset + 64]) and not data[offset:].strip(b"\0")


def _damaged(name: str, number: int, offset: int) -> Malformed:
    reason = f"{name}: record {number} at byte {offset} does not match its checksum"
    return Malformed(reason, advice="the file is damaged: commit it as the trainer wrote it")
