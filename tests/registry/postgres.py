"""A real PostgreSQL server on loopback, in a directory of its own, run by an ordinary user as it insists on."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.requirement import require

SERVERS = ("postgres", "/usr/lib/postgresql/17/bin/postgres", "/usr/lib/postgresql/15/bin/postgres")


@contextmanager
def server() -> Iterator[str]:
    """The address of a fresh database; the server is gone afterwards."""
    program = next((found for name in SERVERS if (found := shutil.which(name))), "")
    require("postgres", program, "no PostgreSQL server is installed")
    require("postgres", _client(), "psycopg is not installed")
    tools = Path(program).resolve().parent
    folder = Path(tempfile.mkdtemp(prefix="modelguard-postgres-"))
    user = _user(folder)
    port = _free_port()
    run = [str(tools / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", "tester", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run(run, check=True, capture_output=True, user=user, cwd=folder)
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [str(tools / "pg_ctl"), "-D", str(folder / "data"), "-w", "-s"]
    subprocess.run([*control, "-l", str(folder / "log"), "-o", settings, "start"], check=True, user=user, cwd=folder)
    try:
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, user=user, cwd=folder)
        shutil.rmtree(folder, ignore_errors=True)


def _client() -> bool:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return False
    return True


def _user(folder: Path) -> int | None:
    """Whom the server runs as: the server refuses root, so root hands the folder to somebody else."""
    if os.geteuid() != 0:
        return None
    names = ("postgres", "nobody")
    entry = next(entry for name in names for entry in pwd.getpwall() if entry.pw_name == name)
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return entry.pw_uid


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
