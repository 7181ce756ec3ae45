"""The files of lm-evaluation-harness: `results_*.json` (headline scores) and `samples_<task>_*.jsonl` (every question), as streams."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, BinaryIO

from modelguard.errors import Malformed
from modelguard.evals.rows import ACCURACIES, Row, row
from modelguard.logs import jsontext
from modelguard.types.evals import Answer, Score

MAX_RESULTS = 64 << 20
MAX_LINE = 8 << 20
MAX_ROWS = 500_000
MAX_SCORES = 100_000
SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<stamp>\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}(?:\.\d+)?)\.jsonl")
RESULTS = re.compile(r"results(?:_\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}(?:\.\d+)?)?\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A results file. `hashes`, `counts` (asked of, there are) and `configs` are by task; `stamp` is that of the file's name."""

    source: str
    scores: tuple[Score, ...]
    configs: Mapping[str, Mapping[str, Any]]
    hashes: Mapping[str, str]
    counts: Mapping[str, tuple[int, int]]
    limited: bool  # not every question was to be asked
    model: str  # "" where the file does not name it


@dataclass(slots=True)
class Group:
    """The rows of one task under one filter, summed while they are read."""

    answers: list[Answer] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=dict)
    own: dict[str, int] = field(default_factory=dict)  # rows whose metric could be recomputed
    differing: dict[str, int] = field(default_factory=dict)
    rehashed: int = 0
    unpicked: int = 0
    judged: int = 0  # rows whose filtered response can be held against the raw one
    seen: set[str] = field(default_factory=set)
    repeated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """A samples file: its rows by filter, how many there are in all, and the hash over all of them in file order."""

    source: str
    task: str
    stamp: str
    groups: Mapping[str, Group]
    rows: int
    task_hash: str


def looks_like_evals(name: str) -> bool:
    """Whether a file's name is one that the harness gives its files."""
    return is_samples(name) or RESULTS.fullmatch(name.rpartition("/")[2]) is not None


def is_samples(name: str) -> bool:
    """Whether a file's name is that of a samples file."""
    return SAMPLES.fullmatch(name.rpartition("/")[2]) is not None


def task_of(name: str) -> tuple[str, str]:
    """The task and the time stamp in the name of a samples file."""
    match = SAMPLES.fullmatch(name.rpartition("/")[2])
    if match is None:
        raise Malformed(
            f"{name}: not the name of a samples file", advice="keep the name that the harness gave: samples_<task>_<time>.jsonl"
        )
    return match["task"], match["stamp"]


def read_results(name: str, data: bytes) -> Results | None:
    """The results in a file; None where the JSON is something else. Raises Malformed."""
    if len(data) > MAX_RESULTS:
        raise Malformed(f"{name}: {len(data)} bytes, more than the {MAX_RESULTS} that are read of a results file")
    value = jsontext.loads(jsontext.decode(data, name), name)
    if not isinstance(value, dict) or not isinstance(value.get("results"), dict) or not {"config", "versions", "configs"} & set(value):
        return None
    config = _mapping(value, "config")
    counts = {task: pair for task, entry in _mapping(value, "n-samples").items() if (pair := _pair(entry)) is not None}
    scores = tuple(score for part in ("results", "groups") for score in _scores(_mapping(value, part), name, counts, part == "groups"))
    if len(scores) > MAX_SCORES:
        raise Malformed(f"{name}: more than {MAX_SCORES} scores")
    return Results(
        source=name,
        scores=tuple({(score.task, score.metric, score.filter): score for score in scores}.values()),
        configs={task: entry for task, entry in _mapping(value, "configs").items() if isinstance(entry, dict)},
        hashes={task: entry for task, entry in _mapping(value, "task_hashes").items() if isinstance(entry, str)},
        counts=counts,
        limited=config.get("limit") is not None or config.get("samples") is not None,
        model=_model(value, config),
    )


def read_samples(name: str, file: BinaryIO, config: Mapping[str, Any]) -> Samples:
    """The samples in a file, a line at a time. `config` is the task's configuration ({} where there is none). Raises Malformed."""
    task, stamp = task_of(name)
    groups: dict[str, Group] = {}
    digest, count = hashlib.sha256(), 0
    for number, line in _lines(file, name):
        count += 1
        if count > MAX_ROWS:
            raise Malformed(f"{name}: more than {MAX_ROWS} rows", advice="split the task")
        found = row(jsontext.loads(jsontext.decode(line, name), name, line=number), f"{name} line {number}", config)
        digest.update(found.hashes.encode())
        _add(groups.setdefault(found.filter, Group()), found)
    if not groups:
        raise Malformed(f"{name}: no rows", advice="give the samples file as the harness wrote it")
    return Samples(source=name, task=task, stamp=stamp, groups=groups, rows=count, task_hash=digest.hexdigest())


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise Malformed(f"{name}: line {number} has more than {MAX_LINE} bytes")
        if line.strip():
            yield number, line


def _add(group: Group, found: Row) -> None:
    group.repeated += found.answer.doc in group.seen
    group.seen.add(found.answer.doc)
    group.answers.append(found.answer)
    group.rehashed += found.rehashed
    group.judged += found.picked is not None
    group.unpicked += found.picked is False
    for metric, value in found.scores.items():
        group.scores.setdefault(metric, []).append(value)
        if metric in found.own:
            group.own[metric] = group.own.get(metric, 0) + 1
            group.differing[metric] = group.differing.get(metric, 0) + (found.own[metric] != value)


def _scores(tasks: Mapping[str, Any], name: str, counts: Mapping[str, tuple[int, int]], grouped: bool) -> Iterator[Score]:
    """Every number whose key is a metric. Harness 0.4 writes `metric,filter`, older ones the metric alone."""
    for task, values in tasks.items():
        for key, value in values.items() if isinstance(values, dict) else ():
            metric, comma, chosen = key.partition(",")
            if metric.endswith("_stderr") or metric in ("alias", "name", "sample_len", "samples", "sample_count") or not _is_number(value):
                continue
            stderr = values.get(f"{metric}_stderr{comma}{chosen}")
            yield Score(
                task=task[:200],
                metric=metric[:80],
                filter=chosen[:80],
                value=float(value),
                stderr=float(stderr) if _is_number(stderr) and not grouped else None,
                count=counts[task][1] if task in counts else None,
                source=name,
            )


def _model(value: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The model's name; older versions give it among the arguments alone."""
    name, arguments = value.get("model_name"), config.get("model_args")
    if isinstance(name, str):
        return name[:200]
    named = re.search(r"(?:^|,)pretrained=([^,]{1,200})", arguments) if isinstance(arguments, str) else None
    return named[1] if named else ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and isfinite(value)


def _pair(entry: object) -> tuple[int, int] | None:
    """(there are, asked) of `n-samples`."""
    pair = (entry.get("original"), entry.get("effective")) if isinstance(entry, dict) else (None, None)
    return (int(pair[0]), int(pair[1])) if all(isinstance(one, int) and 0 <= one < 1 << 40 for one in pair) else None  # type: ignore[arg-type]


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def accuracies(group: Group) -> tuple[str, ...]:
    """The metrics of a group's rows that are a mean over questions, and that every row has."""
    return tuple(metric for metric in ACCURACIES if len(group.scores.get(metric, ())) == len(group.answers))
