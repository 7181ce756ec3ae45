"""System calls that a confined process has no business with, refused by a filter in the kernel (seccomp, mode 2).

This closes the network where a container's own rules forbid a network namespace, and keeps what runs from starting programs or
looking into other processes. Threads may still be made: they share everything with what made them.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Mapping

PR_SET_SECCOMP, FILTER = 22, 2
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions of classic BPF
ALLOW, ERROR = 0x7FFF0000, 0x00050000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in seccomp_data
CLONE_THREAD = 0x00010000
FOREIGN = 0x40000000  # calls of x86-64's second set

# audit.h's name of the architecture, `clone`, and the refused: socket, fork, vfork, execve, kill, ptrace, unshare, setns, mount,
# process_vm_readv and _writev, execveat, bpf, perf_event_open, userfaultfd, open_by_handle_at, add_key, request_key, keyctl
KNOWN: Mapping[str, tuple[int, int, tuple[int, ...]]] = {
    "x86_64": (0xC000003E, 56, (41, 57, 58, 59, 62, 101, 272, 308, 165, 310, 311, 322, 321, 298, 323, 304, 248, 249, 250)),
    "aarch64": (0xC00000B7, 220, (198, 221, 129, 117, 97, 268, 40, 270, 271, 281, 280, 241, 282, 265, 217, 218, 219)),
}
NEWER = (424, 425, 426, 427, 438)  # pidfd_send_signal, io_uring_setup, _enter and _register, pidfd_getfd: the same everywhere
CLONE3 = 435  # its arguments cannot be seen: refused as unknown, whereupon libraries use `clone`


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def refuse_calls(libc: ctypes.CDLL) -> bool:
    """Has the kernel refuse them from now on, in this process and all that come from it. Whether it does."""
    known = KNOWN.get(platform.machine())
    if known is None:
        return False
    code = program(*known)
    return bool(libc.prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(_Program(length=len(code) // 8, code=code)), 0, 0) == 0)


def program(architecture: int, clone: int, refused: tuple[int, ...]) -> bytes:
    """The filter: eight bytes an instruction, each jump counted from the next one."""
    steps = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, ERROR | errno.EPERM), (LOAD, 0, 0, NUMBER)]
    steps += [(AT_LEAST, 0, 1, FOREIGN), (RETURN, 0, 0, ERROR | errno.EPERM)]
    for number in (*refused, *NEWER):
        steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERROR | errno.EPERM)]
    steps += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, ERROR | errno.ENOSYS)]
    steps += [(EQUAL, 0, 3, clone), (LOAD, 0, 0, FIRST_ARGUMENT), (ANY_BIT, 1, 0, CLONE_THREAD), (RETURN, 0, 0, ERROR | errno.EPERM)]
    steps += [(RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
