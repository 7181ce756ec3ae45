"""The zip file that `torch.save` writes, read strictly: entries one behind the other, none compressed, nothing between or behind them.

Readers of zip files differ in what they take of one that is built oddly: with a name that stands twice torch takes the first entry and
Python's zipfile the last. So whatever two readers could read differently is refused. Entries are stored, which leaves no zip bomb.
Layout: PKWARE's APPNOTE 6.3.10, sections 4.3.7 to 4.3.16, as PyTorchStreamWriter (caffe2/serialize/inline_container.cc) uses it.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from modelguard.blobs.base import Blob, read
from modelguard.errors import Malformed

MAGIC = b"PK\x03\x04"
MAX_ENTRIES = 200_000
MAX_DIRECTORY_BYTES = 64 << 20
MAX_NAME = 4096
UNKNOWN_32 = 0xFFFFFFFF
HAS_DESCRIPTOR, UTF8 = 0x8, 0x800
_END = struct.Struct("<4sHHHHIIH")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR64 = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_INNER = re.compile(r"data\.pkl|data/\d{1,9}|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id")
ADVICE = "save the weights as safetensors"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the archive: where its bytes begin in the blob, how many they are, and their CRC-32."""

    start: int
    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class _Listed:
    """An entry as the central directory lists it."""

    name: str
    flags: int
    crc: int
    size: int
    header: int  # offset of its local header


@dataclass(frozen=True, slots=True)
class _Directory:
    """Where the central directory lies, and how many entries it has."""

    offset: int
    size: int
    entries: int


def entries(blob: Blob) -> Mapping[str, Entry]:
    """The files of a torch archive by their names below its one root folder. Raises Malformed, or CannotRead where it is cut short."""
    if read(blob, 0, min(4, blob.size)) != MAGIC:
        raise Malformed(f"{blob.name}: not a zip archive of torch (older torch wrote bare pickles, which are not opened)", advice=ADVICE)
    directory = _directory(blob)
    listed = sorted(_listed(blob, directory), key=lambda item: item.header)
    position, found = 0, dict[str, Entry]()
    for item in listed:
        if item.header != position:
            raise _odd(blob, f"leaves a hole before {item.name[:80]!a}, or two entries overlap")
        start = _local(blob, item)
        found[item.name] = Entry(start, item.size, item.crc)
        position = _behind(blob, item, start + item.size, directory.offset)
    if len(found) != len(listed):
        raise _odd(blob, "has a name that stands twice: readers would take different entries")
    if position != directory.offset:
        raise _odd(blob, "has bytes between its last entry and its directory")
    return _below_root(blob, found)


def content(blob: Blob, entry: Entry, limit: int) -> bytes:
    """The bytes of a small entry, held against their checksum. Raises Malformed."""
    if entry.size > limit:
        raise Malformed(f"{blob.name}: an entry of {entry.size} bytes, more than the {limit} that are read of it", advice=ADVICE)
    data = read(blob, entry.start, entry.size)
    if zlib.crc32(data) != entry.crc:
        raise Malformed(f"{blob.name}: an entry does not match its checksum", advice="fetch or save it again")
    return data


def _directory(blob: Blob) -> _Directory:
    """The central directory by the record at the very end of the file, or by its 64-bit twin."""
    if blob.size < _END.size:
        raise _odd(blob, "is cut short")
    at = blob.size - _END.size
    magic, disk, start_disk, here, count, size, offset, comment = _END.unpack(read(blob, at, _END.size))
    if magic != b"PK\x05\x06" or comment or disk or start_disk or here != count:
        raise _odd(blob, "does not end with the end of its directory: cut short, or bytes stand behind it")
    found, end = _Directory(offset, size, count), at
    if at >= _LOCATOR64.size + _END64.size and read(blob, at - _LOCATOR64.size, 4) == b"PK\x06\x07":
        wide, end = _wide_directory(blob, at - _LOCATOR64.size)
        for short, long, unknown in ((offset, wide.offset, UNKNOWN_32), (size, wide.size, UNKNOWN_32), (count, wide.entries, 0xFFFF)):
            if short not in (long, unknown):
                raise _odd(blob, "has two directories that differ")
        found = wide
    if found.offset + found.size != end:
        raise _odd(blob, "has a directory that is not where its end says")
    if found.entries > MAX_ENTRIES or found.size > MAX_DIRECTORY_BYTES:
        raise _odd(blob, f"has more than {MAX_ENTRIES} entries")
    return found


def _wide_directory(blob: Blob, locator: int) -> tuple[_Directory, int]:
    """The 64-bit end of the directory, which must stand right before its locator, and where it begins."""
    _, disk, offset, disks = _LOCATOR64.unpack(read(blob, locator, _LOCATOR64.size))
    if offset != locator - _END64.size or disk or disks > 1:
        raise _odd(blob, "has a 64-bit directory that is not where it says")
    magic, length, _, _, number, start, here, count, size, begin = _END64.unpack(read(blob, offset, _END64.size))
    if magic != b"PK\x06\x06" or length != _END64.size - 12 or number or start or here != count:
        raise _odd(blob, "has a 64-bit directory of an unknown layout")
    return _Directory(begin, size, count), offset


def _listed(blob: Blob, directory: _Directory) -> Iterator[_Listed]:
    data, at = read(blob, directory.offset, directory.size), 0
    for _ in range(directory.entries):
        if at + _CENTRAL.size > len(data):
            raise _odd(blob, "has a directory that breaks off")
        fields = _CENTRAL.unpack_from(data, at)
        magic, _, _, flags, method, _, _, crc, packed, size, name, extra, comment, disk, _, attributes, header = fields
        if magic != b"PK\x01\x02" or comment or disk or not 0 < name <= MAX_NAME:
            raise _odd(blob, "has a directory of an unknown layout")
        if attributes & 0xFF:  # torch takes an entry with the directory's bit for empty, and loads whatever was in memory
            raise _odd(blob, "has an entry with attributes of a directory or the like, which torch never writes")
        start = at + _CENTRAL.size
        if method or packed != size or flags & ~(HAS_DESCRIPTOR | UTF8):
            raise _odd(blob, "has an entry that is compressed or encrypted, which torch never writes")
        size, header = _widened(blob, data[start + name : start + name + extra], size, packed, header)
        yield _Listed(_name(blob, data[start : start + name]), flags, crc, size, header)
        at = start + name + extra
    if at != len(data):
        raise _odd(blob, "has bytes behind the last entry of its directory")


def _widened(blob: Blob, extra: bytes, size: int, packed: int, header: int) -> tuple[int, int]:
    """The size and the offset of an entry, from its 64-bit extra field where 32 bits do not hold them."""
    missing = (size == UNKNOWN_32, packed == UNKNOWN_32, header == UNKNOWN_32)
    if not any(missing):
        return size, header
    if len(extra) != 4 + 8 * sum(missing) or struct.unpack_from("<HH", extra) != (1, len(extra) - 4):
        raise _odd(blob, "has an entry whose 64-bit sizes are missing")
    wide = iter(struct.unpack_from(f"<{sum(missing)}Q", extra, 4))
    size, packed, header = (next(wide) if lacks else value for lacks, value in zip(missing, (size, packed, header), strict=True))
    if size != packed:
        raise _odd(blob, "has an entry that is compressed, which torch never writes")
    return size, header


def _local(blob: Blob, item: _Listed) -> int:
    """Where an entry's bytes begin, after its own header, which must say what the directory says."""
    header = read(blob, item.header, _LOCAL.size)
    magic, _, flags, method, _, _, crc, packed, size, name, extra = _LOCAL.unpack(header)
    written = read(blob, item.header + _LOCAL.size, name)
    blank = bool(flags & HAS_DESCRIPTOR) and (crc, packed, size) == (0, 0, 0)
    large = (crc, packed, size) in ((item.crc, UNKNOWN_32, UNKNOWN_32), (0, UNKNOWN_32, UNKNOWN_32)) and item.size >= UNKNOWN_32
    if (magic, flags, method, written) != (MAGIC, item.flags, 0, item.name.encode()):
        raise _odd(blob, f"names the entry {item.name[:80]!a} otherwise in its own header")
    if not blank and not large and (crc, packed, size) != (item.crc, item.size, item.size):
        raise _odd(blob, f"gives the entry {item.name[:80]!a} two sizes or checksums")
    return item.header + _LOCAL.size + int(name) + int(extra)


def _behind(blob: Blob, item: _Listed, end: int, directory: int) -> int:
    """The offset behind an entry: after its descriptor, where it has one, in 32 or 64 bits."""
    if end > directory:
        raise _odd(blob, f"has an entry {item.name[:80]!a} that runs over its end")
    if not item.flags & HAS_DESCRIPTOR:
        return end
    for layout in ("<4sIII", "<4sIQQ"):
        size = struct.calcsize(layout)
        if end + size <= directory and struct.unpack(layout, read(blob, end, size)) == (b"PK\x07\x08", item.crc, item.size, item.size):
            return end + size
    raise _odd(blob, f"has no sound descriptor behind the entry {item.name[:80]!a}")


def _name(blob: Blob, raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _odd(blob, "has an entry whose name is no UTF-8") from error
    root, _, inner = name.partition("/")
    if inner.startswith(("code/", "constants")):
        raise Malformed(f"{blob.name}: TorchScript, which holds code and is not opened", advice=ADVICE)
    if not root or root in (".", "..") or not root.isprintable() or "\\" in name or not _INNER.fullmatch(inner):
        raise _odd(blob, f"holds {name[:80]!a}, which torch.save never writes")
    return name


def _below_root(blob: Blob, found: Mapping[str, Entry]) -> dict[str, Entry]:
    roots = {name.partition("/")[0] for name in found}
    inner = {name.partition("/")[2]: entry for name, entry in found.items()}
    if len(roots) != 1 or len(inner) != len(found) or "data.pkl" not in inner:
        raise _odd(blob, "has no single root folder with one data.pkl")
    if len({name.lower() for name in inner}) != len(inner):
        raise _odd(blob, "has names that differ in case only")
    return inner


def _odd(blob: Blob, what: str) -> Malformed:
    return Malformed(f"{blob.name}: the archive {what}", advice=f"{ADVICE}, or save or fetch it again")
