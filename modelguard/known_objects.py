"""Git LFS objects that are a declared base's own files, had from there: shards that a fine-tune leaves alone need no LFS server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modelguard.blobs.base import Blob, Stated
from modelguard.blobs.git_object import not_here
from modelguard.blobs.lfs import Objects, Pointer
from modelguard.declared_bases import BasePlace
from modelguard.types.findings import Missing


@dataclass(frozen=True, slots=True)
class KnownObjects:
    """Objects behind pointers: a base's file of the same sha256 and size, else whatever `others` have."""

    places: Callable[[], tuple[BasePlace, ...] | Missing]
    others: Objects | None

    def fetch(self, pointer: Pointer, name: str) -> Blob:
        """The object behind a pointer. Raises CannotFetch."""
        places, wanted = self.places(), Stated(pointer.oid, pointer.size)
        for place in () if isinstance(places, Missing) else places:
            same = next((file for file in place.folder.sizes if place.folder.stated(file) == wanted), None)
            if same is not None:
                return _Called(name, place.folder.open(same))
        if self.others is None:
            raise not_here(name)
        return self.others.fetch(pointer, name)

    def parts(self, pointer: Pointer, name: str) -> Blob:
        """The object behind a pointer, of which little will be read. Raises CannotFetch."""
        if self.others is None:
            raise not_here(name)
        return self.others.parts(pointer, name)


class _Called:
    """A blob under the name that the change gives it."""

    def __init__(self, name: str, blob: Blob) -> None:
        self.name, self.size = name, blob.size
        self.sha256, self.verified = blob.sha256, blob.verified
        self._blob = blob

    def readinto(self, start: int, buffer: memoryview) -> None:
        self._blob.readinto(start, buffer)
