"""Files of a commit: git objects, spooled once to an unlinked file because `cat-file` cannot seek, and Git LFS objects at hand."""

from __future__ import annotations

import hashlib
import os
import posixpath
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelguard.blobs.base import Blob, Stated, read
from modelguard.blobs.lfs import Objects, Pointer, parse_pointer
from modelguard.blobs.local import LocalBlob
from modelguard.errors import CannotFetch, CannotRead
from modelguard.git import REGULAR_MODES, Git
from modelguard.types.changes import TreeEntry

CHUNK = 4 << 20
POINTER_BYTES = 1024
WORTH_ASKING = 1 << 20  # bytes


class GitBlob:
    """One git object. Its name is its hash, so what is read is what the commit names."""

    sha256: str | None = None
    verified = True

    def __init__(self, git: Git, entry: TreeEntry, name: str) -> None:
        self.name = name
        self.size = entry.size
        self._git, self._oid = git, entry.oid
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def readinto(self, start: int, buffer: memoryview) -> None:
        with self._lock:
            if self._descriptor is None:
                self._descriptor = self._git.spool(self._oid)
        done = 0
        while done < len(buffer):
            count = os.preadv(self._descriptor, [buffer[done:]], start + done)
            if count == 0:
                raise CannotRead(f"{self.name}: ends before byte {start + len(buffer)}")
            done += count

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            os.close(self._descriptor)  # type: ignore[arg-type]


@dataclass(frozen=True)
class GitFolder:
    """One directory of a commit. Symbolic links and submodules are not files here: nothing leads out of the tree."""

    git: Git
    tree: Mapping[str, TreeEntry]
    directory: str
    ref: str
    worktree: Path | None = None
    verify: bool = True
    objects: Objects | None = None
    sizes: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        prefix = f"{self.directory}/" if self.directory else ""
        names = ((path[len(prefix) :], entry) for path, entry in self.tree.items() if path.startswith(prefix))
        sizes = {name: entry.size for name, entry in names if "/" not in name and entry.mode in REGULAR_MODES}
        object.__setattr__(self, "sizes", sizes)

    def open(self, name: str) -> Blob:
        path = posixpath.join(self.directory, name)
        if name not in self.sizes:
            raise CannotFetch(f"{path}: no such file in {self.ref}")
        return open_entry(self.git, self.tree[path], self.worktree, verify=self.verify, objects=self.objects)

    def stated(self, name: str) -> Stated | None:
        """What a Git LFS pointer of that name states of its object."""
        pointer = self._pointer(name)
        return None if pointer is None else Stated(pointer.oid, pointer.size)

    def at_hand(self, name: str) -> bool:
        """Whether a file can be read without asking a server."""
        pointer = self._pointer(name)
        entry = self.tree[posixpath.join(self.directory, name)]
        return pointer is None or _lfs_object(self.git, entry, pointer, self.worktree, verify=False) is not None

    def _pointer(self, name: str) -> Pointer | None:
        entry = self.tree[posixpath.join(self.directory, name)]
        return parse_pointer(self.git.read(entry.oid, POINTER_BYTES)) if entry.size < POINTER_BYTES else None


def open_entry(git: Git, entry: TreeEntry, worktree: Path | None, *, verify: bool = True, objects: Objects | None = None) -> Blob:
    """The content of a tree entry; behind a Git LFS pointer, the object from the repository's LFS store, the working tree, or `objects`.

    Such an object is held against the pointer's sha256 unless `verify` is off; then it is not `verified`, and says so.
    """
    if entry.size < 1024:
        pointer = parse_pointer(git.read(entry.oid, 1024))
        if pointer is not None:
            return _lfs_object(git, entry, pointer, worktree, verify) or _elsewhere(entry, pointer, objects)
    return GitBlob(git, entry, entry.path)


def first_bytes(git: Git, entry: TreeEntry, worktree: Path | None, length: int, objects: Objects | None = None) -> bytes:
    """The first bytes of a tree entry's content, of the object behind a Git LFS pointer where it is to be had, unverified.

    `objects` are asked about large ones only: a checkpoint under a picture's name is looked for, each small picture is not.
    """
    head = git.head_of(entry.oid, max(length, 1024))
    pointer = parse_pointer(head) if entry.size < 1024 else None
    if pointer is not None:
        try:
            blob = _lfs_object(git, entry, pointer, worktree, verify=False)
            if blob is None and objects is not None and pointer.size >= WORTH_ASKING:
                blob = objects.parts(pointer, entry.path)
        except CannotFetch:
            return head[:length]
        head = head if blob is None else read(blob, 0, min(length, blob.size))
    return head[:length]


def _lfs_object(git: Git, entry: TreeEntry, pointer: Pointer, worktree: Path | None, verify: bool) -> Blob | None:
    """The object behind a pointer where it is at hand."""
    stored = git.directory / "lfs" / "objects" / pointer.oid[:2] / pointer.oid[2:4] / pointer.oid
    candidates = [stored] if worktree is None else [stored, worktree / entry.path]
    for candidate in candidates:
        if candidate.is_file() and not candidate.is_symlink() and candidate.stat().st_size == pointer.size:
            blob = LocalBlob(candidate, name=entry.path)
            blob.verified = verify
            if not verify:
                return blob
            if _sha256(blob) == pointer.oid:
                blob.sha256 = pointer.oid
                return blob
    return None


def _elsewhere(entry: TreeEntry, pointer: Pointer, objects: Objects | None) -> Blob:
    if objects is None:
        raise not_here(entry.path)
    return objects.fetch(pointer, entry.path)


def not_here(name: str) -> CannotFetch:
    """Why a pointer alone cannot be read."""
    return CannotFetch(f"{name}: is a Git LFS pointer whose object is not here", advice="run `git lfs pull` for this file, then again")


def _sha256(blob: LocalBlob) -> str:
    digest, buffer = hashlib.sha256(), bytearray(CHUNK)
    for start in range(0, blob.size, CHUNK):
        piece = memoryview(buffer)[: min(CHUNK, blob.size - start)]
        blob.readinto(start, piece)
        digest.update(piece)
    return digest.hexdigest()
