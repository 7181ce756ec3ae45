"""What an audit may reach: a repository at two commits, the hub within limits, and a registry of known models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from modelguard.blobs.base import SMALL_FILE_BYTES, Blob, Folder, read_small
from modelguard.blobs.git_object import GitFolder, open_entry
from modelguard.blobs.lfs import Objects
from modelguard.git import Git
from modelguard.types.changes import TreeEntry

if TYPE_CHECKING:
    from modelguard.known_models import Place

Progress = Callable[[str, int, int], None]


def silent(_what: str, _done: int, _total: int) -> None:
    """Shows nothing."""


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
    hub_token: str = field(default="", repr=False)
    activations: str = "auto"
    registry: Place | None = None
    objects: Objects | None = None  # Git LFS objects that are not at hand
    headers_only: bool = False  # the hook: headers, papers and logs, no weights and no network
    progress: Progress = field(default=silent)

    def folder(self, directory: str) -> GitFolder:
        """A directory of the head."""
        ref, verify = f"git:{self.head[:12]}:{directory or '.'}", not self.headers_only
        return GitFolder(self.git, self.tree, directory, ref=ref, worktree=self.worktree, verify=verify, objects=self.objects)

    def folder_before(self, directory: str) -> Folder:
        """A directory of the merge base."""
        return GitFolder(self.git, self.before_tree, directory, ref=f"git:{self.before[:12]}:{directory or '.'}", objects=self.objects)

    def read(self, path: str) -> bytes:
        """A small file of the head."""
        return read_small(self.open(path), SMALL_FILE_BYTES)

    def open(self, path: str) -> Blob:
        """A file of the head."""
        return open_entry(self.git, self.tree[path], self.worktree, objects=self.objects)
