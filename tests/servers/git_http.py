"""A git server on loopback: git's own `http-backend` behind a small CGI door, which may ask for a token and be told to misbehave."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.repositories import Repository

FORWARDED = ("Accept", "Accept-Encoding", "Content-Encoding", "Git-Protocol", "User-Agent")


@dataclass
class GitServer:
    """What is served (every repository below `root`), who may read, what was asked, and what goes wrong instead of an answer."""

    root: Path
    token: str = ""
    url: str = ""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    fault: Callable[[BaseHTTPRequestHandler], bool] | None = None

    def repository(self, name: str, *, filters: bool = True) -> Repository:
        """A new repository, writable from here and served as `url/name.git`; `filters` is whether it can leave objects out."""
        made = Repository(self.root / f"{name}.git")
        made.git("config", "uploadpack.allowAnySHA1InWant", "true")
        made.git("config", "uploadpack.allowFilter", str(filters).lower())
        return made

    def allowed(self, authorization: str) -> bool:
        expected = base64.b64encode(f"x-access-token:{self.token}".encode()).decode()
        return not self.token or authorization == f"Basic {expected}"


@contextmanager
def git_server(root: Path, token: str = "") -> Iterator[GitServer]:
    git = GitServer(root, token)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"git": git}))
    server.daemon_threads = True
    git.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield git
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Turns HTTP into CGI (RFC 3875) and back."""

    git: GitServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Tests print nothing."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.git.asked.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        if self.git.fault is not None and self.git.fault(self):
            return
        if not self.git.allowed(self.headers.get("Authorization", "")):
            self.answer(401, b"no\n", {"WWW-Authenticate": 'Basic realm="git"'})
            return
        done = subprocess.run(("git", "http-backend"), input=body, capture_output=True, env=self._variables(len(body)), check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n"))
        self.answer(int(headers.pop("Status", "200").split()[0]), content, headers)

    do_GET = do_POST = _serve

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _variables(self, length: int) -> dict[str, str]:
        """The request as CGI gives it. A repository with a working tree is served by its `.git`."""
        parts = urlsplit(self.path)
        name, dot, rest = parts.path.partition(".git/")
        forwarded = {f"HTTP_{key.upper().replace('-', '_')}": self.headers[key] for key in FORWARDED if key in self.headers}
        return forwarded | {
            "CONTENT_LENGTH": str(length),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",  # whoever owns what the tests made
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROJECT_ROOT": str(self.git.root),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH": os.environ["PATH"],
            "PATH_INFO": f"{name}{dot}.git/{rest}" if dot else parts.path,
            "QUERY_STRING": parts.query,
            "REMOTE_ADDR": "127.0.0.1",
            "REQUEST_METHOD": self.command,
        }
