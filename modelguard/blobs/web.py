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


def with_neighbours(client: Client, folder: WebFolder, url: str, names: Iterable[str], *, optional: Iterable[str] = ()) -> WebFolder:
    """The folder with files that lie beside the address. A query that signs the address is kept: it may sign the whole folder.

    The optional ones are papers, which are left out where the server says that they are not there, or not for us.
    """
    beside = {name: _blob(client, _neighbour(url, name)) for name in names}
    papers = {name: _blob(client, _neighbour(url, name)) for name in optional if _there(client, _neighbour(url, name))}
    return WebFolder(folder.ref, {**folder.blobs, **beside, **papers})


def _neighbour(url: str, name: str) -> str:
    query = urlsplit(url).query
    return urljoin(url, name) + (f"?{query}" if query else "")


def _there(client: Client, url: str) -> bool:
    with client.ask(url, headers={"Range": "bytes=0-0"}) as answer:
        return answer.status in (200, 206)


def _blob(client: Client, url: str) -> RangeBlob:
    return RangeBlob(client, lambda _expired: (url, {}), shown(url))
