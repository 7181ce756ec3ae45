"""One comparison in a process of its own: seconds and peak memory, as one line of JSON. `python -m benchmarks.peak HOW LEFT RIGHT`.

HOW is `difference` (the exact difference alone), `compare` (all of `modelguard compare`) or `torch` (both files loaded, then compared
in float32).
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from modelguard.blobs.local import LocalBlob
from modelguard.checkpoints.safetensors import open_safetensors


def exact(left: Path, right: Path) -> list[tuple[int, float, float]]:
    """(equal entries, largest |a - b|, L2 of a - b over L2 of b) of every tensor pair, by our exact difference."""
    from modelguard.fingerprint.alignment import align
    from modelguard.fingerprint.difference import difference

    first, second = (open_safetensors(LocalBlob(path)) for path in (left, right))
    items = difference(first, second, align(first, second, by_content=False))
    return [(item.equal, item.max_abs, item.relative) for item in items]


def loaded(left: Path, right: Path) -> list[tuple[int, float, float]]:
    """The same three numbers as most people would get them: both files loaded with safetensors.torch, every tensor in float32."""
    from safetensors.torch import load_file

    first, second = load_file(left), load_file(right)
    return [_statistics(first[name].float(), second[name].float()) for name in sorted(first)]


def _statistics(ours: Any, theirs: Any) -> tuple[int, float, float]:
    delta = ours - theirs
    return int((ours == theirs).sum()), float(delta.abs().max()), float(delta.norm() / theirs.norm())


def command(left: Path, right: Path) -> str:
    """What `modelguard compare` prints."""
    from modelguard.cli import main

    code = main(["compare", str(left), str(right), "--quiet", "--offline", "--format", "json"])
    if code != 0:
        raise SystemExit(code)
    return ""


HOW = {"difference": exact, "torch": loaded, "compare": command}


def run(how: str, left: Path, right: Path) -> None:
    started = time.perf_counter()
    HOW[how](left, right)
    seconds, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("\n" + json.dumps({"seconds": seconds, "mib": peak / 1024}))


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
