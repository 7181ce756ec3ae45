"""A checkpoint behind an `https://` address, which an operator named: a safetensors file, or an index with its shards beside it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from modelguard.blobs.base import Blob
from modelguard.blobs.http import Client, shown
from modelguard.blobs.ranges import RangeBlob
from modelguard.errors import CannotFetch


@dataclass(frozen=True, slots=True)
class WebFolder:
    """The files that an address names, by name. Only what was asked for is known to be there: a web server lists nothing."""

    ref: str
    blobs: Mapping[str, RangeBlob]

    @property
    def sizes(self) -> Mapping[str, int]:
        return {name: blob.size for name, blob in self.blobs.items()}

    def open(self, name: str) -> Blob:
        if name not in self.blobs:
            raise CannotFetch(f"{self.ref}: {name[:80]!a} was not asked for")
        return self.blobs[name]


def web_file(client: Client, url: str) -> tuple[WebFolder, str]:
    """The folder that holds the one file of an address, and the file's name. Raises CannotFetch."""
    name = posixpath.basename(urlsplit(url).path)
    if not name:
        raise CannotFetch(f"{shown(url)}: names no file", advice="name a .safetensors file or a .safetensors.index.json")
    return WebFolder(shown(urljoin(url, ".")), {name: _blob(client, url)}), name


def with_neighbours(client: Client, folder: WebFolder, url: str, names: Iterable[str]) -> WebFolder:
    """The folder with files that lie beside the address. A query that signs the address is kept: it may sign the whole folder."""
    query = urlsplit(url).query
    beside = {name: _blob(client, urljoin(url, name) + (f"?{query}" if query else "")) for name in names}
    return WebFolder(folder.ref, {**folder.blobs, **beside})


def _blob(client: Client, url: str) -> RangeBlob:
    return RangeBlob(client, lambda _expired: (url, {}), shown(url))
