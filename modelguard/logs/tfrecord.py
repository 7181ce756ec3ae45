"""TFRecord framing: u64 length, its masked CRC32C, the data, its masked CRC32C (tensorflow/core/lib/io/record_writer.h)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from modelguard.errors import Malformed

MAX_RECORD = 64 << 20
BATCH = 1 << 16  # records whose frames are held at a time
MANY = 16  # records of one length from which their checksums are taken together
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


def masked_crc32cs(data: bytes, starts: Sequence[int], length: int) -> list[int]:
    """The checksums of many stretches of one length, taken byte by byte of all of them."""
    import numpy as np  # not at the top: the hook starts without it

    table, content, offsets = np.array(_TABLE, dtype=np.uint32), np.frombuffer(data, dtype=np.uint8), np.array(starts)
    crc = np.full(len(starts), 0xFFFFFFFF, dtype=np.uint32)
    for place in range(length):
        crc = table[(crc ^ content[offsets + place]) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    masked: list[int] = (((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)).tolist()
    return masked


@lru_cache(maxsize=4096)
def _length_checksum(length: bytes) -> int:
    """The checksum of a record's length: the records of one file are of few lengths."""
    return masked_crc32c(length)


def starts_record(head: bytes) -> bool:
    """Whether bytes begin with a length whose checksum holds: 1 in 4 billion by chance."""
    if len(head) < HEADER.size:
        return False
    length, crc = HEADER.unpack_from(head)
    return bool(length <= MAX_RECORD and masked_crc32c(head[:8]) == crc)


@dataclass(slots=True)
class _Frames:
    """Where the next records lie, as far as their lengths are sound; the offset behind them, and why it goes no further."""

    offset: int
    spans: list[tuple[int, int]] = field(default_factory=list)
    cut: bool = False
    damaged: bool = False


def records(data: bytes, name: str) -> Iterator[bytes | None]:
    """The records of a file in order, and None last when it ends inside one. Raises Malformed on damage before the end."""
    offset, number = 0, 0
    while offset < len(data):
        frames = _frames(data, offset)
        bad = _first_damaged(data, frames.spans)
        if bad is not None:
            raise _damaged(name, number + bad + 1, frames.spans[bad][0] - HEADER.size)
        yield from (data[start:end] for start, end in frames.spans)
        offset, number = frames.offset, number + len(frames.spans)
        if frames.damaged:
            raise _damaged(name, number + 1, offset)
        if frames.cut:
            yield None
            return


def _frames(data: bytes, offset: int) -> _Frames:
    frames = _Frames(offset)
    while frames.offset < len(data) and len(frames.spans) < BATCH:
        offset = frames.offset
        if len(data) - offset < HEADER.size or _blank(data, offset):
            frames.cut = True  # cut short, or padded with zeros by a file system that went down
            break
        length, crc = HEADER.unpack_from(data, offset)
        if _length_checksum(data[offset : offset + 8]) != crc or length > MAX_RECORD:
            frames.damaged = True
            break
        start, end = offset + HEADER.size, offset + HEADER.size + length
        if end + FOOTER.size > len(data):
            frames.cut = True
            break
        frames.spans.append((start, end))
        frames.offset = end + FOOTER.size
    return frames


def _first_damaged(data: bytes, spans: Sequence[tuple[int, int]]) -> int | None:
    """The index of the first record whose checksum does not hold."""
    alike: dict[int, list[int]] = {}
    for index, (start, end) in enumerate(spans):
        alike.setdefault(end - start, []).append(index)
    damaged: list[int] = []
    for length, indices in alike.items():
        starts = [spans[index][0] for index in indices]
        together = masked_crc32cs(data, starts, length) if len(starts) >= MANY else [masked_crc32c(data[s : s + length]) for s in starts]
        stored = (FOOTER.unpack_from(data, start + length)[0] for start in starts)
        damaged += [index for index, crc, kept in zip(indices, together, stored, strict=True) if crc != kept][:1]
    return min(damaged, default=None)


def _blank(data: bytes, offset: int) -> bool:
    return data[offset] == 0 and not any(data[offset : offset + 64]) and not data[offset:].strip(b"\0")


def _damaged(name: str, number: int, offset: int) -> Malformed:
    reason = f"{name}: record {number} at byte {offset} does not match its checksum"
    return Malformed(reason, advice="the file is damaged: commit it as the trainer wrote it")
