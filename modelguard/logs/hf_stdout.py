"""What the Hugging Face Trainer prints: `{'loss': 0.69, …, 'epoch': 0.02}` (4.x), the same with strings (5.x), and progress bars.

The rows name no step. Steps are taken from the progress bar where it was drawn anew after each row, else from the epochs
where those are printed finely enough; else the rows are numbered and the log says so: its order of steps cannot be judged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO

from modelguard.errors import Malformed
from modelguard.logs.epochsteps import steps_of
from modelguard.logs.rows import kind_of, within_limit
from modelguard.logs.textlines import NUMBER, Dropped, lines, number, pairs
from modelguard.types.logs import UNSTEPPED, LogRecord, Run

FORMAT = "hf-stdout"
PATTERN = re.compile(rb"\{'(?:loss|train_runtime)': '?[-+.\dni][^{}\r\n]{0,4000}'epoch': '?[\d.]")
_ROW = re.compile(r"\{('(?:loss|eval_loss|eval_runtime|train_runtime)': [^{}]{1,8000})\}")
_PAIR = re.compile(rf"'([^']{{1,80}})': '?({NUMBER})'?(?=,|$)")
_EPOCH = re.compile(r"'epoch': '?\d{1,9}(?:\.(\d{1,40}))?'?(?:,|$)")
_BAR = re.compile(r"(\d{1,15})/(\d{1,15}) \[\d{1,6}:\d\d")
_PLANNED = re.compile(r"Total optimization steps = ([\d,]{1,20})")
_RESTART = re.compile(r"\*{5} Running training \*{5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Printed:
    """A row as printed: where, its numbers, and the step that the progress bar showed next (0: it was not drawn again)."""

    position: int
    values: dict[str, float]
    digits: int
    session: int
    kind: str


@dataclass(slots=True)
class _Console:
    """What has been read so far."""

    rows: list[_Printed] = field(default_factory=list)
    bars: dict[int, int] = field(default_factory=dict)  # index of a row -> the step shown after it
    total: int = 0
    session: int = 0

    def take(self, line: str, position: int) -> None:
        if planned := _PLANNED.search(line):
            self.total = int(number(planned[1]))
        row = _ROW.search(line)
        for bar in _BAR.finditer(line, 0, row.start() if row else 4000):
            self.total = self.total or int(bar[2])
            if int(bar[2]) == self.total and self.rows:
                self.bars.setdefault(len(self.rows) - 1, int(bar[1]))
        if row:
            values = pairs(_PAIR.findall(row[1]))
            epoch = _EPOCH.search(row[1])
            digits = len(epoch[1] or "") if epoch else 0
            kind = "summary" if "train_runtime" in values else kind_of(values)
            self.rows.append(_Printed(position=position, values=values, digits=digits, session=self.session, kind=kind))
        elif _RESTART.search(line):
            self.session += bool(self.rows and self.rows[-1].session == self.session)


def stream(name: str, file: BinaryIO) -> Run:
    """The run in a log, from a file of any size. Raises Malformed."""
    dropped, console = Dropped(), _Console()
    for position, line in lines(file, dropped):
        if "{'" in line or " [" in line or "***" in line or "Total opt" in line:
            console.take(line, position)
            within_limit(len(console.rows), name)
    if not console.rows:
        raise Malformed(f"{name}: no line has a loss and an epoch", advice="commit the log as the program wrote it")
    steps, claim, note = _steps(console)
    claimed = {**claim, **({"max_steps": float(console.total)} if console.total else {})}
    return Run(source=name, format=FORMAT, records=_records(console.rows, steps), claimed=claimed, notes=(note, *dropped.notes))


def _records(rows: Sequence[_Printed], steps: dict[int, int]) -> tuple[LogRecord, ...]:
    """The rows as records; an evaluation or a summary stands at the step of the training row before it."""
    records: list[LogRecord] = []
    step = 0
    for index, row in enumerate(rows):
        step = steps.get(index, step)
        values = {key: value for key, value in row.values.items() if key != "epoch"}
        record = LogRecord(
            step=step, kind=row.kind, values=values, epoch=row.values.get("epoch"), position=row.position, session=row.session
        )
        records.append(record)
    return tuple(record for record in records if record.values)


def _steps(console: _Console) -> tuple[dict[int, int], dict[str, float], str]:
    """The step of each training row by its index, the claim that goes with it, and where the steps are from."""
    training = [index for index, row in enumerate(console.rows) if row.kind == "train"]
    shown = [console.bars.get(index, 0) for index in training]
    if _regular(shown):
        return dict(zip(training, shown, strict=True)), {}, "the rows name no step: it is taken from the progress bar"
    fitted = _from_epochs([console.rows[index] for index in training], console)
    if fitted:
        return dict(zip(training, fitted, strict=True)), {}, "the rows name no step: it is computed from the epoch and the number of steps"
    note = "the rows name no step, and neither progress bar nor epochs tell it: they are numbered"
    return {index: place for place, index in enumerate(training, start=1)}, {UNSTEPPED: 1.0}, note


def _regular(shown: Sequence[int]) -> bool:
    """Whether the bar was read at each row: its steps grow, and are multiples of their usual difference but for the first."""
    apart = Counter(after - before for before, after in pairwise(shown))
    usual = max(apart, key=lambda gap: (apart[gap], -gap), default=0)
    return len(shown) > 2 and min(apart) > 0 and shown[0] > 0 and all(step % usual == 0 for step in shown[1:])


def _from_epochs(training: Sequence[_Printed], console: _Console) -> tuple[int, ...]:
    """The steps of a log of one process that ran to its end, from the epochs; empty where they do not tell."""
    last = console.rows[-1]
    summary = next((row for row in reversed(console.rows) if row.kind == "summary"), last)
    if summary.kind != "summary" or any(row.session != last.session or "epoch" not in row.values for row in training):
        return ()
    digits = max((row.digits for row in training), default=0)
    return steps_of([row.values["epoch"] for row in training], digits, console.total, summary.values.get("epoch", 0.0))
