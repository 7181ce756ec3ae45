"""What a process takes from itself before it looks at a stranger's bytes: privileges, the network, files, other processes.

Each wall stands where the kernel has it, and needs no privilege; which ones stand is told. Numbers are those of Linux's headers
(prctl.h, sched.h, landlock.h, capability.h).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from modelguard.confinement.calls import refuse_calls

PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 3, 4, 24, 38
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
CAPABILITY_VERSION, CAPABILITIES = 0x20080522, 64
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture
READ_FILE, READ_DIR, WRITE_FILE, IOCTL = 1 << 2, 1 << 3, 1 << 1, 1 << 15
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_FILE, TRUNCATE = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 14
SCRATCH = READ_FILE | READ_DIR | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_FILE | TRUNCATE
RIGHTS_BY_VERSION = (0, 13, 14, 15, 15, 16, 16, 16)  # how many rights over files each version of Landlock knows
SYSTEM = (
    *("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/urandom", "/dev/zero"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu", "/sys/devices/system/node"),
)
DRIVERS = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", *(f"/dev/nvidia{index}" for index in range(16)))
DRIVERS_READ = ("/proc/driver/nvidia", "/sys/bus/pci", "/sys/devices", "/proc/devices", "/proc/modules")


WALLS = (
    "no new privileges",
    "no network",
    "no files but the program's",
    "no capabilities",
    "no sockets, programs or other processes",
)


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("place", ctypes.c_int32))


def raise_walls(readable: Iterable[str], listable: Iterable[str], writable: Iterable[str]) -> tuple[str, ...]:
    """Puts this process, which has one thread, behind every wall that there is; the names of those that stand.

    It reads below `readable` and the system's libraries, lists what is directly in `listable`, and makes plain files in `writable`.
    """
    if not sys.platform.startswith("linux"):
        return ()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    stand = (  # in this order: the first needs nothing, the network a privilege that the fourth gives away, the last closes the door
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0,
        any(libc.unshare(flags) == 0 for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET)),
        _landlock(libc, readable, listable, writable),
        _without_capabilities(libc),
        refuse_calls(libc),
    )
    return tuple(name for name, stands in zip(WALLS, stand, strict=True) if stands)


def closed_to_others(closed: bool) -> bool:
    """Whether other processes of this user are kept from reading this one's memory and environment; what it was before."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    before = libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0
    libc.prctl(PR_SET_DUMPABLE, int(not closed), 0, 0, 0)
    return bool(before)


def _landlock(libc: ctypes.CDLL, readable: Iterable[str], listable: Iterable[str], writable: Iterable[str]) -> bool:
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    files = (1 << RIGHTS_BY_VERSION[min(version, len(RIGHTS_BY_VERSION) - 1)]) - 1
    asked = _Ruleset(files=files, network=3 if version >= 4 else 0, scoped=3 if version >= 6 else 0)
    size = 8 * (1 + (version >= 4) + (version >= 6))
    rules = libc.syscall(CREATE_RULESET, ctypes.byref(asked), size, 0)
    if rules < 0:
        return False
    for rights, places in (
        (READ_FILE | READ_DIR, (*SYSTEM, *DRIVERS_READ, *readable)),
        (READ_DIR, tuple(listable)),
        (files & SCRATCH, tuple(writable)),
        (READ_FILE | WRITE_FILE | (IOCTL & files), ("/dev/null", *DRIVERS)),
    ):
        for place in places:
            _allow(libc, rules, place, rights)
    stands = libc.syscall(RESTRICT_SELF, rules, 0) == 0
    os.close(rules)
    return bool(stands)


def _allow(libc: ctypes.CDLL, rules: int, place: str, rights: int) -> None:
    """Adds a rule for a place that exists; of a file, what can be done with files."""
    with suppress(OSError):
        descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
        rights = rights if Path(place).is_dir() else rights & ~READ_DIR
        libc.syscall(ADD_RULE, rules, 1, ctypes.byref(_Beneath(rights=rights, place=descriptor)), 0)
        os.close(descriptor)


def _without_capabilities(libc: ctypes.CDLL) -> bool:
    for number in range(CAPABILITIES):
        libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    header, none = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    return bool(libc.capset(header, none) == 0)
