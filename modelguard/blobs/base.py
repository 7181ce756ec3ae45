"""The transport contract: a blob is bytes with a name and a size, a folder is blobs by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from modelguard.errors import CannotRead

SMALL_FILE_BYTES = 64 << 20  # papers (cards, configurations, logs) are read whole; weights never are


class Blob(Protocol):
    """Bytes that can be read from any offset. `sha256` is set where the transport vouches for the content."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str | None: ...
    @property
    def verified(self) -> bool:
        """Whether the bytes are known to be the ones that the reference names."""
        ...

    def readinto(self, start: int, buffer: memoryview) -> None:
        """Fills `buffer` with the bytes from `start`. Safe to call from several threads. Raises CannotRead when there are too few."""
        ...


class Folder(Protocol):
    """Files by name, as one revision of a place holds them. Names are relative, with forward slashes."""

    @property
    def ref(self) -> str: ...
    @property
    def sizes(self) -> Mapping[str, int]: ...
    def open(self, name: str) -> Blob:
        """The blob of that name. Raises CannotRead."""
        ...


@dataclass(frozen=True, slots=True)
class Stated:
    """What a place states of a file that nobody reads for it: the sha256 of its content, and its size in bytes."""

    sha256: str
    size: int


class Stating(Folder, Protocol):
    """A folder that may know a file by its sha256."""

    def stated(self, name: str) -> Stated | None:
        """What is stated of a file; None where it is no object of Git LFS, or nothing is known of it."""
        ...


def read(blob: Blob, start: int, length: int) -> bytes:
    """`length` bytes from `start`."""
    if start < 0 or length < 0 or start + length > blob.size:
        raise CannotRead(f"{blob.name}: ends at byte {blob.size}, {start + length} wanted", advice="the file is cut short: fetch it again")
    buffer = bytearray(length)
    blob.readinto(start, memoryview(buffer))
    return bytes(buffer)


def read_small(blob: Blob, limit: int = SMALL_FILE_BYTES) -> bytes:
    """All bytes of a file that has no business being large."""
    if blob.size > limit:
        raise CannotRead(f"{blob.name}: {blob.size} bytes, more than the {limit} that are read of such a file")
    return read(blob, 0, blob.size)
