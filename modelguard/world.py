"""What an audit may reach: a repository at two commits, the hub within limits, and a registry of known models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from modelguard.blobs.base import SMALL_FILE_BYTES, Blob, Folder, Stating, read_small
from modelguard.blobs.git_object import GitFolder, open_entry
from modelguard.blobs.lfs import Objects
from modelguard.declared_bases import BasePlace, place_of
from modelguard.git import Git
from modelguard.known_objects import KnownObjects, Places
from modelguard.policy import Policy
from modelguard.types.changes import BaseReference, TreeEntry

if TYPE_CHECKING:
    from modelguard.known_models import Place

Progress = Callable[[str, int, int], None]


def silent(_what: str, _done: int, _total: int) -> None:
    """Shows nothing."""


class HeadFolder(Stating, Protocol):
    """A directory of the head, whose files may be pointers."""

    def at_hand(self, name: str) -> bool:
        """Whether a file can be read without asking a server."""
        ...


class Outside(Protocol):
    """What evidence is collected from, whoever opens the files: this process, or another that keeps the tokens."""

    @property
    def tree(self) -> Mapping[str, TreeEntry]: ...
    @property
    def before_tree(self) -> Mapping[str, TreeEntry]: ...
    @property
    def committed(self) -> float | None: ...
    @property
    def offline(self) -> bool: ...
    @property
    def activations(self) -> str: ...
    @property
    def registry(self) -> Place | None: ...
    @property
    def headers_only(self) -> bool: ...
    @property
    def confined(self) -> bool:
        """Whether this process is the one without secrets."""
        ...

    @property
    def progress(self) -> Progress: ...
    def folder(self, directory: str, places: Places | None = None) -> HeadFolder:
        """A directory of the head. Objects behind pointers that are a base's own files come from `places`, where that is given."""
        ...

    def folder_before(self, directory: str) -> Folder:
        """A directory of the merge base."""
        ...

    def base(self, reference: BaseReference, policy: Policy) -> BasePlace:
        """The place of a model of the hub. Raises CannotFetch."""
        ...

    def open(self, path: str) -> Blob:
        """A file of the head."""
        ...

    def open_before(self, path: str) -> Blob:
        """A file of the merge base."""
        ...

    def read(self, path: str) -> bytes:
        """A small file of the head."""
        ...


@dataclass(frozen=True, kw_only=True)
class World:
    """What an audit may reach: a repository at two commits, and the hub within limits."""

    git: Git
    head: str
    tree: Mapping[str, TreeEntry]
    before: str
    before_tree: Mapping[str, TreeEntry]
    worktree: Path | None = None
    committed: float | None = None  # when the head was, in unix seconds
    offline: bool = False
    max_download: int = 20 << 30
    activations: str = "auto"
    registry: Place | None = None
    objects: Objects | None = None  # Git LFS objects that are not at hand
    hub_token: str = field(default="", repr=False)  # for bases that policy or the operator names, and no others
    headers_only: bool = False  # the hook: headers, papers and logs, no weights and no network
    confined: bool = False
    progress: Progress = field(default=silent)

    def folder(self, directory: str, places: Places | None = None) -> GitFolder:
        """A directory of the head. Objects behind pointers that are a base's own files come from `places`, where that is given."""
        ref, verify = f"git:{self.head[:12]}:{directory or '.'}", not self.headers_only
        objects = self.objects if places is None else KnownObjects(places, self.objects)
        return GitFolder(self.git, self.tree, directory, ref=ref, worktree=self.worktree, verify=verify, objects=objects)

    def folder_before(self, directory: str) -> Folder:
        """A directory of the merge base."""
        return GitFolder(self.git, self.before_tree, directory, ref=f"git:{self.before[:12]}:{directory or '.'}", objects=self.objects)

    def base(self, reference: BaseReference, policy: Policy) -> BasePlace:
        """The place of a model of the hub; what is read of it stays within the limits. Raises CannotFetch."""
        return place_of(reference, self, policy)

    def read(self, path: str) -> bytes:
        """A small file of the head."""
        return read_small(self.open(path), SMALL_FILE_BYTES)

    def open(self, path: str) -> Blob:
        """A file of the head."""
        return open_entry(self.git, self.tree[path], self.worktree, objects=self.objects)

    def open_before(self, path: str) -> Blob:
        """A file of the merge base."""
        return open_entry(self.git, self.before_tree[path], None, objects=self.objects)
