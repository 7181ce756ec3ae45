"""Speed and memory of the exact difference on two large files: `python -m benchmarks.difference [--size GIB] [--width N]`.

Both files are bfloat16 in a decoder's layout and warm in the page cache. The yardstick is `cat A B > /dev/null` in the same run, taken in
turns with ours. Peak memory and the comparison with torch are measured in processes of their own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.peak import exact
from benchmarks.synthetic import Change, every_value, one_in_ten, shapes, write
from benchmarks.timing import child, medians, verdict

GIB = 1 << 30
MAX_MIB = 400


def against_cat(left: Path, right: Path, repetitions: int) -> float:
    """Speed of the exact difference as a share of cat's."""
    cat = partial(subprocess.run, f"cat '{left}' '{right}' > /dev/null", shell=True, check=True)
    taken = medians({"cat": cat, "difference": partial(exact, left, right)}, repetitions)
    total = (left.stat().st_size + right.stat().st_size) / GIB
    print(", ".join(f"{name} {seconds:.2f} s ({total / seconds:.1f} GiB/s)" for name, seconds in taken.items()))
    return taken["cat"] / taken["difference"]


def against_torch(left: Path, right: Path, repetitions: int) -> tuple[float, float]:
    """(how many times as fast as loading both with torch, its peak memory over ours), each in processes of their own."""
    runs = [{how: child("benchmarks.peak", how, str(left), str(right)) for how in ("difference", "torch")} for _ in range(repetitions)]
    ratios = sorted(run["torch"]["seconds"] / run["difference"]["seconds"] for run in runs)
    print("torch against ours: " + ", ".join(f"{run['torch']['seconds']:.1f} s / {run['difference']['seconds']:.1f} s" for run in runs))
    return ratios[len(ratios) // 2], runs[0]["torch"]["mib"] / runs[0]["difference"]["mib"]


def peaks(left: Path, right: Path) -> dict[str, dict[str, float]]:
    """Seconds and peak MiB of the exact difference alone, and of all of `modelguard compare`."""
    return {how: child("benchmarks.peak", how, str(left), str(right)) for how in ("difference", "compare")}


def measure(directory: Path, size: float, width: int, repetitions: int) -> bool:
    layout, left, right = shapes(int(size * GIB), width), directory / "left.safetensors", directory / "right.safetensors"
    write(left, layout, seed=1)
    print(f"{len(layout)} tensors, {left.stat().st_size / GIB:.2f} GiB a file, {os.cpu_count()} cores")
    met = []
    cases: dict[str, tuple[int, Change, float | None]] = {
        "nine in ten tensors equal": (1, one_in_ten, 0.7),
        "every value changed": (1, every_value, 0.2),
        "independent weights": (2, lambda _place, words: words, None),
    }
    for name, (seed, change, target) in cases.items():
        print(f"\n{name}")
        write(right, layout, seed, change)
        if target is not None:
            met.append(verdict("speed, as a share of cat's", against_cat(left, right, repetitions), target, least=True))
        for how, taken in peaks(left, right).items():
            met.append(verdict(f"peak memory of {how} ({taken['seconds']:.1f} s)", taken["mib"], MAX_MIB, least=False, unit=" MiB"))
        if target == 0.2:
            same = bool(child("benchmarks.peak", "agree", str(left), str(right))["result"])
            print(f"{'ok  ' if same else 'MISS'} the same statistics as torch in float64: {same}")
            met.append(same)
            faster, smaller = against_torch(left, right, repetitions)
            met.append(verdict("times as fast as torch in float32", faster, 3, least=True))
            print(f"     and {smaller:.0f} times less memory")
    return all(met)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=2.0, help="GiB of each file (default: 2)")
    parser.add_argument("--width", type=int, default=2048, help="width of the residual stream (default: 2048)")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelguard-benchmark-") as directory:
        free = shutil.disk_usage(directory).free
        if free < 3 * options.size * GIB:
            print(f"needs {3 * options.size:.1f} GiB free under {directory}, {free / GIB:.1f} are", file=sys.stderr)
            return 2
        return 0 if measure(Path(directory), options.size, options.width, options.repetitions) else 1


if __name__ == "__main__":
    sys.exit(main())
