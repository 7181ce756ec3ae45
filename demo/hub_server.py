"""A small hub on loopback: enough of the Hugging Face protocol for its own client to resolve a model and download its files.

Large files go the way that they go on the real hub: `resolve` answers with the object's hash and size and a redirect to another
host, where the bytes are. Faults can be switched on for the API (`"api"`) or for one file.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

LFS_FROM = 1 << 20  # bytes; the real hub goes by .gitattributes
PIECE = 1 << 20
ERRORS = {
    "404": (404, "RepoNotFound"),
    "no-revision": (404, "RevisionNotFound"),
    "no-file": (404, "EntryNotFound"),
    "401": (401, ""),
    "403": (403, ""),
    "gated": (403, "GatedRepo"),
    "429": (429, ""),
    "500": (500, ""),
    "503": (503, ""),
}


@dataclass(frozen=True, slots=True)
class Served:
    """One file of a model: its sha256, its git object id, and whether it goes through Git LFS."""

    path: Path
    size: int
    sha256: str
    git: str

    @property
    def large(self) -> bool:
        return self.size >= LFS_FROM or self.path.suffix == ".safetensors"


@dataclass(frozen=True, slots=True)
class Model:
    """One model at one commit; `token` is what a private one asks for."""

    name: str
    commit: str
    files: Mapping[str, Served]
    token: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    authorization: str | None


@dataclass
class State:
    """What the handlers share."""

    models: dict[str, Model]
    requests: list[Asked] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    store: str = ""


class HubServer:
    """Serves local directories as models at `url`. Use as a context manager."""

    def __init__(self, models: Mapping[str, Path], *, tokens: Mapping[str, str] | None = None) -> None:
        served = {name: model(name, folder, (tokens or {}).get(name)) for name, folder in models.items()}
        self.state = State(served)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"state": self.state}))
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        self.state.store = f"http://localhost:{port}/store"  # another host name, as on the real hub

    @property
    def requests(self) -> list[Asked]:
        return self.state.requests

    @property
    def faults(self) -> dict[str, str]:
        """Fault by place: `"api"` or a file name, to a key of ERRORS or one of cut, wrong, long, slow, junk."""
        return self.state.faults

    def commit(self, name: str) -> str:
        """The commit that `main` names."""
        return self.state.models[name].commit

    def replace(self, name: str, folder: Path) -> None:
        """Pushes another state of a model: `main` moves."""
        self.state.models[name] = model(name, folder, self.state.models[name].token)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


def model(name: str, folder: Path, token: str | None) -> Model:
    """A directory as a model; its commit is a hash of everything in it."""
    files = {path.relative_to(folder).as_posix(): _served(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    content = json.dumps([(path, file.sha256) for path, file in files.items()])
    return Model(name, hashlib.sha1(content.encode()).hexdigest(), files, token)


def _served(path: Path) -> Served:
    content = path.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return Served(path, len(content), hashlib.sha256(content).hexdigest(), git)


class Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    state: State
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """The tests read `requests` instead."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.state.requests.append(Asked(self.command, path, self.headers.get("Authorization")))
        if found := re.fullmatch(r"/api/models/(.+)/tree/([^/]+)", path):
            self._tree(found[1], found[2])
        elif found := re.fullmatch(r"/api/models/(.+?)(?:/revision/(.+))?", path):
            self._api(found[1], found[2] or "main", blobs=parse_qs(urlsplit(self.path).query).get("blobs", [""])[-1].lower() == "true")
        elif found := re.fullmatch(r"/store/([0-9a-f]{64})", path):
            self._object(found[1])
        elif found := re.fullmatch(r"/([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3])
        else:
            self._error(404, "")

    def _api(self, name: str, revision: str, *, blobs: bool) -> None:
        """What the hub knows of a model. Sizes and hashes of its files are told to those who ask for them alone."""
        found = self._find(name, revision, "api")
        if found is None:
            return
        siblings = [_sibling(path, file) if blobs else {"rfilename": path} for path, file in found.files.items()]
        body = json.dumps({"id": name, "modelId": name, "sha": found.commit, "private": False, "siblings": siblings}).encode()
        self._send(200, b"<html>" if self.state.faults.get("api") == "junk" else body, {"Content-Type": "application/json"})

    def _tree(self, name: str, revision: str) -> None:
        found = self._find(name, revision, "api")
        if found is not None:
            entries = [_entry(path, file) for path, file in found.files.items()]
            self._send(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        found = self._find(name, revision, path)
        if found is None:
            return
        if path not in found.files:
            self._error(404, "EntryNotFound")
            return
        file = found.files[path]
        headers = {"X-Repo-Commit": found.commit, "Accept-Ranges": "bytes"}
        if file.large:
            linked = {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.sha256}"', "ETag": f'"{file.sha256}"'}
            self._send(302, b"", {**headers, **linked, "Location": f"{self.state.store}/{file.sha256}"})
        else:
            self._file(file, {**headers, "ETag": f'"{file.git}"'})

    def _object(self, sha256: str) -> None:
        files = [file for model in self.state.models.values() for file in model.files.values() if file.sha256 == sha256]
        if files:
            self._file(files[0], {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"})
        else:
            self._error(404, "")

    def _find(self, name: str, revision: str, place: str) -> Model | None:
        """The model that is asked for; None when an error was sent instead."""
        fault, found = self.state.faults.get(place, ""), self.state.models.get(name)
        if fault == "slow" and place == "api":
            time.sleep(1.0)
        if fault in ERRORS:
            self._error(*ERRORS[fault])
        elif found is None or (found.token and self.headers.get("Authorization") != f"Bearer {found.token}"):
            self._error(401, "RepoNotFound")  # the real hub does not tell the two apart either
        elif revision not in ("main", found.commit):
            self._error(404, "RevisionNotFound")
        else:
            return found
        return None

    def _file(self, file: Served, headers: Mapping[str, str]) -> None:
        fault = self.state.faults.get(file.path.name, "")
        content = file.path.read_bytes()
        if fault == "wrong":
            content = bytes([content[0] ^ 1]) + content[1:]
        if fault == "long":
            content += bytes(4 * len(content) + (4 << 20))
        start = self._start(len(content))
        status = 206 if start else 200
        ranged = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        self._send(status, content[start:], {**headers, **ranged}, cut=fault == "cut", slow=fault == "slow")

    def _start(self, size: int) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found and int(found[1]) < size else 0

    def _error(self, status: int, code: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": "canary-server-message"} if code else {}
        self._send(status, json.dumps({"error": "canary-server-message"}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, cut: bool = False, slow: bool = False) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            for start in range(0, 0 if cut else len(body), PIECE):
                time.sleep(0.05 if slow else 0)
                self.wfile.write(body[start : start + PIECE])
        except ConnectionError:
            pass  # the client has hung up: its right
        if cut:
            self.close_connection = True


def _sibling(path: str, file: Served) -> dict[str, Any]:
    lfs = {"lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": 134}} if file.large else {}
    return {"rfilename": path, "size": file.size, "blobId": file.git, **lfs}


def _entry(path: str, file: Served) -> dict[str, Any]:
    lfs = {"lfs": {"oid": file.sha256, "size": file.size, "pointerSize": 134}} if file.large else {}
    return {"type": "file", "path": path, "size": file.size, "oid": file.git, **lfs}
