"""A web server on loopback that serves files in parts, and misbehaves where it is told to."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Files:
    """What is served, by path; what was asked, in order; and, by path, what goes wrong (a function that answers and returns True)."""

    content: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    faults: dict[str, Callable[[BaseHTTPRequestHandler], bool]] = field(default_factory=dict)
    posts: dict[str, Callable[[bytes], tuple[int, bytes]]] = field(default_factory=dict)
    url: str = ""


def _handler(files: Files) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            files.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            if path in files.faults and files.faults[path](self):
                return
            if path not in files.content:
                self.answer(404, b"no such file")
                return
            self.serve(files.content[path])

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            files.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            if self.path in files.faults and files.faults[self.path](self):
                return
            self.answer(*files.posts[self.path](body))

        def serve(self, content: bytes) -> None:
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
            if not wanted or self.headers.get("if-range", tag) != tag:
                self.answer(200, content, etag=tag)
                return
            first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
            if first >= len(content):
                self.answer(416, b"")
                return
            part = content[first : last + 1]
            self.answer(206, part, etag=tag, content_range=f"bytes {first}-{last}/{len(content)}")

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


@contextmanager
def file_server() -> Iterator[Files]:
    files = Files()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(files))
    server.daemon_threads = True
    files.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
