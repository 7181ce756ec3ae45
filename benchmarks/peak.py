"""One comparison in a process of its own: seconds and peak memory, as one line of JSON. `python -m benchmarks.peak HOW LEFT RIGHT`.

HOW is `difference` (the exact difference alone), `compare` (all of `modelguard compare`), `torch` (both files loaded, then compared in
float32) or `agree` (whether the exact difference and torch in float64 give the same numbers).
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelguard.blobs.local import LocalBlob
from modelguard.checkpoints.safetensors import open_safetensors


def exact(left: Path, right: Path) -> list[tuple[int, float, float]]:
    """(equal entries, largest |a - b|, L2 of a - b over L2 of b) of every tensor pair, by our exact difference."""
    from modelguard.correspondence.alignment import align
    from modelguard.fingerprint.difference import difference

    first, second = (open_safetensors(LocalBlob(path)) for path in (left, right))
    items = difference(first, second, align(first, second, by_content=False))
    return [(item.equal, item.max_abs, item.relative) for item in items]


def loaded(left: Path, right: Path, *, double: bool = False) -> list[tuple[int, float, float]]:
    """The same three numbers as most people would get them: both files loaded with safetensors.torch, every tensor in float32."""
    import torch
    from safetensors.torch import load_file

    wide = torch.float64 if double else torch.float32
    first, second = load_file(left), load_file(right)
    return [_statistics(first[name].to(wide), second[name].to(wide)) for name in sorted(first)]


def _statistics(ours: Any, theirs: Any) -> tuple[int, float, float]:
    delta = ours - theirs
    return int((ours == theirs).sum()), float(delta.abs().max()), float(delta.norm() / theirs.norm())


def agree(left: Path, right: Path) -> bool:
    """Whether equal counts and largest differences agree to the bit with torch in float64, and L2 to 1e-5.

    In float32 torch's own L2 is off by a quarter of a per cent on 2^24 entries, so that is no yardstick.
    """
    pairs = zip(exact(left, right), loaded(left, right, double=True), strict=True)
    return all(ours[:2] == theirs[:2] and abs(ours[2] - theirs[2]) <= 1e-5 * theirs[2] for ours, theirs in pairs)


def command(left: Path, right: Path) -> None:
    """What `modelguard compare` prints."""
    from modelguard.cli import main

    code = main(["compare", str(left), str(right), "--quiet", "--offline", "--format", "json"])
    if code != 0:
        raise SystemExit(code)


HOW: dict[str, Callable[[Path, Path], object]] = {"difference": exact, "torch": loaded, "compare": command, "agree": agree}


def peak() -> float:
    """MiB of memory that this process held at most. Linux's VmHWM: what getrusage says would include the process that forked this one."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024


def run(how: str, left: Path, right: Path) -> None:
    started = time.perf_counter()
    result = HOW[how](left, right)
    seconds = time.perf_counter() - started
    print("\n" + json.dumps({"seconds": seconds, "mib": peak(), "result": result if isinstance(result, bool) else None}))


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
