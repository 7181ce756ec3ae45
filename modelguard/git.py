"""The one way to git: trees and blobs of commits, read as data. Nothing is checked out, smudged or run."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from modelguard.errors import BadRequest, CannotFetch, CannotRead
from modelguard.types.changes import ChangedFile, TreeEntry

REGULAR_MODES = ("100644", "100755")
MAX_SPOOL_BYTES = 32 << 30
CHUNK = 1 << 20
ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


class Git:
    """A repository. Objects are read through one long-lived `git cat-file --batch`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        options = ("-c", f"safe.directory={path.resolve()}", "-c", "core.quotepath=off", "-c", "core.fsmonitor=false")
        self._command = ("git", "-C", str(path), *options, "-c", "core.hooksPath=/dev/null")
        self._lock = threading.Lock()
        self._batch: subprocess.Popen[bytes] | None = None
        self.directory = Path(self._text("rev-parse", "--absolute-git-dir"))

    def resolve(self, revision: str) -> str:
        """The commit that a revision names. Raises BadRequest."""
        try:
            return self._text("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        except BadRequest:
            raise BadRequest(
                f"{revision!a} names no commit in {self.path}", advice="fetch it first (actions/checkout: fetch-depth: 0)"
            ) from None

    def merge_base(self, base: str, head: str) -> str:
        """The commit from which head forked off base. Raises BadRequest when the history at hand does not show it."""
        try:
            return self._text("merge-base", base, head)
        except BadRequest:
            message = f"no merge base of {base[:12]} and {head[:12]} in {self.path}"
            raise BadRequest(message, advice="fetch the whole history (actions/checkout: fetch-depth: 0)") from None

    def tree(self, commit: str) -> Mapping[str, TreeEntry]:
        """Every file of a commit by path, symbolic links and submodules included: their mode tells them apart."""
        output = self._run("ls-tree", "-rlz", "--full-tree", commit)
        return {entry.path: entry for entry in map(_entry, filter(None, output.split(b"\0")))}

    def index(self) -> Mapping[str, TreeEntry]:
        """Every file that is staged, as `tree` gives them."""
        return self.tree(self._text("write-tree"))

    def staged(self) -> tuple[str, ...]:
        """Paths whose staged content differs from HEAD, without reading any object."""
        against = self.head() or self._text("hash-object", "-t", "tree", "/dev/null")
        output = self._run("diff-index", "--cached", "--name-only", "-z", "--no-renames", against)
        return tuple(path.decode("utf-8", "surrogateescape") for path in output.split(b"\0") if path)

    def changed(self, before: str, after: str) -> tuple[ChangedFile, ...]:
        """What differs between two commits, path by path; a rename is a removal and an addition."""
        old, new = self.tree(before), self.tree(after)
        paths = sorted(path for path in old.keys() | new.keys() if _content(old.get(path)) != _content(new.get(path)))
        return tuple(ChangedFile(path=path, before=old.get(path), after=new.get(path)) for path in paths)

    def read(self, oid: str, limit: int) -> bytes:
        """A small object whole. Raises CannotRead when it is larger than `limit`."""
        with self._lock:
            size = self._request(oid)
            if size > limit:
                self._discard(size + 1)
                raise CannotRead(f"git object {oid[:12]}: {size} bytes, more than the {limit} that are read of such a file")
            data = self._stdout.read(size + 1)
        return data[:size]

    def head_of(self, oid: str, length: int) -> bytes:
        """The first bytes of an object. (cat-file cannot stop midway: the rest is read and dropped.)"""
        with self._lock:
            size = self._request(oid)
            data = self._stdout.read(min(length, size))
            self._discard(size + 1 - len(data))
        return data

    def spool(self, oid: str) -> int:
        """Copies an object to an unlinked temporary file, piece by piece, and gives its descriptor: cat-file cannot seek."""
        with self._lock, tempfile.TemporaryFile(prefix="modelguard-") as file:
            size = self._request(oid)
            if size > MAX_SPOOL_BYTES:
                self._discard(size + 1)
                raise CannotRead(f"git object {oid[:12]}: {size} bytes, too large to spool", advice="keep weights in Git LFS")
            left = size
            while left:
                piece = self._stdout.read(min(left, CHUNK))
                if not piece:
                    raise CannotRead(f"git object {oid[:12]}: cut short by git", advice="run `git fsck`")
                file.write(piece)
                left -= len(piece)
            self._stdout.read(1)
            file.flush()
            return os.dup(file.fileno())

    def close(self) -> None:
        """Ends the helper process."""
        if self._batch is not None and self._batch.stdin and self._batch.stdout:
            self._batch.stdin.close()
            self._batch.stdout.close()
            self._batch.wait()
        self._batch = None

    @property
    def _stdout(self) -> IO[bytes]:
        if self._batch is None:
            self._batch = subprocess.Popen(
                (*self._command, "cat-file", "--batch"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
            )
        assert self._batch.stdout is not None
        return self._batch.stdout

    def _request(self, oid: str) -> int:
        """Asks the batch process for an object; its content and a newline are then to be read. The size in bytes."""
        stdout = self._stdout
        assert self._batch is not None
        assert self._batch.stdin is not None
        self._batch.stdin.write(oid.encode("ascii") + b"\n")
        self._batch.stdin.flush()
        answer = stdout.readline().split()
        if len(answer) != 3 or answer[1] != b"blob":
            raise CannotFetch(f"git object {oid[:12]} is not in {self.path}", advice="fetch it first (a partial clone lacks blobs)")
        return int(answer[2])

    def _discard(self, count: int) -> None:
        while count > 0:
            count -= len(self._stdout.read(min(count, CHUNK)))

    def head(self) -> str:
        """The commit of HEAD; "" in a repository that has none yet."""
        try:
            return self.resolve("HEAD")
        except BadRequest:
            return ""

    def _text(self, *arguments: str) -> str:
        return self._run(*arguments).decode("utf-8", "replace").strip()

    def _run(self, *arguments: str) -> bytes:
        try:
            done = subprocess.run((*self._command, *arguments), capture_output=True, env=_environment(), check=False)
        except FileNotFoundError as error:
            raise BadRequest("git is not installed", advice="install git") from error
        if done.returncode:
            reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise BadRequest(f"git {arguments[0]} in {self.path}: {reason[-1][:200] if reason else 'failed'}")
        return done.stdout


def _environment() -> dict[str, str]:
    """The environment for git: nothing that redirects it to another repository or index than the one named."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key in ("GIT_INDEX_FILE", "GIT_EXEC_PATH")}
    return kept | ENVIRONMENT


def _entry(line: bytes) -> TreeEntry:
    meta, _, path = line.partition(b"\t")
    mode, _kind, oid, size = meta.split()
    number = 0 if size == b"-" else int(size)
    return TreeEntry(path=path.decode("utf-8", "surrogateescape"), mode=mode.decode(), oid=oid.decode(), size=number)


def _content(entry: TreeEntry | None) -> tuple[str, str] | None:
    return None if entry is None else (entry.mode, entry.oid)
