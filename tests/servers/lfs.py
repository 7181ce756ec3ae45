"""A real Git LFS server: giftless, in an environment of its own (its web framework has no place among our dependencies)."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.once import alone

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".cache/giftless"
FRAMEWORK = ("flask", "flask-marshmallow", "flask-classful", "webargs", "figcan", "python-dateutil", "cryptography", "PyYAML")
MORE = ("PyJWT<2.10", "python-dotenv", "typing_extensions", "importlib_metadata")  # a later PyJWT refuses the tokens that it makes
PACKAGES = ("giftless==0.6.2", *FRAMEWORK, *MORE)  # its wheel declares no dependencies
ATTEMPTS = 3  # registries fail at times
SERVE = """
import sys
from giftless.app import init_app
from werkzeug.serving import run_simple
jwt = {"algorithm": "HS256", "private_key": "a-key-of-the-tests-that-is-long-enough", "default_lifetime": 600, "key_id": "tests"}
settings = {
    "LEGACY_ENDPOINTS": False,
    "AUTH_PROVIDERS": [{"factory": "giftless.auth.jwt:factory", "options": jwt}, "giftless.auth.allow_anon:read_write"],
    "PRE_AUTHORIZED_ACTION_PROVIDER": {"factory": "giftless.auth.jwt:factory", "options": jwt},
    "TRANSFER_ADAPTERS": {"basic": {"factory": "giftless.transfer.basic_streaming:factory", "options": {
        "storage_class": "giftless.storage.local_storage:LocalStorage", "storage_options": {"path": sys.argv[2]}}}},
}
run_simple("127.0.0.1", int(sys.argv[1]), init_app(additional_config=settings), threaded=True)
"""


@dataclass(frozen=True)
class LfsServer:
    """The server's address, and the folder in which it keeps its objects."""

    url: str
    storage: Path

    def stored(self, oid: str) -> Path:
        """The file in which an object lies."""
        return next(path for path in self.storage.rglob(oid) if path.is_file())


def python() -> Path | None:
    """The interpreter that has giftless, installed when it is first asked for; None where it cannot be had."""
    with alone(ENVIRONMENT):
        return ENVIRONMENT / "bin/python" if (ENVIRONMENT / "complete").exists() or any(_installed() for _ in range(ATTEMPTS)) else None


def _installed() -> bool:
    """Whether it could be installed, and is imported as it will be."""
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run((sys.executable, "-m", "venv", str(ENVIRONMENT)), check=True)
    program = str(ENVIRONMENT / "bin/python")
    pip = (program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES)
    for command in (pip, (program, "-c", "import giftless.app")):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
    (ENVIRONMENT / "complete").touch()
    return True


@contextmanager
def lfs_server(program: Path, folder: Path) -> Iterator[LfsServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir()
    command = (str(program), "-c", SERVE, str(port), str(folder))
    with (folder.parent / "giftless.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder.parent, env={"PATH": "/usr/bin:/bin"})
    try:
        _wait(process, port, folder.parent / "giftless.log")
        yield LfsServer(f"http://127.0.0.1:{port}", folder)
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, "".join(reversed(log.read_text(encoding="utf-8").splitlines(keepends=True)[-20:]))
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("giftless did not start")
