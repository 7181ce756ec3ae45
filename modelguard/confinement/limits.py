"""How much a confined process may use, and the limits of the kernel that hold it to that."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
FLOOR = 2 << 30  # bytes: less holds no interpreter with numpy and torch
ADDRESSES = 16 << 30  # bytes of address space beyond the memory: libraries and threads reserve what they never touch
GRACE_S = 5  # between the limit of processor time, which is told from other ends, and the one that nothing survives
ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd")  # their drivers reserve more address space than any limit that still limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a confined process may use. `memory` in bytes (0: three quarters of what this machine has), `files` open at once.

    `wall` are the seconds that the parent waits for the child; what the parent itself does for it meanwhile does not count. `cpu` are
    seconds of processor time over all threads. `scratch` are the bytes of a file that it may write, in a directory of its own (0: it
    writes none). `served` bounds the bytes that it may ask for in all, `asked` how often.
    """

    memory: int = 0
    wall: float = 3 * 3600.0
    cpu: int = 8 * 3600
    files: int = 512
    scratch: int = 0
    served: int = 4 << 40
    asked: int = 20_000_000

    @property
    def bytes_of_memory(self) -> int:
        return self.memory or max(FLOOR, installed() // 4 * 3)


FOR_AUDITS = Limits(scratch=1 << 30)  # a reader of databases works on a copy


def installed() -> int:
    """Bytes of memory that this machine, or the container that we are in, has."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for place in GROUP_LIMITS:
        with suppress(OSError, ValueError):
            found.append(int(Path(place).read_text(encoding="ascii")))
    return min(found)


def hold_to(memory: int, cpu: int, files: int, scratch: int) -> tuple[str, ...]:
    """Limits this process, for good. What was limited, in words."""
    import resource

    wanted = {"processor time": (resource.RLIMIT_CPU, cpu + GRACE_S), "open files": (resource.RLIMIT_NOFILE, files)}
    wanted |= {"files written": (resource.RLIMIT_FSIZE, scratch), "no core": (resource.RLIMIT_CORE, 0)}
    if sys.platform.startswith("linux"):
        wanted["memory"] = (resource.RLIMIT_DATA, memory)
        if not any(map(os.path.exists, ACCELERATORS)):
            wanted["addresses"] = (resource.RLIMIT_AS, memory + ADDRESSES)
    return tuple(name for name, (what, most) in wanted.items() if _lowered(what, most))


def _lowered(what: int, most: int) -> bool:
    """Lowers a limit, for good; one that is lower already stays."""
    import resource

    ceiling = resource.getrlimit(what)[1]
    if ceiling != resource.RLIM_INFINITY:
        most = min(most, ceiling)
    try:
        resource.setrlimit(what, (most - GRACE_S, most) if what == resource.RLIMIT_CPU else (most, most))
    except (OSError, ValueError):
        return False
    return True
