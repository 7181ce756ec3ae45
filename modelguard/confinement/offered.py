"""Files and checkpoints as the child has them: names and sizes at hand, bytes from the parent."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from modelguard.blobs.base import Blob
from modelguard.checkpoints.base import TensorInfo
from modelguard.confinement.inside import Desk
from modelguard.errors import CannotFetch, CannotRead


class OfferedBlob:
    """A file that the parent opened."""

    def __init__(self, desk: Desk, told: Mapping[str, Any], handed: int | None = None) -> None:
        self._desk, self._handle, self._handed = desk, told["handle"], handed
        self.name: str = told["name"]
        self.size: int = told["size"]
        self.sha256: str | None = told["sha256"]
        self.verified: bool = told["verified"]

    def readinto(self, start: int, buffer: memoryview) -> None:
        if start < 0 or start + len(buffer) > self.size:
            raise CannotRead(f"{self.name}: ends before byte {start + len(buffer)}")
        if self._handed is None:
            self._desk.fill(self._handle, start, buffer)
            return
        done = 0
        while done < len(buffer):
            count = os.preadv(self._handed, [buffer[done:]], start + done)
            if count == 0:
                raise CannotRead(f"{self.name}: ended while it was read", advice="the file changed meanwhile: run again")
            done += count

    def __del__(self) -> None:
        if self._handed is not None:
            os.close(self._handed)


class OfferedFolder:
    """A folder whose files the parent opens."""

    def __init__(self, desk: Desk, told: Mapping[str, Any]) -> None:
        self._desk, self._number = desk, told["number"]
        self.ref: str = told["ref"]
        self.sizes: Mapping[str, int] = told["sizes"]

    def open(self, name: str) -> Blob:
        if name not in self.sizes:
            raise CannotFetch(f"{self.ref}: has no file {name}")
        return OfferedBlob(self._desk, *self._desk.ask_for_file("open", [self._number, name]))


class OfferedCheckpoint:
    """A checkpoint that the parent opened: the child gets its tensors' bytes."""

    def __init__(self, desk: Desk, told: Mapping[str, Any]) -> None:
        self._desk, self._number = desk, told["number"]
        self.ref: str = told["ref"]
        self.format: str = told["format"]
        self.tensors: Mapping[str, TensorInfo] = {
            name: TensorInfo(name=name, dtype=dtype, shape=tuple(shape), nbytes=nbytes) for name, dtype, shape, nbytes in told["tensors"]
        }
        self.notes: tuple[str, ...] = tuple(told["notes"])
        self.digest: str | None = told["digest"]
        self.verified: bool = told["verified"]
        self._handles: dict[str, int] = {}
        self._lock = threading.Lock()

    def readinto(self, name: str, start: int, buffer: memoryview) -> None:
        with self._lock:
            if name not in self._handles:
                self._handles[name] = self._desk.ask("tensor", [self._number, name])
        self._desk.fill(self._handles[name], start, buffer)
