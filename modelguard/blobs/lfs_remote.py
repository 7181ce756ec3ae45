"""The LFS server of the repository under audit: objects whole while they fit into the download limit, in parts beyond it."""

from __future__ import annotations

import base64
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from modelguard.blobs.base import Blob
from modelguard.blobs.http import Client, Reachable, origin, shown, trusted_origins
from modelguard.blobs.lfs import Pointer
from modelguard.blobs.lfs_batch import HOSTS, Store
from modelguard.blobs.local import LocalBlob
from modelguard.errors import BadRequest

OWN_SERVER, OWN_TOKEN = "MODELGUARD_LFS_URL", "MODELGUARD_LFS_TOKEN"

Progress = Callable[[str, int, int], None]


class LfsRemote:
    """A store with a limit. Whole objects are held against their sha256 and kept; parts are not verified, and say so."""

    def __init__(self, store: Store, *, max_download: int, progress: Progress | None = None) -> None:
        self._store, self._left, self._progress = store, max_download, progress
        self._kept: dict[str, LocalBlob] = {}
        self._lock = threading.Lock()

    def fetch(self, pointer: Pointer, name: str) -> Blob:
        """The object behind a pointer. Raises CannotFetch."""
        with self._lock:
            kept = self._kept.get(pointer.oid)
            if kept is not None:
                return kept
            if pointer.size > self._left:
                return self.parts(pointer, name)
            blob = self._store.whole(pointer, name, Path(tempfile.gettempdir()), self._progress)
            self._left -= pointer.size
            self._kept[pointer.oid] = blob
            return blob

    def parts(self, pointer: Pointer, name: str) -> Blob:
        """The object behind a pointer, read in ranges. Raises CannotFetch."""
        return self._store.parts(pointer, name)


def store_at(endpoint: str, token: str, environ: Mapping[str, str]) -> Store:
    """The LFS server at an address that the operator or the runner names; `token` is sent there and nowhere else. Raises BadRequest.

    Objects may lie on the same host, on GitHub's, and on the origins that MODELGUARD_TRUSTED_ORIGINS names.
    """
    parts = urlsplit(endpoint)
    trusted = trusted_origins(environ) | {origin(endpoint)}
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise BadRequest(f"{shown(endpoint)!a} is no Git LFS server", advice="write https://host/organisation/name.git/info/lfs")
    if parts.scheme == "http" and origin(endpoint) not in trusted_origins(environ):
        reason = f"{shown(endpoint)!a}: plain http can be changed on its way"
        raise BadRequest(reason, advice="name its origin in MODELGUARD_TRUSTED_ORIGINS if it is yours")
    secret = {"Authorization": "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()} if token else {}
    client = Client(Reachable(hosts=HOSTS | {parts.hostname}, operators=trusted))
    return Store(endpoint=endpoint, client=client, secret=secret)


def store_of_job(environ: Mapping[str, str], token: str) -> Store | None:
    """The LFS server of the repository that a workflow runs in, or the one that its operator names in MODELGUARD_LFS_URL.

    None outside a workflow. The workflow's token goes to GitHub alone; another server gets MODELGUARD_LFS_TOKEN. Raises BadRequest.
    """
    if environ.get(OWN_SERVER):
        return store_at(environ[OWN_SERVER], environ.get(OWN_TOKEN, ""), environ)
    server, repository = environ.get("GITHUB_SERVER_URL", "").rstrip("/"), environ.get("GITHUB_REPOSITORY", "")
    return store_at(f"{server}/{repository}.git/info/lfs", token, environ) if server and repository else None
