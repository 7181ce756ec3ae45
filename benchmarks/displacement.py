"""How much of a log must be missing before the weights show it: `python -m benchmarks.displacement [SEED…]`.

Real fine-tunes of a small transformer, by default with seeds that no threshold was chosen on. Each cell is the smallest and the
largest ratio of movement to bound over the seeds; above 1.01 it is a finding. The last columns count findings by the logged norm of
the weights, in honest logs and in those of a third of the training.
"""

from __future__ import annotations

import contextlib
import io
import sys

from modelguard.checks.log_cannot_explain_weights import check
from modelguard.displacement.against_log import displacement
from modelguard.types.displacement import LIMIT, Displacement
from modelguard.types.findings import Status
from modelguard.types.logs import TrainingLog
from tests.fingerprint.moving import TUNINGS, Tensors, base, log, tuned, without
from tests.fingerprint.zoo import Arrays

STEPS = 120
HELD_OUT = (3, 4, 5, 6)
COLUMNS = (
    "whole log",
    "head third gone",
    "middle third gone",
    "tail third gone",
    "three times as long",
    "the same, every step's gradient norm logged",
    "other initialisation",
    "Σ lr unseen",
    "weights' norm logged: honest runs found",
    "weights' norm logged: three times as long found",
)


def row(tuning: str, seed: int) -> tuple[tuple[float, ...], bool, bool]:
    """(ratios, whether the norm accuses honest logs, whether it finds the longer training) for one seed.

    A run of 3 STEPS against its log whole and cut; then against the log of STEPS; then one of STEPS against other weights.
    """
    chosen = TUNINGS[tuning]

    def held(after: Tensors, before: Tensors, told: TrainingLog) -> Displacement:
        return displacement(Arrays(after), Arrays(before), told, chosen.settings)

    long, short = tuned(tuning, seed, 3 * STEPS), tuned(tuning, seed, STEPS)
    cut = tuple(held(long.after, long.base, log(without(long.rows, part))).ratio for part in ("nothing", "head", "middle", "tail"))
    longer = held(long.after, long.base, log(short.rows, weights=True))
    every = held(long.after, long.base, log(short.rows, 1)).ratio
    other = held(short.after, base(seed + 50, chosen.stored), log(short.rows)).ratio
    honest = [held(run.after, run.base, log(run.rows, weights=True)) for run in (long, short)]
    return (*cut, longer.ratio, every, other), any(map(_by_norm, honest)), _by_norm(longer)


def _by_norm(item: Displacement) -> bool:
    return any(claim.status is Status.FOUND and "logged_norm" in claim.numbers for claim in check(item))


def main(seeds: tuple[int, ...] = HELD_OUT, tunings: tuple[str, ...] = tuple(TUNINGS)) -> None:
    print("| optimizer | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for tuning in tunings:
        with contextlib.redirect_stderr(io.StringIO()):  # transformers' progress bars
            told = [row(tuning, seed) for seed in seeds]
        cells = [f"{min(column):.2f}–{max(column):.2f}" for column in zip(*(ratios for ratios, _, _ in told), strict=True)]
        unseen = [max(0.0, 1 - ratios[0] / LIMIT) for ratios, _, _ in told]
        counts = [f"{sum(marks)} of {len(told)}" for marks in zip(*((accused, seen) for _, accused, seen in told), strict=True)]
        print(f"| {tuning} | " + " | ".join([*cells, f"{min(unseen):.0%}–{max(unseen):.0%}", *counts]) + " |", flush=True)


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or HELD_OUT)
