"""What the parent does for the child: it looks up and reads, with whatever it holds, and gives bytes and values only.

The child may have become anybody's. Each question is checked against what was offered, and there is an end to how much it may ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from modelguard.blobs.base import Blob, Folder
from modelguard.blobs.local import LocalBlob
from modelguard.checkpoints.base import Checkpoint
from modelguard.confinement.limits import Limits
from modelguard.confinement.wire import MAX_READ
from modelguard.errors import CannotRead, Malformed

MAX_HANDLES = 200_000
MAX_NAME = 4096
MAX_HANDED = 128  # fewer than a child may have open

Lookup = Callable[[Any], Any]


class Bytes(Protocol):
    """A file's or a tensor's bytes."""

    @property
    def size(self) -> int: ...
    def readinto(self, start: int, buffer: memoryview) -> None: ...


class _Tensor:
    """One tensor's bytes."""

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self._checkpoint, self._name = checkpoint, name
        self.size = checkpoint.tensors[name].nbytes

    def readinto(self, start: int, buffer: memoryview) -> None:
        self._checkpoint.readinto(self._name, start, buffer)


class Broker:
    """Answers a child. Where it `hands_over`, a file of this machine that was offered is handed over open, and read without us."""

    def __init__(self, limits: Limits, *, hands_over: bool = False) -> None:
        self._lookups: dict[str, Lookup] = {"open": self._open, "tensor": self._tensor}
        self._folders: list[Folder] = []
        self._checkpoints: list[Checkpoint] = []
        self._handles: list[Bytes] = []
        self._left, self._buffer = limits.served, bytearray()
        self._to_hand, self._handed = MAX_HANDED if hands_over else 0, -1
        self.walls: tuple[str, ...] = ()  # what holds the child, as it says itself before it sees anything of a stranger's

    def answers(self, question: str, lookup: Lookup) -> None:
        """Takes one more kind of question: what `lookup` gets is the child's word, what it gives is JSON data."""
        self._lookups[question] = lookup

    def folder(self, folder: Folder) -> dict[str, object]:
        """Offers a folder: what the child is told of it."""
        self._folders.append(folder)
        return {"number": len(self._folders) - 1, "ref": folder.ref, "sizes": dict(folder.sizes)}

    def checkpoint(self, checkpoint: Checkpoint) -> dict[str, object]:
        """Offers a checkpoint: what the child is told of it."""
        self._checkpoints.append(checkpoint)
        tensors = [[info.name, info.dtype, list(info.shape), info.nbytes] for info in checkpoint.tensors.values()]
        told = {"ref": checkpoint.ref, "format": checkpoint.format, "tensors": tensors, "notes": list(checkpoint.notes)}
        return told | {"digest": checkpoint.digest, "verified": checkpoint.verified, "number": len(self._checkpoints) - 1}

    def blob(self, blob: Blob) -> dict[str, object]:
        """Offers a file: what the child is told of it."""
        if self._to_hand and isinstance(blob, LocalBlob):
            self._to_hand, self._handed = self._to_hand - 1, blob.descriptor
        return {"handle": self._keep(blob), "name": blob.name, "size": blob.size, "sha256": blob.sha256, "verified": blob.verified}

    def look_up(self, question: object) -> Any:
        """What a question gives. Raises Malformed for one that is none, and whatever looking it up raises."""
        self._handed = -1
        if not isinstance(question, list) or len(question) != 2 or not isinstance(question[0], str) or question[0] not in self._lookups:
            raise Malformed("a question that nobody here answers")
        return self._lookups[question[0]](question[1])

    def handed(self) -> int | None:
        """The descriptor that goes with the last answer."""
        last, self._handed = self._handed, -1
        return last if last >= 0 else None

    def read(self, handle: int, start: int, length: int) -> memoryview:
        """Bytes of what was opened. Raises CannotRead."""
        if handle >= len(self._handles) or length > MAX_READ or start + length > self._handles[handle].size:
            raise CannotRead("bytes that were not offered")
        self._left -= length
        if self._left < 0:
            raise CannotRead("more bytes were asked for than any audit needs")
        if len(self._buffer) < length:
            self._buffer = bytearray(length)
        piece = memoryview(self._buffer)[:length]
        self._handles[handle].readinto(start, piece)
        return piece

    def _open(self, given: Any) -> dict[str, object]:
        number, name = named(given, len(self._folders))
        folder = self._folders[number]
        if name not in folder.sizes:
            raise CannotRead(f"{folder.ref}: has no file {name[:200]!a}")
        return self.blob(folder.open(name))

    def _tensor(self, given: Any) -> int:
        number, name = named(given, len(self._checkpoints))
        if name not in self._checkpoints[number].tensors:
            raise CannotRead("a tensor that was not offered")
        return self._keep(_Tensor(self._checkpoints[number], name))

    def _keep(self, what: Bytes) -> int:
        if len(self._handles) >= MAX_HANDLES:
            raise CannotRead("more files were asked for than any audit needs")
        self._handles.append(what)
        return len(self._handles) - 1


def named(given: Any, count: int) -> tuple[int, str]:
    """A number below `count` and a name, as a child gives them. Raises Malformed."""
    if not isinstance(given, list) or len(given) != 2 or type(given[0]) is not int or not 0 <= given[0] < count:
        raise Malformed("a place that was not offered")
    return given[0], text(given[1])


def text(given: Any) -> str:
    """A name as a child gives it. Raises Malformed."""
    if not isinstance(given, str) or len(given) > MAX_NAME:
        raise Malformed("a name that is none")
    return given
