"""Each wall by itself, because a machine may have one and not the other; the filter of calls on a small machine that runs such filters."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from modelguard.confinement import calls
from modelguard.confinement.apart import ROOT
from modelguard.confinement.limits import FLOOR, Limits, installed

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the walls are those of Linux")
ALONE = """
import ctypes, os, socket, sys, threading
sys.path.insert(0, {root!r})
from modelguard.confinement import calls, limits, walls
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
print("stands" if {wall} else "none")
def tried(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"
print(tried(lambda: socket.create_connection(("127.0.0.1", {port}), timeout=5).close()))
print(tried(lambda: open({secret!r}).read()))
print(tried(lambda: os.mkdir({secret!r} + ".d")))
"""
WALLS = {
    "none": ("True", "done", "done", "done"),
    "calls": ("calls.refuse_calls(libc)", "PermissionError", "done", "done"),
    "namespace": ("libc.unshare(0x40000000) == 0 or libc.unshare(0x50000000) == 0", "OSError", "done", "done"),
    "files": ("walls._landlock(libc, (), (), ())", "PermissionError", "PermissionError", "PermissionError"),
}


@linux
@pytest.mark.parametrize("name", WALLS)
def test_each_wall_stands_alone(tmp_path: Path, name: str) -> None:
    wall, *expected = WALLS[name]
    secret = tmp_path / "token"
    secret.write_text("s3cr3t")
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = ALONE.format(root=ROOT, wall=wall, port=server.getsockname()[1], secret=str(secret))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    stands, *told = done.stdout.split()
    if stands == "none":
        pytest.skip(f"this kernel does not let us have the wall: {name}")
    assert told == expected


ALLOWED = {"x86_64": (0, 1, 9, 202, 231, 257, 262), "aarch64": (56, 57, 63, 64, 98, 222, 226)}  # open, read, write, mmap, futex …


def verdict(code: bytes, architecture: int, number: int, argument: int = 0) -> int:
    """What a filter says of a call: an interpreter of the instructions that it uses (linux/bpf_common.h)."""
    data = struct.pack("=IIQQ", number, architecture, 0, argument)
    steps = [struct.unpack_from("=HBBI", code, offset) for offset in range(0, len(code), 8)]
    place, held = 0, 0
    while True:
        kind, yes, no, constant = steps[place]
        place += 1
        if kind == calls.LOAD:
            held = struct.unpack_from("=I", data, constant)[0]
        elif kind == calls.RETURN:
            return int(constant)
        else:
            met = {calls.EQUAL: held == constant, calls.AT_LEAST: held >= constant, calls.ANY_BIT: bool(held & constant)}[kind]
            place += yes if met else no


@pytest.mark.parametrize("machine", calls.KNOWN)
def test_the_filter_refuses_what_it_names_and_nothing_else(machine: str) -> None:
    architecture, clone, refused = calls.KNOWN[machine]
    code = calls.program(architecture, clone, refused)
    not_permitted, unknown = calls.ERROR | errno.EPERM, calls.ERROR | errno.ENOSYS
    assert {verdict(code, architecture, number) for number in (*refused, *calls.NEWER)} == {not_permitted}
    assert {verdict(code, architecture, number) for number in ALLOWED[machine]} == {calls.ALLOW}
    assert verdict(code, architecture, calls.CLONE3) == unknown
    thread, process = 0x003D0F00, 0x01200011  # glibc's flags for a thread and for fork
    assert verdict(code, architecture, clone, thread) == calls.ALLOW
    assert verdict(code, architecture, clone, process) == not_permitted
    for foreign in (architecture ^ 1, 0x40000003):
        assert verdict(code, foreign, ALLOWED[machine][0]) == not_permitted
    assert verdict(code, architecture, calls.FOREIGN | ALLOWED[machine][0]) == not_permitted


def test_an_unknown_machine_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert not calls.refuse_calls(ctypes.CDLL(None))


def test_memory_is_what_the_machine_has_or_what_was_asked_for() -> None:
    assert installed() >= 1 << 20
    assert Limits().bytes_of_memory >= FLOOR
    assert Limits(memory=7).bytes_of_memory == 7
