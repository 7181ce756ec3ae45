"""Git LFS objects over the network: the batch API (git-lfs specification, api/batch.md), its answer held against what was asked.

The endpoint is the operator's: it is never read from the head's `.lfsconfig`. What the server answers is a claim, too: an object of
another name or size is refused, an address must lead to an allowed host, and of the headers that it wants sent, only those that
authorise are. An object that is read in ranges is not verified; one that is fetched whole is held against its name, its sha256.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelguard.blobs.http import Client, origin, refusal
from modelguard.blobs.lfs import Pointer
from modelguard.blobs.local import LocalBlob
from modelguard.blobs.ranges import RangeBlob
from modelguard.documents import json_object
from modelguard.errors import CannotFetch, Malformed

MEDIA = "application/vnd.git-lfs+json"
HOSTS = frozenset(  # where GitHub's LFS objects lie
    {
        "github-cloud.githubusercontent.com",
        "github-cloud.s3.amazonaws.com",
        "lfs.github.com",
        "media.githubusercontent.com",
        "objects.githubusercontent.com",
    }
)
AUTHORISING = ("authorization", "x-amz-")
CHUNK = 4 << 20

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The LFS server of one repository: its endpoint (`https://host/org/name.git/info/lfs`), and what authorises us there."""

    endpoint: str
    client: Client
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)

    def parts(self, pointer: Pointer, name: str) -> RangeBlob:
        """The object behind a pointer, to be read in ranges. Raises CannotFetch."""
        return RangeBlob(self.client, lambda _expired: self._address(pointer, name), name, size=pointer.size)

    def whole(self, pointer: Pointer, name: str, directory: Path, progress: Progress | None = None) -> LocalBlob:
        """The object behind a pointer as an unlinked file, held against its sha256. Raises CannotFetch."""
        url, secret = self._address(pointer, name)
        descriptor, place = tempfile.mkstemp(dir=directory, prefix="lfs-")
        try:
            with os.fdopen(descriptor, "wb") as out, self.client.ask(url, secret=secret) as answer:
                if answer.status != 200:
                    raise refusal(answer)
                self._copy(answer.into, pointer, name, out.write, progress)
            blob = LocalBlob(Path(place), name=name)
        finally:
            Path(place).unlink(missing_ok=True)  # the open file stays readable
        blob.sha256 = pointer.oid
        return blob

    def _copy(
        self, into: Callable[..., None], pointer: Pointer, name: str, write: Callable[[memoryview], object], progress: Progress | None
    ) -> None:
        digest, buffer = hashlib.sha256(), memoryview(bytearray(min(CHUNK, max(1, pointer.size))))
        for start in range(0, pointer.size, CHUNK):
            piece = buffer[: min(CHUNK, pointer.size - start)]
            into(piece, last=start + len(piece) == pointer.size)
            digest.update(piece)
            write(piece)
            if progress is not None:
                progress(f"fetching {name}", start + len(piece), pointer.size)
        if digest.hexdigest() != pointer.oid:
            raise CannotFetch(f"{name}: what the LFS server sends is not the object that the pointer names", advice="push the object again")

    def _address(self, pointer: Pointer, name: str) -> tuple[str, Mapping[str, str]]:
        """Where the object lies, and the headers that authorise us there."""
        asked = {"operation": "download", "transfers": ["basic"], "hash_algo": "sha256"}
        body = json.dumps({**asked, "objects": [{"oid": pointer.oid, "size": pointer.size}]}).encode()
        headers = {"Accept": MEDIA, "Content-Type": MEDIA}
        with self.client.ask(f"{self.endpoint.rstrip('/')}/objects/batch", headers=headers, secret=self.secret, body=body) as answer:
            if answer.status != 200:
                raise refusal(answer)
            told = json_object(answer.text(), f"{name}: the answer of the LFS server")
        return self._checked(told, pointer, name)

    def _checked(self, told: Mapping[str, Any], pointer: Pointer, name: str) -> tuple[str, Mapping[str, str]]:
        objects = told.get("objects")
        found = objects[0] if isinstance(objects, list) and len(objects) == 1 and isinstance(objects[0], dict) else {}
        if "error" in found:
            raise CannotFetch(f"{name}: the LFS server does not have the object that the pointer names", advice="push it with git lfs push")
        if (found.get("oid"), found.get("size")) != (pointer.oid, pointer.size) or told.get("transfer", "basic") != "basic":
            raise Malformed(f"{name}: the LFS server answers for another object than was asked for")
        actions = found.get("actions")
        download = actions.get("download") if isinstance(actions, dict) else None
        href = download.get("href") if isinstance(download, dict) else None
        if not isinstance(href, str):
            raise CannotFetch(f"{name}: the LFS server does not have the object that the pointer names", advice="push it with git lfs push")
        wanted = download.get("header") or {} if isinstance(download, dict) else {}
        given = {key: value for key, value in wanted.items() if isinstance(value, str) and key.lower().startswith(AUTHORISING)}
        at_home = self.secret if origin(href) == origin(self.endpoint) and not given else {}
        return href, {**at_home, **given}
