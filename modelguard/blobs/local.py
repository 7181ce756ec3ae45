"""A file or a directory of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelguard.blobs.base import Blob
from modelguard.errors import CannotFetch, CannotRead


class LocalBlob:
    """An open file, read with `pread`: no shared position, so threads may read at once."""

    sha256: str | None = None
    verified = True

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.name = name or str(path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not make us wait
        except OSError as error:
            raise CannotFetch(f"{self.name}: {error.strerror}", advice="check the path") from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise CannotFetch(f"{self.name}: not a regular file")
        self._descriptor, self.size = descriptor, status.st_size

    @property
    def descriptor(self) -> int:
        """The open file, which can only be read. It closes with the blob."""
        return self._descriptor

    def readinto(self, start: int, buffer: memoryview) -> None:
        done = 0
        while done < len(buffer):
            count = os.preadv(self._descriptor, [buffer[done:]], start + done)
            if count == 0:
                raise CannotRead(f"{self.name}: ended while it was read", advice="the file changed meanwhile: run again")
            done += count

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


@dataclass(frozen=True)
class LocalFolder:
    """A directory. Only regular files count; symbolic links are followed here, because the operator named the directory."""

    path: Path
    ref: str
    sizes: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise CannotFetch(f"{self.ref}: no such directory", advice="check the path")
        try:
            sizes = {entry.name: entry.stat().st_size for entry in sorted(self.path.iterdir()) if entry.is_file()}
        except OSError as error:
            raise CannotFetch(f"{self.ref}: {error.strerror}", advice="check the directory's permissions") from error
        object.__setattr__(self, "sizes", sizes)

    def open(self, name: str) -> Blob:
        if name not in self.sizes:
            raise CannotFetch(f"{self.ref}: has no file {name}")
        return LocalBlob(self.path / name, name=f"{self.ref}/{name}")
