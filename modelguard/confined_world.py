"""What evidence is collected from in a process without secrets: every file is opened, and every name looked up, by the parent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from modelguard.blobs.base import SMALL_FILE_BYTES, Blob, Folder, read_small
from modelguard.confinement.data import decode, encode
from modelguard.confinement.inside import Desk
from modelguard.confinement.offered import OfferedBlob, OfferedFolder
from modelguard.errors import BadRequest
from modelguard.known_models import Place
from modelguard.types.changes import BaseReference, TreeEntry
from modelguard.types.registry import Entry
from modelguard.world import Progress


@dataclass(frozen=True, kw_only=True)
class ConfinedWorld:
    """The world as the child has it."""

    desk: Desk
    tree: Mapping[str, TreeEntry]
    committed: float | None
    offline: bool
    activations: str
    registry: Place | None
    headers_only: bool = False
    confined: bool = True

    @property
    def progress(self) -> Progress:
        return self.desk.progress

    def folder(self, directory: str) -> Folder:
        """A directory of the head."""
        return OfferedFolder(self.desk, self.desk.ask("head", directory))

    def folder_before(self, directory: str) -> Folder:
        """A directory of the merge base."""
        return OfferedFolder(self.desk, self.desk.ask("before", directory))

    def base(self, reference: BaseReference) -> Folder:
        """A model of the hub."""
        return OfferedFolder(self.desk, self.desk.ask("base", encode(reference)))

    def open(self, path: str) -> Blob:
        """A file of the head."""
        return OfferedBlob(self.desk, *self.desk.ask_for_file("file", path))

    def read(self, path: str) -> bytes:
        """A small file of the head."""
        return read_small(self.open(path), SMALL_FILE_BYTES)


class ConfinedStore:
    """The registry as the child has it: entries by name and by shape, private ones under their alias, and nothing to write."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @property
    def where(self) -> str:
        return str(self._desk.ask("registry", None)[0])

    def count(self) -> int:
        return int(self._desk.ask("registry", None)[1])

    def get(self, name: str) -> Entry | None:
        """The entry of that name or alias."""
        entry: Entry | None = decode(Entry | None, self._desk.ask("entry", name))
        return entry

    def entries(self, *, method: str = "", shape: str = "") -> Iterator[Entry]:
        """All entries, or those of one method and shape."""
        number = 0
        while page := self._desk.ask("entries", [method, shape, number]):
            yield from (decode(Entry, item) for item in page)
            number += 1

    def add(self, entries: Iterable[Entry], *, replacing: bool = False) -> int:
        """Refused."""
        self._refuse()

    def rename(self, name: str, alias: str) -> None:
        """Refused."""
        self._refuse()

    def remove(self, name: str) -> None:
        """Refused."""
        self._refuse()

    def close(self) -> None:
        """The parent closes it."""

    def _refuse(self) -> NoReturn:
        raise BadRequest("a registry is not written to while evidence is collected")


def world_of(told: Mapping[str, Any], desk: Desk) -> ConfinedWorld:
    """The world that the parent tells of."""
    tree = {path: TreeEntry(path=path, mode=mode, oid=oid, size=size) for path, (mode, oid, size) in told["tree"].items()}
    store = ConfinedStore(desk) if told["registry"] else None
    return ConfinedWorld(
        desk=desk,
        tree=tree,
        committed=told["committed"],
        offline=told["offline"],
        activations=told["activations"],
        registry=Place(address=told["registry"], store=store) if store is not None else None,
    )
