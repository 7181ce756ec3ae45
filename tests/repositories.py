"""Real git repositories in a few lines: commits are made of objects, so a path may be anything that git itself takes."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelguard.types.changes import ModelChange, TreeEntry


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Submodule:
    """A submodule at a commit that is not here."""

    commit: str = "1234567890" * 4


@dataclass(frozen=True)
class Object:
    """A file entry of the tree that names any object, right or wrong."""

    oid: str


Content = bytes | Link | Submodule | Object | None  # None removes


class Repository:
    """A repository that is written through its index alone; nothing is checked out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        """What a git command prints; it must succeed."""
        done = subprocess.run(("git", "-C", str(self.path), *arguments), input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def blob(self, content: bytes) -> str:
        """Stores an object."""
        return self.git("hash-object", "-w", "--stdin", stdin=content)

    def stage(self, files: Mapping[str, Content]) -> None:
        """Puts files into the index."""
        lines = b"".join(self._entry(content) + b"\t" + path.encode("utf-8", "surrogateescape") + b"\0" for path, content in files.items())
        self.git("update-index", "-z", "--index-info", stdin=lines)

    def commit(self, files: Mapping[str, Content]) -> str:
        """Commits the index with these changes on top of HEAD. The commit's id."""
        self.stage(files)
        self.git("commit", "--quiet", "--no-verify", "--allow-empty", "--message", "a change")
        return self.git("rev-parse", "HEAD")

    def store(self, content: bytes, *, oid: str | None = None) -> bytes:
        """Puts content into the Git LFS store (under another name, to deceive) and gives its pointer."""
        name = oid or hashlib.sha256(content).hexdigest()
        path = self.path / ".git/lfs/objects" / name[:2] / name[2:4] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return pointer(content)

    def _entry(self, content: Content) -> bytes:
        match content:
            case None:
                return b"0 " + b"0" * 40
            case Link(target):
                return b"120000 " + self.blob(target.encode()).encode()
            case Submodule(commit):
                return b"160000 " + commit.encode()
            case Object(oid):
                return b"100644 " + oid.encode()
        return b"100644 " + self.blob(content).encode()


def pointer(content: bytes) -> bytes:
    """The Git LFS pointer of a content."""
    return pointer_to(hashlib.sha256(content).hexdigest(), len(content))


def pointer_to(oid: str, size: int) -> bytes:
    """A Git LFS pointer."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()


def tree_of(files: Mapping[str, bytes]) -> dict[str, TreeEntry]:
    """A tree as git would list it, for what looks at trees and never at objects."""
    return {
        path: TreeEntry(path=path, mode="100644", oid=hashlib.sha1(content).hexdigest(), size=len(content))
        for path, content in files.items()
    }


def by_subject(models: tuple[ModelChange, ...]) -> dict[str, ModelChange]:
    """Model changes by their subject."""
    return {model.subject: model for model in models}
