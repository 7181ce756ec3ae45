"""Counts what is read of a checkpoint, so that a report can say what it rests on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from modelguard.checkpoints.base import Checkpoint, TensorInfo


class Metered:
    """A checkpoint that counts the bytes read of it, and tells `advance` of them."""

    def __init__(self, checkpoint: Checkpoint, advance: Callable[[int], None] | None = None) -> None:
        self._checkpoint = checkpoint
        self._advance = advance
        self._lock = threading.Lock()
        self.bytes_read = 0
        self.tensors: Mapping[str, TensorInfo] = checkpoint.tensors
        self.ref, self.format, self.notes = checkpoint.ref, checkpoint.format, checkpoint.notes
        self.digest, self.verified = checkpoint.digest, checkpoint.verified

    def readinto(self, name: str, start: int, buffer: memoryview) -> None:
        self._checkpoint.readinto(name, start, buffer)
        with self._lock:
            self.bytes_read += len(buffer)
        if self._advance is not None:
            self._advance(len(buffer))
