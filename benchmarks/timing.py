"""Times of several things in one run, taken in turns so that a noisy machine is noisy for all of them alike."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


def medians(actions: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Median wall seconds of every action, after one round that warms caches. Rounds alternate over the actions."""
    for action in actions.values():
        action()
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repetitions):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def child(module: str, *arguments: str) -> Any:
    """What `python -m module arguments` prints as its last line, as JSON: a fresh process has a peak memory of its own."""
    run = subprocess.run([sys.executable, "-m", module, *arguments], check=True, capture_output=True, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def verdict(name: str, measured: float, target: float, *, least: bool, unit: str = "") -> bool:
    """Prints one line about a target, and says whether it was met."""
    met = measured >= target if least else measured <= target
    print(f"{'ok  ' if met else 'MISS'} {name}: {measured:.2f}{unit} ({'at least' if least else 'at most'} {target:g}{unit})")
    return met
