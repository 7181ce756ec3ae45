"""What evidence is collected from in a process without secrets: every file is opened, and every name looked up, by the parent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from modelguard.blobs.base import SMALL_FILE_BYTES, Blob, Folder, Stated, read_small
from modelguard.confinement.data import decode, encode
from modelguard.confinement.inside import Desk
from modelguard.confinement.offered import OfferedBlob, OfferedFolder
from modelguard.declared_bases import BasePlace
from modelguard.errors import BadRequest
from modelguard.known_models import Place
from modelguard.known_objects import Places
from modelguard.policy import Policy
from modelguard.types.activations import ActivationFingerprint
from modelguard.types.changes import BaseReference, TreeEntry
from modelguard.types.registry import Entry
from modelguard.world import Progress


class OfferedFiles(OfferedFolder):
    """A folder of which the parent also knows what is stated of its files."""

    def __init__(self, desk: Desk, told: Mapping[str, Any]) -> None:
        super().__init__(desk, told)
        self._files = told["files"]

    def stated(self, name: str) -> Stated | None:
        """What is stated of a file."""
        told = self._desk.ask("stated", [self._files, name])
        return None if told is None else Stated(told[0], told[1])

    def check_limit(self, names: Iterable[str]) -> None:
        """Raises CannotFetch when fetching these files as well would pass the limit."""
        self._desk.ask("limit", [self._files, list(names)])


class OfferedHead(OfferedFiles):
    """A directory of the head. What lies behind a pointer is looked for among the declared bases first, so these are opened before."""

    def __init__(self, desk: Desk, told: Mapping[str, Any], places: Places | None) -> None:
        super().__init__(desk, told)
        self._places = places

    def at_hand(self, name: str) -> bool:
        """Whether a file can be read without asking a server."""
        return bool(self._desk.ask("at-hand", [self._files, name]))

    def open(self, name: str) -> Blob:
        """A file."""
        if self._places is not None and name in self.sizes and not self.at_hand(name):
            self._places()
        return super().open(name)


@dataclass(frozen=True, kw_only=True)
class ConfinedWorld:
    """The world as the child has it."""

    desk: Desk
    tree: Mapping[str, TreeEntry]
    before_tree: Mapping[str, TreeEntry]
    committed: float | None
    offline: bool
    activations: str
    registry: Place | None
    headers_only: bool = False
    confined: bool = True

    @property
    def progress(self) -> Progress:
        return self.desk.progress

    def folder(self, directory: str, places: Places | None = None) -> OfferedHead:
        """A directory of the head."""
        return OfferedHead(self.desk, self.desk.ask("head", directory), places)

    def folder_before(self, directory: str) -> Folder:
        """A directory of the merge base."""
        return OfferedFolder(self.desk, self.desk.ask("before", directory))

    def base(self, reference: BaseReference, policy: Policy) -> BasePlace:
        """The place of a model of the hub."""
        told = self.desk.ask("base", encode(reference))
        return BasePlace(folder=OfferedFiles(self.desk, told["folder"]), entry=told["entry"], advice=told["advice"])

    def open(self, path: str) -> Blob:
        """A file of the head."""
        return OfferedBlob(self.desk, *self.desk.ask_for_file("file", path))

    def open_before(self, path: str) -> Blob:
        """A file of the merge base."""
        return OfferedBlob(self.desk, self.desk.ask("file-before", path))

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

    def with_activations(self) -> frozenset[str]:
        """Nothing: which entries have them is nobody's business here."""
        return frozenset()

    def activations(self, name: str) -> ActivationFingerprint | None:
        """What the model of an entry does on the probes, where that is kept."""
        made: ActivationFingerprint | None = decode(ActivationFingerprint | None, self._desk.ask("activations", name))
        return made

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
    store = ConfinedStore(desk) if told["registry"] else None
    return ConfinedWorld(
        desk=desk,
        tree=_tree(told["tree"]),
        before_tree=_tree(told["before_tree"]),
        committed=told["committed"],
        offline=told["offline"],
        activations=told["activations"],
        registry=Place(address=told["registry"], store=store) if store is not None else None,
    )


def _tree(told: Mapping[str, Any]) -> Mapping[str, TreeEntry]:
    return {path: TreeEntry(path=path, mode=mode, oid=oid, size=size) for path, (mode, oid, size) in told.items()}
