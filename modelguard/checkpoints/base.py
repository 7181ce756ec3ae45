"""The format contract: a checkpoint is tensors by name, whose bytes can be read in pieces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Protocol

from modelguard.blobs.base import Blob


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a header says of one tensor. `dtype` is the format's own name (safetensors spelling), `shape` in entries."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def entries(self) -> int:
        return prod(self.shape)


class Checkpoint(Protocol):
    """Tensors by name, row-major and little-endian."""

    @property
    def ref(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...
    @property
    def notes(self) -> tuple[str, ...]:
        """Oddities of the file that are legal but worth saying."""
        ...

    @property
    def digest(self) -> str | None:
        """`sha256:…` of the content where the transport vouches for it."""
        ...

    @property
    def verified(self) -> bool: ...
    def readinto(self, name: str, start: int, buffer: memoryview) -> None:
        """Fills `buffer` with the tensor's bytes from byte `start` of its data. Safe to call from several threads."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OneFile:
    """Tensors whose bytes lie in one file, each in one piece: `starts` says from which byte on."""

    blob: Blob
    tensors: Mapping[str, TensorInfo]
    starts: Mapping[str, int]
    notes: tuple[str, ...]
    format: str

    @property
    def ref(self) -> str:
        return self.blob.name

    @property
    def digest(self) -> str | None:
        return f"sha256:{self.blob.sha256}" if self.blob.sha256 else None

    @property
    def verified(self) -> bool:
        return self.blob.verified

    def readinto(self, name: str, start: int, buffer: memoryview) -> None:
        self.blob.readinto(self.starts[name] + start, buffer)


def parameters(checkpoint: Checkpoint) -> int:
    """Number of entries of all tensors."""
    return sum(tensor.entries for tensor in checkpoint.tensors.values())


def nbytes(checkpoint: Checkpoint) -> int:
    """Number of bytes of all tensors."""
    return sum(tensor.nbytes for tensor in checkpoint.tensors.values())
