"""What the rows of the textual logs have in common: which key is the step, which numbers count, what kind of row it is."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from modelguard.errors import Malformed
from modelguard.types.logs import LogRecord

DASHBOARD_STEP = "_step"  # W&B counts its own rows under this name; a trainer's own counter beside it is the one to trust
STEP_KEYS = (
    *("step", "global_step", "train/global_step", "trainer/global_step", "current_steps", "iteration", "iter", "iter_num", "steps", "Step"),
    DASHBOARD_STEP,
)
EPOCH_KEYS = ("epoch", "train/epoch")
TIME_KEYS = ("timestamp", "_timestamp", "time", "wall_time", "Wall time")
CLAIM_KEYS = {"total_steps": "max_steps", "max_steps": "max_steps", "save_steps": "save_steps", "logging_steps": "logging_steps"}
_NO_METRICS = frozenset({*STEP_KEYS, *EPOCH_KEYS, *TIME_KEYS, *CLAIM_KEYS, "_runtime"})
MAX_ROWS = 1_000_000  # of one file
MAX_STEP = 1 << 53  # beyond it a float no longer counts one by one

_WORD = r"(?:^|[/_.\- ]){}(?:$|[/_.\- 0-9])"
_EVAL = re.compile(_WORD.format("(?:eval|evaluation|val|valid|validation|test|dev)"), re.IGNORECASE)
_LOSS = re.compile(r"loss|(?:^|[/_.\- ])nll(?:$|[/_.\- ])", re.IGNORECASE)
_TRAIN = re.compile(
    _WORD.format("(?:loss|nll|lr|learning[_ ]?rate|grad[_ ]?norm|perplexity|ppl|reward|rewards|acc|accuracy|mfu|entropy|kl)"), re.IGNORECASE
)
_SUMMARY = frozenset({"train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos"})


def number(value: object) -> float | None:
    """A JSON number as a float (NaN and infinities included), None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def numbers(row: Mapping[Any, Any]) -> dict[str, float]:
    """The entries of a row that are numbers."""
    pairs = ((str(key), number(value)) for key, value in row.items())
    return {key: value for key, value in pairs if value is not None}


def whole(value: float | None) -> int | None:
    """A step number: a whole number in [0, 2^53), None for anything else."""
    if value is None or not 0 <= value < MAX_STEP or value != int(value):
        return None
    return int(value)


def within_limit(rows: int, name: str) -> None:
    """Raises Malformed for a file of more rows than any log that people look at: each costs memory."""
    if rows > MAX_ROWS:
        raise Malformed(f"{name}: more than {MAX_ROWS} rows", advice="log less often, or commit the log in parts")


def step_key(keys: Iterable[str]) -> str | None:
    """The key that counts steps, by the usual names in order of trust."""
    present = set(keys)
    return next((key for key in STEP_KEYS if key in present), None)


def kind_of(keys: Iterable[str]) -> str:
    """Whether a row tells of training, of an evaluation, or sums a finished run up, from the names of its metrics."""
    names = [key for key in keys if key not in STEP_KEYS]
    if any(basename(name) in _SUMMARY for name in names) and not any(basename(name) == "loss" for name in names):
        return "summary"
    if any(_LOSS.search(name) and not _EVAL.search(name) for name in names):
        return "train"
    return "eval" if any(_EVAL.search(name) for name in names) else "train"


def is_metric(name: str) -> bool:
    """Whether a name is one that only a training log uses for a number."""
    return bool(_TRAIN.search(name) or _LOSS.search(name))


@lru_cache(maxsize=4096)
def is_loss(name: str) -> bool:
    """Whether a metric is a loss on training data."""
    return bool(_LOSS.search(name)) and not _EVAL.search(name)


@lru_cache(maxsize=4096)
def basename(name: str) -> str:
    """`train/loss` as `loss`."""
    return name.rpartition("/")[2]


def record(row: Mapping[str, Any], key: str, position: int) -> LogRecord | None:
    """One row as a record; None where its step is no whole number or it holds no metric."""
    values = numbers(row)
    step = whole(values.pop(key, None))
    epoch = next((values[name] for name in EPOCH_KEYS if name in values), None)
    time = next((moment for name in TIME_KEYS if name in row and (moment := _time(row[name])) is not None), None)
    metrics = {name: value for name, value in values.items() if name not in _NO_METRICS}
    if step is None or not metrics:
        return None
    return LogRecord(step=step, kind=kind_of(metrics), values=metrics, epoch=epoch, time=time, position=position)


def _time(value: object) -> float | None:
    """Unix seconds from a number or an ISO 8601 text. A text without a time zone is read as UTC, so that no machine's zone enters."""
    if not isinstance(value, str):
        return number(value)
    try:
        moment = datetime.datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
