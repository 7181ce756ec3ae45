"""The scores that a model card claims (`model-index`, and tables in its text), held against the scores of the evaluation logs.

A claim is a rounded number: it agrees with every score that rounds to it, as a fraction or as a percentage. Which of a table's columns
is this model's cannot be told in general, so only the harness's own table and tables of one column of numbers are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelguard.declaration import front_matter
from modelguard.types.evals import EvalLogs, Score
from modelguard.types.logs import Identity, Standing

RULE = "evals-claims"
MAX_CLAIMS = 1000
MAX_TEXT = 2 << 20
METRICS = {"accuracy": ("acc", "acc_norm"), "acc": ("acc",), "acc_norm": ("acc_norm",), "accuracynormalized": ("acc_norm",)}
METRICS |= {
    "normalizedaccuracy": ("acc_norm",),
    "exact_match": ("exact_match",),
    "em": ("exact_match",),
    "": ("acc", "acc_norm", "exact_match"),
}
NUMBER = re.compile(r"(?P<number>\d{1,6}(?:\.\d{1,20})?)\s*(?P<percent>%?)(?:\s*(?:±|\+/-).{0,30})?", re.ASCII)
RULER = re.compile(r":?-{1,200}:?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Claim:
    """One claimed number, as written: `names` are the names that its benchmark goes by, `digits` how many stand behind the point."""

    names: tuple[str, ...]
    metric: str
    value: float
    digits: int
    percent: bool
    where: str


def held_against(card: bytes, name: str, logs: EvalLogs) -> Iterator[Identity]:
    """Every claim of the card whose benchmark the logs know. Raises Malformed where the front matter cannot be read."""
    known = {_plain(score.task) for score in logs.scores}
    for claim in claims(card, name, known):
        yield _judged(claim, logs.scores)


def stated(task: str, metric: str, value: object, where: str, scores: Sequence[Score]) -> Identity:
    """One claim that stands outside a card. What is no number is an open question."""
    number = _number(value)
    if number is None:
        return Identity(rule=RULE, name="unread", standing=Standing.OPEN, text=f"{where}: {task[:80]}: the claim is no number")
    return _judged(Claim((task,), metric.casefold()[:80], *number, where), scores)


def claims(card: bytes, name: str, known: set[str]) -> tuple[Claim, ...]:
    """What the card claims. From its tables only rows that name a `known` task, because tables hold all sorts of numbers."""
    written = tuple(_indexed(front_matter(card, name), name))
    tabled = tuple(_tabled(card[:MAX_TEXT].decode("utf-8", "replace"), name, known))
    return (*written, *tabled)[:MAX_CLAIMS]


def _judged(claim: Claim, scores: Sequence[Score]) -> Identity:
    names = {_plain(name) for name in claim.names}
    metrics = METRICS.get(claim.metric, METRICS.get(_plain(claim.metric), (claim.metric,)))
    same = [score for score in scores if _plain(score.task) in names]
    fitting = [score for score in same if score.metric in metrics]
    told = f"{claim.where} claims {_written(claim)} for {claim.names[0][:80]}"
    if not fitting:
        why = f"no score of {claim.metric[:40] or 'a usual metric'} in the logs" if same else "no evaluation log of that task"
        return Identity(rule=RULE, name="unlogged", standing=Standing.OPEN, text=f"{told}: {why}")
    near = min(fitting, key=lambda score: (abs(_scaled(claim, score) - claim.value), score.name))
    numbers = {"claimed": claim.value, "logged": round(_scaled(claim, near), 6), "tolerance": _tolerance(claim), "scores": len(fitting)}
    if abs(_scaled(claim, near) - claim.value) <= _tolerance(claim):
        return Identity(rule=RULE, name="claim", standing=Standing.HOLDS, text=f"{told}, as the logs do", numbers=numbers)
    text = f"{told}, but the logs give {_scaled(claim, near):.6g} ({near.name}, {near.source})"
    return Identity(rule=RULE, name="claim", standing=Standing.BROKEN, text=text, numbers=numbers)


def _scaled(claim: Claim, score: Score) -> float:
    """The score in the claim's unit: harnesses write fractions, cards often percentages."""
    return score.value * 100 if (claim.percent or claim.value > 1) and abs(score.value) <= 1 else score.value


def _tolerance(claim: Claim) -> float:
    """Half a unit of the last place that is written, and float noise."""
    return 0.5 * 10.0**-claim.digits + 1e-9


def _written(claim: Claim) -> str:
    return f"{claim.value:.{claim.digits}f}{'%' if claim.percent else ''}"


def _plain(name: str) -> str:
    """A benchmark's name without organisation, case and punctuation."""
    return "".join(letter for letter in name.rpartition("/")[2].casefold() if letter.isalnum())


def _indexed(written: Mapping[str, Any], name: str) -> Iterator[Claim]:
    """The claims of `model-index`, whatever else stands there."""
    for model in _list(written.get("model-index")):
        for result in _list(_get(model, "results")):
            dataset, task = _get(result, "dataset"), _get(result, "task")
            names = [_get(dataset, key) for key in ("name", "config", "type")] + [_get(task, "name")]
            told = tuple(one for one in names if isinstance(one, str) and one)
            for metric in _list(_get(result, "metrics")) if told else ():
                number = _number(_get(metric, "value"))
                if number is not None:
                    kind = str(_get(metric, "type") or "").casefold()
                    yield Claim(told, kind, number[0], number[1], number[2], f"{name} (model-index)")


def _tabled(text: str, name: str, known: set[str]) -> Iterator[Claim]:
    """The claims of tables in the text."""
    header: list[str] = []
    before: list[str] = []
    task = ""
    for line in text.splitlines():
        cells = [cell.strip().strip("*_` ") for cell in line.strip().strip("|").split("|")] if line.lstrip().startswith("|") else []
        if not cells:
            header, task = [], ""
        elif all(RULER.fullmatch(cell) for cell in cells if cell) and any(cells):
            header = [cell.casefold() for cell in before]
        elif header and len(cells) <= len(header):
            task = _first(cells, header) or task
            if _plain(task) in known and (found := _of_row(cells, header)) is not None:
                metric, (value, digits, percent) = found
                yield Claim((task,), metric, value, digits, percent, f"{name} (table)")
        before = cells


def _first(cells: list[str], header: list[str]) -> str:
    """The benchmark of a row; the harness leaves it out where it is that of the row above, and marks members of a group with a dash."""
    return cells[0].removeprefix("- ").strip() if header else ""


def _of_row(cells: list[str], header: list[str]) -> tuple[str, tuple[float, int, bool]] | None:
    """Metric and number of a row: the harness's own columns, or the only number of a table of two columns."""
    if "metric" in header and "value" in header:
        places = header.index("metric"), header.index("value")
        if max(places) < len(cells) and (number := _number(cells[places[1]])) is not None:
            return cells[places[0]].casefold(), number
        return None
    if len(header) == 2 and len(cells) == 2 and (number := _number(cells[1])) is not None:
        return "", number
    return None


def _number(value: object) -> tuple[float, int, bool] | None:
    """(value, digits behind the point, whether it is a percentage); None for anything but a plain number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    match = NUMBER.fullmatch(value.strip() if isinstance(value, str) else repr(value))
    if match is None:
        return None
    return float(match["number"]), len(match["number"].partition(".")[2]), bool(match["percent"])


def _get(value: object, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _list(value: object) -> list[Any]:
    return value[:MAX_CLAIMS] if isinstance(value, list) else []
