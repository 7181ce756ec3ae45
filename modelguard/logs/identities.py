"""The relations between a log's own values that an edit breaks, found for every run and hung on it.

A relation that does not apply leaves nothing behind; one whose arithmetic fails is left open, with the reason, and never an accusation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise

from modelguard.attempt import attempt
from modelguard.logs.affine import affine, shape
from modelguard.logs.clock import RULE as CLOCK
from modelguard.logs.clock import clock
from modelguard.logs.numerals import RULE as NUMERALS
from modelguard.logs.numerals import numerals
from modelguard.logs.repeats import RULE as REPEATS
from modelguard.logs.repeats import repeats, shared
from modelguard.logs.rows import basename
from modelguard.logs.schedule import RULE as SCHEDULE
from modelguard.logs.schedule import schedule
from modelguard.logs.totals import RULE as TOTALS
from modelguard.logs.totals import totals
from modelguard.types.findings import Missing
from modelguard.types.logs import Identity, Run, Standing

EPOCH_SLACK = 0.02  # of the steps of an epoch, beside the one step by which partial batches shift it
_RUNTIME, _RATE = "_runtime", "_steps_per_second"


def examined(runs: Sequence[Run], committed: float | None = None) -> tuple[Run, ...]:
    """The runs with every relation that their values keep, break or leave open; `committed` is when the logs were, in unix seconds."""
    shapes = [shape(run) for run in runs]
    found = []
    for index, (run, mine) in enumerate(zip(runs, shapes, strict=True)):
        more = _found(REPEATS, partial(affine, mine, shapes[:index]), run) + _found(CLOCK, partial(clock, run, committed), run)
        found.append(replace(run, identities=(*run.identities, *_all(run, runs[:index]), *more)))
    return tuple(found)


def _all(run: Run, earlier: Sequence[Run]) -> Iterator[Identity]:
    yield from _found(TOTALS, partial(totals, run), run)
    yield from _found(TOTALS, partial(_evaluations, run), run)
    yield from _found(TOTALS, partial(_epochs, run), run)
    yield from _found(SCHEDULE, partial(schedule, run), run)
    yield from _found(NUMERALS, partial(numerals, run), run)
    yield from _found(REPEATS, partial(repeats, run), run)
    yield from _found(REPEATS, partial(shared, run, earlier), run)


def _found(rule: str, relations: Callable[[], Iterator[Identity]], run: Run) -> tuple[Identity, ...]:
    """What one family of relations says; numbers that overflow or worse leave it open."""
    outcome = attempt(lambda: tuple(relations()), what=f"the arithmetic of {rule} on {run.source}")
    if isinstance(outcome, Missing):
        return (Identity(rule=rule, name="arithmetic", standing=Standing.OPEN, text=outcome.why),)
    return outcome


def _evaluations(run: Run) -> Iterator[Identity]:
    """The batches of an evaluation, `eval_runtime` × `eval_steps_per_second`, from one evaluation of a set to the next."""
    sets: dict[str, list[tuple[int, float, float]]] = {}
    for entry in run.records:
        timed = any(name.endswith(_RUNTIME) for name in entry.values)
        values = {basename(name): value for name, value in entry.values.items()} if timed else {}
        for name, seconds in values.items():
            prefix = name.removesuffix(_RUNTIME)
            rate = values.get(prefix + _RATE)
            if name.endswith(_RUNTIME) and prefix.startswith("eval") and rate is not None and abs(seconds * rate) < 1e15:
                sets.setdefault(prefix, []).append((entry.step, seconds * rate, 0.51e-3 * seconds + 0.51e-4 * rate + 1e-6 * seconds * rate))
    for prefix, taken in sorted(sets.items()):
        if len(taken) > 1:
            yield _same_batches(prefix, taken)


def _same_batches(prefix: str, taken: Sequence[tuple[int, float, float]]) -> Identity:
    low, high = max(count - slack for _, count, slack in taken), min(count + slack for _, count, slack in taken)
    odd = [step for step, count, slack in taken if abs(count - taken[0][1]) > slack + taken[0][2]]
    numbers: dict[str, float | int | str] = {"evaluations": len(taken), "batches": taken[0][1], "odd": len(odd)}
    text = f"{prefix}_runtime times {prefix}_steps_per_second is {taken[0][1]:.5g} batches in each of {len(taken)} evaluations"
    if low > high and odd:
        text = f"{prefix}_runtime times {prefix}_steps_per_second differs between evaluations, first at step {odd[0]}"
    standing = Standing.BROKEN if low > high and odd else Standing.HOLDS
    return Identity(rule=TOTALS, name="eval-batches", standing=standing, text=text, numbers=numbers)


def _epochs(run: Run) -> Iterator[Identity]:
    """Steps per epoch: the epoch grows with the step at one rate, or at two where another batch size took over at a resume."""
    rows = [(entry.step, entry.epoch) for entry in run.training if entry.epoch is not None and math.isfinite(entry.epoch)]
    rows = [(step, epoch) for step, epoch in rows if step > 0 and 1e-9 < epoch < 1e9]
    if len(rows) < 8 or any(b[0] <= a[0] for a, b in pairwise(rows)) or all(epoch == int(epoch) for _, epoch in rows):
        return
    rates = sorted(epoch / step for step, epoch in rows)
    usual = rates[len(rates) // 2]
    slack = 0.006 if all(round(epoch, 2) == epoch for _, epoch in rows) else 0.0
    fits = [abs(epoch - usual * step) <= slack + (1 + EPOCH_SLACK * step) * usual for step, epoch in rows]
    changes = [value for value, _ in groupby(fits)]
    numbers: dict[str, float | int | str] = {"rows": len(rows), "steps_per_epoch": 1 / usual, "odd_rows": fits.count(False)}
    back = next((after[0] for before, after in pairwise(rows) if after[1] < before[1] - slack), None)
    if back is not None:
        text = f"the epoch goes back at step {back} while the steps go on"
        yield Identity(rule=TOTALS, name="epoch-back", standing=Standing.BROKEN, text=text, numbers=numbers)
    elif changes.count(False) and changes.count(True) > 1:
        text = f"{fits.count(False)} of {len(rows)} epochs do not fit {1 / usual:.5g} steps an epoch, to which the rows after them return"
        yield Identity(rule=TOTALS, name="epoch-steps", standing=Standing.BROKEN, text=text, numbers=numbers)
    else:
        text = f"the epochs of {fits.count(True)} of {len(rows)} rows fit {1 / usual:.5g} steps an epoch"
        yield Identity(rule=TOTALS, name="epoch-steps", standing=Standing.HOLDS, text=text, numbers=numbers)
