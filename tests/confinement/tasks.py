"""What the tests have a confined process do."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from modelguard.confinement.inside import Desk
from modelguard.confinement.offered import OfferedBlob, OfferedCheckpoint, OfferedFolder
from modelguard.errors import BadRequest, Malformed


def echo(given: Any, _desk: Desk) -> Any:
    return given


def environment(_given: Any, _desk: Desk) -> str:
    """What the process was started with, from the kernel's own copy."""
    return Path("/proc/self/environ").read_bytes().decode() + "\0".join(f"{name}={value}" for name, value in os.environ.items())


def parents_environment(_given: Any, _desk: Desk) -> str:
    return read(f"/proc/{os.getppid()}/environ", _desk)


def read(place: str, _desk: Desk) -> str:
    try:
        return Path(place).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        return f"refused: {type(error).__name__}"


def write(place: str, _desk: Desk) -> str:
    try:
        Path(place).write_bytes(b"x")
    except OSError as error:
        return f"refused: {type(error).__name__}"
    return "written"


def scratch(size: int, _desk: Desk) -> int | str:
    """Writes a file of that many bytes where libraries would."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "file"
            place.write_bytes(bytes(size))
            return place.stat().st_size
    except OSError as error:
        return f"refused: {type(error).__name__}"


def connect(address: list[Any], _desk: Desk) -> str:
    try:
        with socket.create_connection((address[0], address[1]), timeout=5):
            return "connected"
    except OSError as error:
        return f"refused: {type(error).__name__}"


def start(_given: Any, _desk: Desk) -> str:
    try:
        return subprocess.run([sys.executable, "-c", "print('started')"], capture_output=True, text=True, check=False).stdout
    except OSError as error:
        return f"refused: {type(error).__name__}"


def fork(_given: Any, _desk: Desk) -> str:
    try:
        if not os.fork():
            os._exit(0)
    except OSError as error:
        return f"refused: {type(error).__name__}"
    return "forked"


def descriptors(_given: Any, _desk: Desk) -> list[str]:
    """What is open, but for the directory that is being listed."""
    return sorted(os.path.realpath(place).rpartition("/")[2].partition(":")[0] for place in Path("/proc/self/fd").iterdir())


def threads(_given: Any, _desk: Desk) -> int:
    done: list[int] = []
    working = [threading.Thread(target=done.append, args=(index,)) for index in range(4)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    return len(done)


def refuse(_given: Any, _desk: Desk) -> None:
    raise Malformed("model.safetensors: not what it says", advice="save it again")


def misuse(_given: Any, _desk: Desk) -> None:
    raise BadRequest("no such thing", advice="name another")


def crash(_given: Any, _desk: Desk) -> None:
    raise ZeroDivisionError


def fault(_given: Any, _desk: Desk) -> None:
    ctypes.string_at(0)


def leave(_given: Any, _desk: Desk) -> None:
    os._exit(0)


def die(_given: Any, _desk: Desk) -> None:
    signal.raise_signal(signal.SIGKILL)


def eat_memory(_given: Any, _desk: Desk) -> int:
    kept = []
    while True:
        kept.append(bytearray(64 << 20))


def eat_time(_given: Any, _desk: Desk) -> None:
    while True:
        pass


def sleep(_given: Any, _desk: Desk) -> None:
    time.sleep(600)


def chatter(_given: Any, _desk: Desk) -> str:
    for _ in range(2000):
        os.write(1, b"::error::owned\n" * 100)
    return "done"


def babble(frame: list[int], desk: Desk) -> None:
    """Sends bytes of its own making."""
    desk._channel._end.sendall(bytes(frame))
    time.sleep(60)


def count(_given: Any, desk: Desk) -> None:
    for done in range(5):
        desk.progress("counting", done + 1, 5)
        time.sleep(0.15)


def copy(told: Any, desk: Desk) -> str:
    """A file's content, read in uneven pieces."""
    blob = OfferedFolder(desk, told["folder"]).open(told["name"])
    assert isinstance(blob, OfferedBlob)
    assert (blob._handed is not None) == told.get("handed", False)
    buffer = bytearray(blob.size)
    for begin in range(0, blob.size, 77_777):
        blob.readinto(begin, memoryview(buffer)[begin : begin + 77_777])
    return buffer.hex()


def write_handed(told: Any, desk: Desk) -> str:
    blob = OfferedFolder(desk, told["folder"]).open(told["name"])
    try:
        os.pwrite(blob._handed, b"x", 0)  # type: ignore[attr-defined]
    except OSError as error:
        return f"refused: {type(error).__name__}"
    return "written"


def tensor(told: Any, desk: Desk) -> list[Any]:
    checkpoint = OfferedCheckpoint(desk, told)
    name, info = next(iter(checkpoint.tensors.items()))
    buffer = bytearray(info.nbytes)
    checkpoint.readinto(name, 0, memoryview(buffer))
    return [name, info.dtype, list(info.shape), buffer.hex()]


def overreach(question: list[Any], desk: Desk) -> str:
    """Asks for what was not offered, past the child's own checks."""
    kind, *rest = question
    if kind == "fill":
        OfferedBlob(desk, {"handle": rest[0], "name": "x", "size": 1 << 62, "sha256": None, "verified": True})
        desk.fill(rest[0], rest[1], memoryview(bytearray(rest[2])))
    else:
        desk.ask(kind, rest[0])
    return "given"
