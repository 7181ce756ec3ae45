"""The framing of `.wandb` files: a header of 7 bytes, then the blocks and records of LevelDB's log with zlib's CRC32 over type and data.

LevelDB's doc/log_format.md describes blocks of 32 KiB and records that are whole or in first, middle and last parts.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from modelguard.errors import Malformed

BLOCK = 1 << 15
MAX_RECORD = 64 << 20
MAGIC = struct.pack("<4sH", b":W&B", 0xBEE1)
VERSION = 0
HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(file: BinaryIO, name: str) -> Iterator[bytes | None]:
    """The records in order, read block by block, and None last where the file ends inside one. Raises Malformed on damage before that."""
    parts: list[bytes] = []
    number = 1
    for kind, data in _fragments(file, name):
        if not kind:
            break
        if (kind in (_MIDDLE, _LAST)) != bool(parts):
            raise _damaged(name, number, "is out of order")
        parts.append(data)
        if sum(map(len, parts)) > MAX_RECORD:
            raise _damaged(name, number, f"has more than {MAX_RECORD} bytes")
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
            parts.clear()
            number += 1
    else:
        if not parts:
            return
    yield None


def _fragments(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """(type, data) of each part in order; type 0 last where the file breaks off or goes on in zeros."""
    start = 0
    while block := file.read(BLOCK):
        offset = _after_header(block, name) if start == 0 else 0
        while offset is not None and BLOCK - offset >= HEADER.size and offset < len(block):
            kind, data, offset = _fragment(block, offset, name, start)
            if kind == 0:
                _only_zeros(file, name, start)
                yield 0, b""
                return
            yield kind, data
        if offset is None:
            yield 0, b""
            return
        if any(block[offset:]):
            raise _damaged_at(name, start + offset)
        start += len(block)


def _fragment(block: bytes, offset: int, name: str, start: int) -> tuple[int, bytes, int]:
    """(type, data, offset behind it) of one part; type 0 where the block ends inside it or is blank from here."""
    if len(block) - offset < HEADER.size or not any(block[offset:]):
        return 0, b"", len(block)
    crc, length, kind = HEADER.unpack_from(block, offset)
    end = offset + HEADER.size + length
    if end > BLOCK or not _FULL <= kind <= _LAST:
        raise _damaged_at(name, start + offset)
    if end > len(block):
        return 0, b"", len(block)
    data = block[offset + HEADER.size : end]
    if zlib.crc32(data, zlib.crc32(bytes([kind]))) != crc:
        raise _damaged_at(name, start + offset)
    return kind, data, end


def _after_header(block: bytes, name: str) -> int | None:
    """Where the first record begins; None in a file that ends inside its header."""
    whole = MAGIC + bytes([VERSION])
    if whole.startswith(block[: len(whole)]) and len(block) < len(whole):
        return None
    if not block.startswith(MAGIC):
        raise Malformed(f"{name}: not a W&B file (it does not begin with :W&B)", advice="commit the file as W&B wrote it")
    if block[len(MAGIC)] != VERSION:
        reason = f"{name}: version {block[len(MAGIC)]} of the W&B file format is not known"
        raise Malformed(reason, advice="export the history as JSON lines")
    return len(whole)


def _only_zeros(file: BinaryIO, name: str, start: int) -> None:
    """Raises Malformed where more than the zeros of a file system that went down follow a blank."""
    while block := file.read(BLOCK):
        start += BLOCK
        if any(block):
            raise _damaged_at(name, start)


def _damaged_at(name: str, place: int) -> Malformed:
    reason = f"{name}: the record at byte {place} does not match its checksum"
    return Malformed(reason, advice="the file is damaged: commit it as W&B wrote it")


def _damaged(name: str, number: int, what: str) -> Malformed:
    return Malformed(f"{name}: record {number} {what}", advice="the file is damaged: commit it as W&B wrote it")
