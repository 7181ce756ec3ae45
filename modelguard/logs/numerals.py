"""How the numbers of a log are written: which of them a float32 can be, and how many decimals they have.

The Trainer writes `grad_norm` as the value of a float32 (or narrower) tensor, and a loss either rounded to 4 decimals or not at
all. One process does one or the other; rows that do otherwise between rows that agree were not written by it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence

from modelguard.logs.rows import basename
from modelguard.types.logs import Identity, Run, Standing

RULE = "log-number-format"
MIN_ROWS = 10
USUAL = 0.7  # of the rows must agree for the others to stand out
GRID = 1 << 12  # values on a grid of 1/4096 are the means of half-precision losses, of any number of decimals
DECIMALS = 4
STATE_FORMAT = "hf-trainer"


def numerals(run: Run) -> Iterator[Identity]:
    """Whether the gradient norms and the losses of a trainer state are written alike throughout."""
    if run.format != STATE_FORMAT:
        return
    yield from _alike(run, "grad_norm", is_single, "the value of a float32")
    yield from _alike(run, "loss", is_rounded, f"rounded to {DECIMALS} decimals", doubtful=_is_dyadic)


def is_single(value: float) -> bool:
    """Whether a float32 has exactly this value."""
    return abs(value) <= 3.4028234e38 and struct.unpack("<f", struct.pack("<f", value))[0] == value


def is_rounded(value: float) -> bool:
    """Whether a number has at most 4 decimals."""
    return round(value, DECIMALS) == value


def _is_dyadic(value: float) -> bool:
    return value * GRID == math.floor(value * GRID)


def _alike(
    run: Run, name: str, test: Callable[[float], bool], what: str, doubtful: Callable[[float], bool] | None = None
) -> Iterator[Identity]:
    """One identity for a metric of which at least `MIN_ROWS` finite and telling values are logged."""
    rows = [(entry.step, value) for entry in run.training for key, value in entry.values.items() if basename(key) == name]
    rows = [(step, value) for step, value in rows if 0 < abs(value) < 1e30 and not (doubtful and doubtful(value))]
    if len(rows) < MIN_ROWS:
        return
    passed = [test(value) for _, value in rows]
    usual = sum(passed) * 2 >= len(passed)
    if not usual and doubtful is None:
        return  # some back ends give norms of double precision, of which a few are round by chance
    odd = [index for index, value in enumerate(passed) if value != usual]
    numbers: dict[str, float | int | str] = {"rows": len(rows), "odd_rows": len(odd)}
    if not odd or len(odd) > (1 - USUAL) * len(rows):
        standing = Standing.OPEN if odd else Standing.HOLDS
        yield Identity(rule=RULE, name=name, standing=standing, text=_text(name, what, usual, odd, rows), numbers=numbers)
        return
    inside = _between(odd, len(rows))
    more: dict[str, float | int | str] = {"first_odd": rows[odd[0]][0], "last_odd": rows[odd[-1]][0], "example": repr(rows[odd[0]][1])}
    label = f"{name}-inside" if inside else f"{name}-end"
    yield Identity(rule=RULE, name=label, standing=Standing.BROKEN, text=_text(name, what, usual, odd, rows), numbers={**numbers, **more})


def _between(odd: Sequence[int], count: int) -> bool:
    """Whether usual rows lie on both sides of an odd one: a change of version at a resume has them on one side."""
    prefix = odd == list(range(len(odd)))
    suffix = odd == list(range(count - len(odd), count))
    return not (prefix or suffix)


def _text(name: str, what: str, usual: bool, odd: Sequence[int], rows: Sequence[tuple[int, float]]) -> str:
    rule = what if usual else f"not {what}"
    if not odd:
        return f"each of the {len(rows)} values of {name} is {rule}"
    most = f"{len(rows) - len(odd)} of {len(rows)} values of {name} are {rule}"
    return f"{most}, those of {len(odd)} rows from step {rows[odd[0]][0]} on are otherwise"
