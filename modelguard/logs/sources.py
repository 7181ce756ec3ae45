"""Where the bytes of a log come from: in memory, from a transport, or from a loader that is asked only when the file's turn comes."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from modelguard.blobs.base import Blob

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER_BYTES = 1 << 20

Loader = Callable[[], "bytes | Blob"]
Source = bytes | Blob | Loader


class BlobFile(io.RawIOBase):
    """A blob as a file that is read from front to back."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._blob.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._blob.size - self._place))
        if count:
            self._blob.readinto(self._place, view[:count])
            self._place += count
        return count


@dataclass(frozen=True, slots=True)
class Opened:
    """A source whose turn has come: its bytes as a file at its start, how many there are, and whether they are in memory already."""

    file: BinaryIO
    size: int
    loaded: bool

    def head(self, length: int) -> bytes:
        """The first bytes; the file stands at its start afterwards."""
        data = self.file.read(length)
        self.file.seek(0)
        return data


def opened(source: Source) -> Opened:
    """A source as a file. Raises what its loader raises, CannotRead among it."""
    content = source() if callable(source) else source
    if isinstance(content, bytes):
        return Opened(io.BytesIO(content), len(content), loaded=True)
    return Opened(io.BufferedReader(BlobFile(content), BUFFER_BYTES), content.size, loaded=False)
