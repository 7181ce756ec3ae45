"""How much of a log must be missing before the weights show it: `python -m benchmarks.displacement [SEEDS]`.

Real fine-tunes of a small transformer. Each cell is the smallest and the largest ratio of movement to bound over the seeds; above 1.01 it
is a finding.
"""

from __future__ import annotations

import contextlib
import io
import sys

from modelguard.checks.log_cannot_explain_weights import LIMIT
from modelguard.fingerprint.displacement import displacement
from modelguard.types.logs import TrainingLog
from tests.fingerprint.moving import TUNINGS, Tensors, base, log, tuned, without
from tests.fingerprint.zoo import Arrays

STEPS = 120
COLUMNS = (
    "whole log",
    "head third gone",
    "middle third gone",
    "tail third gone",
    "three times as long",
    "other initialisation",
    "Σ lr unseen",
)


def ratios(tuning: str, seed: int) -> tuple[float, ...]:
    """One row of the table for one seed: a run of 3 STEPS against its log whole and cut; then one of STEPS against other weights."""

    def ratio(after: Tensors, before: Tensors, told: TrainingLog) -> float:
        return displacement(Arrays(after), Arrays(before), told, TUNINGS[tuning].settings).ratio

    long, short = tuned(tuning, seed, 3 * STEPS), tuned(tuning, seed, STEPS)
    cut = tuple(ratio(long.after, long.base, log(without(long.rows, part))) for part in ("nothing", "head", "middle", "tail"))
    others = ratio(long.after, long.base, log(short.rows)), ratio(short.after, base(seed + 50), log(short.rows))
    return (*cut, *others, max(0.0, 1 - cut[0] / LIMIT))


def main(seeds: int = 3) -> None:
    print("| optimizer | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for tuning in TUNINGS:
        with contextlib.redirect_stderr(io.StringIO()):  # transformers' progress bars
            table = list(zip(*(ratios(tuning, seed) for seed in range(seeds)), strict=True))
        cells = [f"{min(column):.2f}–{max(column):.2f}" for column in table[:-1]]
        print(f"| {tuning} | " + " | ".join([*cells, f"{min(table[-1]):.0%}–{max(table[-1]):.0%}"]) + " |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
