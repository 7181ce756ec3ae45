"""Models of the Hugging Face hub: a name becomes one commit, its files come from the cache or the network, and are hashed before use."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from modelguard.blobs.base import Blob, Stated
from modelguard.blobs.hub_client import Listed, Place, Progress, Withheld, ask, explained, fetch
from modelguard.blobs.local import LocalBlob
from modelguard.errors import BadRequest, CannotFetch

NAME = re.compile(r"(?:[A-Za-z0-9](?:[\w.-]{0,94}\w)?/)?[A-Za-z0-9](?:[\w.-]{0,94}\w)?", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9][\w.-]{0,199}", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
FILE_NAME = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,254}")
MAX_FILES = 20_000
MAX_LISTING_BYTES = 16 << 20
CHUNK = 4 << 20

__all__ = ("HubFolder", "Withheld", "open_hub", "parse_reference")
Wanted = Callable[[str, int], bool]
Files = Mapping[str, Listed]


@dataclass(frozen=True, kw_only=True)
class HubFolder:
    """One commit of a model. Sizes come from the listing; a file is fetched when it is opened, up to the limit in all."""

    place: Place
    commit: str
    pinned: bool  # whether the reference itself named the commit
    files: Files
    max_download: int  # bytes
    progress: Progress | None = None
    sizes: Mapping[str, int] = field(init=False)
    _fetched: dict[str, int] = field(init=False, default_factory=dict)
    _blobs: dict[str, Blob] = field(init=False, default_factory=dict)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", {name: listed.size for name, listed in sorted(self.files.items())})

    @property
    def ref(self) -> str:
        return f"hf:{self.place.name}@{self.commit}"

    def open(self, name: str) -> Blob:
        """The file of that name, from the cache or fetched now, and checked once against its hash. Raises CannotFetch."""
        if name not in self.files:
            raise CannotFetch(f"{self.ref}: has no file {name[:80]!a}")
        with self._lock:
            if name not in self._blobs:
                self._blobs[name] = self._cached(name) or self._download(name)
            return self._blobs[name]

    def stated(self, name: str) -> Stated | None:
        """What the hub lists of a file that it keeps in Git LFS."""
        listed = self.files.get(name)
        return Stated(listed.sha256, listed.size) if listed is not None and listed.sha256 is not None else None

    def check_limit(self, names: Iterable[str]) -> None:
        """Raises CannotFetch when fetching these files as well would pass the limit; asked before their first byte."""
        missing = [name for name in names if not self._path(name).is_file()]
        total = sum(self._fetched.values()) + sum(self.sizes[name] for name in missing)
        if missing and total > self.max_download:
            what = missing[0] if len(missing) == 1 else f"{len(missing)} files"
            reason = f"{self.ref}: with {what} the download would be {total:,} bytes, the limit is {self.max_download:,}"
            raise CannotFetch(reason, advice="raise the download limit")

    def _path(self, name: str) -> Path:
        return self.place.snapshot(self.commit) / name

    def _cached(self, name: str) -> Blob | None:
        path = self._path(name)
        return self._checked(name) if path.is_file() else None

    def _download(self, name: str) -> Blob:
        what = f"{self.ref}/{name}"
        if self.place.offline:
            raise CannotFetch(f"{what}: no sound copy is in the cache, and the run is offline", advice="run once with the network")
        self.check_limit((name,))
        self._fetched[name] = self.sizes[name]
        fetch(self.place, self.commit, name, self.sizes[name], self.progress)
        blob = self._checked(name)
        if blob is None:
            raise CannotFetch(f"{what}: what arrived is not the file that the hub lists (hash or size differ)", advice="try again")
        return blob

    def _checked(self, name: str) -> Blob | None:
        """The copy of the cache, if it is the file that the hub lists. Any other is removed from the cache, never read."""
        path, listed = self._path(name), self.files[name]
        blob = LocalBlob(path, name=f"{self.ref}/{name}")
        digest = _digest(blob, listed)
        if blob.size != listed.size or digest != (listed.sha256 or listed.git):
            with explained(blob.name):
                path.resolve().unlink(missing_ok=True)
                path.unlink(missing_ok=True)
            return None
        blob.sha256, blob.verified = listed.sha256, digest is not None
        return blob


def open_hub(
    reference: str,
    *,
    revision: str | None,
    max_download: int,
    offline: bool,
    progress: Progress | None = None,
    wanted: Wanted | None = None,
    token: str | None = None,
) -> HubFolder:
    """The model that `reference` names, at one commit.

    A revision that is no commit (`main` where none is written) is resolved once. A commit whose listing is in the cache needs no
    network. `wanted(name, size)` says which files will be opened, so that too large a download is refused before its first byte.
    The token is sent only when the caller gives one: a name that a stranger wrote must not be measured with our permissions.
    Raises BadRequest for a reference outside the grammar, and CannotFetch for everything that hub, network or cache do.
    """
    name, written = parse_reference(reference if revision is None else f"{reference}@{revision}")
    place, asked = _place(name, token, offline), written or "main"
    commit, files = _resolve(place, asked)
    folder = HubFolder(place=place, commit=commit, pinned=commit == asked, files=files, max_download=max_download, progress=progress)
    if wanted is not None and not place.offline:
        folder.check_limit(file for file, size in folder.sizes.items() if wanted(file, size))
    return folder


def parse_reference(text: str) -> tuple[str, str | None]:
    """`hf:org/name@revision`, `org/name` or `name` as (name, revision). Raises BadRequest for anything else: no address, no path."""
    name, at, revision = text.removeprefix("hf:").partition("@")
    sound = NAME.fullmatch(name) and not re.search(r"\.\.|--|\.git$", name)
    if not sound or (at and (not REVISION.fullmatch(revision) or ".." in revision)):
        raise BadRequest(f"{text[:80]!a} names no model of the hub", advice="write hf:organisation/name@revision")
    return name, revision or None


def _place(name: str, token: str | None, offline: bool) -> Place:
    """The environment is read now, not when the client was imported."""
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # its warnings name addresses, signed ones too
    home = os.environ.get("HF_HOME")
    cache = os.environ.get("HF_HUB_CACHE") or (str(Path(home) / "hub") if home else constants.HF_HUB_CACHE)
    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    try:
        parts = urlsplit(endpoint)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise BadRequest("HF_ENDPOINT is no address of a hub", advice="write it like https://host")
    offline = offline or bool(constants.HF_HUB_OFFLINE)
    return Place(name=name, endpoint=endpoint, cache=Path(cache).expanduser(), token=token or False, offline=offline)


def _resolve(place: Place, asked: str) -> tuple[str, Files]:
    """The commit that a revision names, and its files."""
    named = COMMIT.fullmatch(asked) is not None
    stored = _stored(place, asked) if named else None
    if stored:
        return asked, stored
    if place.offline:
        return _offline(place, asked)
    try:
        commit, files = _online(place, asked)
    except CannotFetch:
        present = _present(place, asked) if named else {}
        if present:  # another tool of this machine brought this very commit
            return asked, present
        raise
    _remember(place, asked, commit, files)
    return commit, files


def _online(place: Place, asked: str) -> tuple[str, Files]:
    commit, everything = ask(place, asked)
    files = {name: listed for name, listed in everything.items() if _sound(name, listed)}
    moved = COMMIT.fullmatch(asked) and commit != asked
    if not COMMIT.fullmatch(commit) or moved or not files or len(everything) > MAX_FILES:
        raise CannotFetch(f"hf:{place.name}@{asked}: the hub names no commit with files for it", advice="check the reference")
    return commit, files


def _offline(place: Place, asked: str) -> tuple[str, Files]:
    """What the cache alone says; the commit of a branch is the one that was seen last."""
    reference = place.folder / "refs" / asked
    branch = reference.read_bytes()[:64].decode("ascii", "replace").strip() if reference.is_file() else ""
    commit = asked if COMMIT.fullmatch(asked) else branch
    files = (_stored(place, commit) or _present(place, commit)) if COMMIT.fullmatch(commit) else {}
    if not files:
        raise CannotFetch(f"hf:{place.name}@{asked}: is not in the cache, and the run is offline", advice="run once with the network")
    return commit, files


def _present(place: Place, commit: str) -> Files:
    """The files of a snapshot that another tool fetched. There, each is a link to a blob that is named by its hash."""
    snapshot = place.snapshot(commit)
    entries = sorted(entry for entry in snapshot.iterdir() if entry.is_file()) if snapshot.is_dir() else []
    return {entry.name: _linked(entry) for entry in entries}


def _linked(entry: Path) -> Listed:
    digest = entry.readlink().name if entry.is_symlink() else ""
    sha256 = digest if SHA256.fullmatch(digest) else None
    return Listed(size=entry.stat().st_size, sha256=sha256, git=digest if COMMIT.fullmatch(digest) else None)


def _stored(place: Place, commit: str) -> Files | None:
    """The listing of a commit as it was remembered. A commit never changes, so it holds for ever."""
    path = place.listing(commit)
    if not path.is_file() or path.stat().st_size > MAX_LISTING_BYTES:
        return None
    try:
        files = msgspec.json.decode(path.read_bytes(), type=dict[str, Listed])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # it is only a cache: asking again puts it right
    return files if all(_sound(name, listed) for name, listed in files.items()) else None


def _remember(place: Place, asked: str, commit: str, files: Files) -> None:
    contents = {place.listing(commit): msgspec.json.encode(dict(files))}
    if asked != commit:
        contents[place.folder / "refs" / asked] = commit.encode()
    with explained(f"hf:{place.name}@{asked}"):
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
            temporary.write_bytes(content)
            temporary.replace(path)


def _sound(name: str, listed: Listed) -> bool:
    """Whether a listing's line is a file at the top of a model, with hashes that are hashes."""
    hashes = listed.sha256 is None or SHA256.fullmatch(listed.sha256), listed.git is None or COMMIT.fullmatch(listed.git)
    return bool(FILE_NAME.fullmatch(name)) and listed.size >= 0 and all(hashes)


def _digest(blob: LocalBlob, listed: Listed) -> str | None:
    """The hash of a file, of the kind that the hub lists for it; None where it lists none."""
    if listed.sha256 is None and listed.git is None:
        return None
    header = b"blob %d\0" % blob.size  # git's object id is the sha1 of this and the content
    digest = hashlib.sha256() if listed.sha256 is not None else hashlib.sha1(header, usedforsecurity=False)
    buffer = bytearray(CHUNK)
    for start in range(0, blob.size, CHUNK):
        piece = memoryview(buffer)[: min(CHUNK, blob.size - start)]
        blob.readinto(start, piece)
        digest.update(piece)
    return digest.hexdigest()
