"""Single values of MLflow, wherever it keeps them, and how values of one moment become one record."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from modelguard.logs.rows import EPOCH_KEYS, STEP_KEYS, TIME_KEYS, is_metric, kind_of, whole
from modelguard.types.logs import LogRecord


class Moment(NamedTuple):
    """When a value was logged: unix seconds by the writer's clock, and the step."""

    time: float
    step: int


def point(key: str, milliseconds: int, value: float, step: int, position: int) -> LogRecord | None:
    """One logged value as a record; None where its step is negative. A metric that tells of no optimizer step is an evaluation."""
    count, time = whole(float(step)), milliseconds / 1000
    if count is None or key in TIME_KEYS or key in STEP_KEYS:
        return None
    if key in EPOCH_KEYS:
        return LogRecord(step=count, kind="eval", values={}, epoch=value, time=time, position=position)
    kind = kind_of([key])
    if kind == "train" and not is_metric(key):
        kind = "eval"
    return LogRecord(step=count, kind=kind, values={key: value}, time=time, position=position)


def merge(series: Sequence[Sequence[LogRecord]]) -> tuple[LogRecord, ...]:
    """The values of several metrics as one log. Each series keeps its own order, so that a clock that was set back moves nothing."""
    together = heapq.merge(*series, key=_moment)
    return tuple(record for _, group in groupby(together, key=_moment) for record in _records(tuple(group)))


def _moment(record: LogRecord) -> Moment:
    return Moment(record.time or 0.0, record.step)


def _records(group: Sequence[LogRecord]) -> Iterator[LogRecord]:
    """The values of one moment, as one record for each kind; a value that stands in two files is one value."""
    epoch = next((record.epoch for record in group if record.epoch is not None), None)
    for kind, alike in groupby(sorted(group, key=attrgetter("kind")), key=attrgetter("kind")):
        for values, position in _rows(alike):
            yield LogRecord(step=group[0].step, kind=kind, values=values, epoch=epoch, time=group[0].time, position=position)


def _rows(records: Iterable[LogRecord]) -> Iterator[tuple[dict[str, float], int]]:
    """The values as rows of distinct names, each with the place of its first value."""
    values: dict[str, float] = {}
    place = 0
    for record in records:
        for key, value in record.values.items():
            if key in values and repr(values[key]) != repr(value):
                yield values, place
                values = {}
            place = place if values else record.position
            values[key] = value
    if values:
        yield values, place
