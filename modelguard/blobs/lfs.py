"""Git LFS pointers (git-lfs specification v1): the text that stands in the tree in place of a large file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from modelguard.blobs.base import Blob

POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-\d-[\w.-]+ [^\n]{1,200}\n)*oid sha256:([0-9a-f]{64})\nsize (\d{1,18})\n?"
)


@dataclass(frozen=True, slots=True)
class Pointer:
    """The object that a pointer stands for: sha256 of its content, and its size in bytes."""

    oid: str
    size: int


class Objects(Protocol):
    """Where the objects behind pointers are had when they are not at hand."""

    def fetch(self, pointer: Pointer, name: str) -> Blob:
        """The object behind a pointer. Raises CannotFetch."""
        ...

    def parts(self, pointer: Pointer, name: str) -> Blob:
        """The object behind a pointer, of which little will be read, and which is not verified. Raises CannotFetch."""
        ...


def parse_pointer(data: bytes) -> Pointer | None:
    """The pointer that a file is, or None when it is something else."""
    match = POINTER.fullmatch(data)
    return Pointer(match[1].decode(), int(match[2])) if match else None
