"""The one way to git: trees and blobs of commits, read as data. Nothing is checked out, smudged or run."""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from modelguard.errors import BadRequest, CannotFetch, CannotRead
from modelguard.types.changes import ChangedFile, TreeEntry

REGULAR_MODES = ("100644", "100755")
MAX_SPOOL_BYTES = 32 << 30
CHUNK = 1 << 20
SMALL, MAX_KEPT = 1024, 4096  # bytes of an object that is kept once it was read (a pointer is asked for again and again), and how many are
ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
# A blob that a partial clone lacks would be fetched the way the repository's own configuration says, by any command that stands there.
ENVIRONMENT |= {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": ""}
ENVIRONMENT |= {"GIT_NO_REPLACE_OBJECTS": "1"}  # an object is what its id says, whatever refs/replace would put in its place


class Git:
    """A repository. Objects are read through one long-lived `git cat-file --batch`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        options = ("-c", f"safe.directory={path.resolve()}", "-c", "core.quotepath=off", "-c", "core.fsmonitor=false")
        self._command = ("git", "-C", str(path), *options, "-c", "core.hooksPath=/dev/null")
        self._lock = threading.Lock()
        self._batch: _Batch | None = None
        self._kept: dict[str, bytes] = {}  # small objects by id, which never change
        self.directory = Path(self._text("rev-parse", "--path-format=absolute", "--git-common-dir"))

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
        entries = [_entry(line) for line in output.split(b"\0") if line]
        tree = {entry.path: entry for entry in entries}
        if len(tree) != len(entries):  # who reads it might take the one or the other
            raise CannotRead(f"the tree of {commit[:12]} holds a path twice", advice="run `git fsck`")
        return tree

    def index(self) -> Mapping[str, TreeEntry]:
        """Every file that is staged, as `tree` gives them."""
        return self.tree(self._text("write-tree"))

    def empty_tree(self) -> str:
        """The tree without files, which git knows in every repository."""
        return self._text("hash-object", "-t", "tree", "/dev/null")

    def staged(self) -> tuple[str, ...]:
        """Paths whose staged content differs from HEAD, without reading any object."""
        against = self.head() or self.empty_tree()
        output = self._run("diff-index", "--cached", "--name-only", "-z", "--no-renames", against)
        return tuple(path.decode("utf-8", "surrogateescape") for path in output.split(b"\0") if path)

    def attributes(self, name: str, paths: Iterable[str]) -> Mapping[str, str]:
        """What the staged .gitattributes say of paths, for those of which they say anything."""
        asked = "".join(f"{path}\0" for path in paths).encode("utf-8", "surrogateescape")
        fields = self._run("check-attr", "--cached", "-z", "--stdin", name, stdin=asked).decode("utf-8", "surrogateescape").split("\0")
        return {path: value for path, value in zip(fields[0::3], fields[2::3], strict=False) if value != "unspecified"}

    def changed(self, before: str, after: str) -> tuple[ChangedFile, ...]:
        """What differs between two commits, path by path; a rename is a removal and an addition."""
        old, new = self.tree(before), self.tree(after)
        paths = sorted(path for path in old.keys() | new.keys() if _content(old.get(path)) != _content(new.get(path)))
        return tuple(ChangedFile(path=path, before=old.get(path), after=new.get(path)) for path in paths)

    def read(self, oid: str, limit: int) -> bytes:
        """A small object whole. Raises CannotRead when it is larger than `limit`."""
        with self._object(oid) as (size, take):
            if size > limit:
                raise CannotRead(f"git object {oid[:12]}: {size} bytes, more than the {limit} that are read of such a file")
            return self._keep(oid, take(size), size)

    def head_of(self, oid: str, length: int) -> bytes:
        """The first bytes of an object."""
        with self._object(oid) as (size, take):
            return self._keep(oid, take(min(length, size)), size)

    def spool(self, oid: str) -> int:
        """Copies an object to an unlinked temporary file, piece by piece, and gives its descriptor: cat-file cannot seek."""
        with self._object(oid) as (size, take):
            if size > MAX_SPOOL_BYTES:
                raise CannotRead(f"git object {oid[:12]}: {size} bytes, too large to spool", advice="keep weights in Git LFS")
            try:
                with tempfile.TemporaryFile(prefix="modelguard-") as file:
                    for start in range(0, size, CHUNK):
                        file.write(take(min(CHUNK, size - start)))
                    file.flush()
                    return os.dup(file.fileno())
            except OSError as error:
                raise CannotRead(
                    f"git object {oid[:12]}: {size} bytes, not copied ({error.strerror})", advice="make room where TMPDIR points"
                ) from error

    def close(self) -> None:
        """Ends the helper process."""
        with self._lock:
            if self._batch is not None:
                self._batch.close()
            self._batch = None

    def _keep(self, oid: str, data: bytes, size: int) -> bytes:
        if len(data) == size <= SMALL and len(self._kept) < MAX_KEPT:
            self._kept[oid] = data
        return data

    @contextmanager
    def _object(self, oid: str) -> Iterator[tuple[int, Callable[[int], bytes]]]:
        """The size of an object, and what reads on in it. A process that an error left in the middle of an object is not used again."""
        if (kept := self._kept.get(oid)) is not None:
            yield len(kept), io.BytesIO(kept).read
            return
        with self._lock:
            batch, self._batch = self._batch or _Batch(self._command, self.path), None
            try:
                yield batch.request(oid), batch.take
            finally:
                if batch.drained():
                    self._batch = batch
                else:
                    batch.close()

    def committed(self, commit: str) -> float | None:
        """When a commit was made by its committer's clock, in unix seconds; None where it does not say."""
        said = self._said_of(commit, "%ct")
        return float(said) if said.isdecimal() else None

    def tree_of(self, commit: str) -> str:
        """The id of a commit's tree, which need not be here."""
        return self._said_of(commit, "%T")

    def head(self) -> str:
        """The commit of HEAD; "" in a repository that has none yet."""
        try:
            return self.resolve("HEAD")
        except BadRequest:
            return ""

    def _said_of(self, commit: str, form: str) -> str:
        """A line about a commit, for which no tree is read: some may not be here."""
        return self._text("rev-list", "--max-count=1", "--no-commit-header", f"--format={form}", commit)

    def _text(self, *arguments: str) -> str:
        return self._run(*arguments).decode("utf-8", "replace").strip()

    def _run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        try:
            done = subprocess.run((*self._command, *arguments), input=stdin, capture_output=True, env=_environment(), check=False)
        except FileNotFoundError as error:
            raise BadRequest("git is not installed", advice="install git") from error
        if done.returncode:
            reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise BadRequest(f"git {arguments[0]} in {self.path}: {reason[-1][:200] if reason else 'failed'}")
        return done.stdout


class _Batch:
    """One `git cat-file --batch`: object after object through one pipe, which shows no boundary to who loses count."""

    def __init__(self, command: tuple[str, ...], path: Path) -> None:
        self._path = path
        self._left = 0  # bytes of the current object that are still in the pipe, with the newline behind it
        self._process = subprocess.Popen(
            (*command, "cat-file", "--batch"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def request(self, oid: str) -> int:
        """Asks for an object, whose content is then to be taken. The size in bytes."""
        self._left = CHUNK + 1  # until the answer is understood
        try:
            self._stdin.write(oid.encode("ascii") + b"\n")
            self._stdin.flush()
        except BrokenPipeError:
            answer = []
        else:
            answer = self._stdout.readline().split()
        if not answer:
            raise CannotRead(f"git object {oid[:12]}: git ended", advice="run `git fsck`")
        self._left = int(answer[2]) + 1 if len(answer) == 3 else 0
        if len(answer) != 3 or answer[1] != b"blob":
            raise CannotFetch(f"git object {oid[:12]} is not in {self._path}", advice="fetch it first (a partial clone lacks blobs)")
        return int(answer[2])

    def take(self, count: int) -> bytes:
        """The next bytes of the object."""
        data = self._stdout.read(count)
        self._left -= len(data)
        if len(data) != count:
            self._left = CHUNK + 1
            raise CannotRead("git object: cut short by git", advice="run `git fsck`")
        return data

    def drained(self) -> bool:
        """Reads past the rest of the object where it is short. Whether the pipe stands before the next answer."""
        return self._left <= CHUNK and len(self._stdout.read(self._left)) == self._left

    def close(self) -> None:
        """Ends the process, wherever in an object it is."""
        self._process.kill()
        with self._process:
            pass

    def __del__(self) -> None:
        if hasattr(self, "_stdout"):
            self.close()


def _environment() -> dict[str, str]:
    """The environment for git: nothing that redirects it to another repository or index than the one named."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key in ("GIT_INDEX_FILE", "GIT_EXEC_PATH")}
    return kept | ENVIRONMENT


def _entry(line: bytes) -> TreeEntry:
    meta, _, path = line.partition(b"\t")
    mode, _kind, oid, size = meta.split()
    number = int(size) if size.isdigit() else 0  # "-" for what is no blob, "BAD" for a blob that is not here: reading it says so
    return TreeEntry(path=path.decode("utf-8", "surrogateescape"), mode=mode.decode(), oid=oid.decode(), size=number)


def _content(entry: TreeEntry | None) -> tuple[str, str] | None:
    return None if entry is None else (entry.mode, entry.oid)
