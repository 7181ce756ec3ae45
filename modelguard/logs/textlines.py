"""What the readers of console logs share: lines of a stream in constant memory, rows with a step, restarts and checkpoints.

A console log may begin with anything (its own source code, a banner, a traceback), so a reader claims it by an exact
pattern of its metric lines, searched in the whole file: `PATTERN`, a regular expression over bytes, in each reader's module.
"""

from __future__ import annotations

import datetime
import io
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from modelguard.errors import Malformed
from modelguard.logs.rows import whole, within_limit
from modelguard.types.logs import LogRecord, Run

MAX_LINE = 1 << 16  # characters: no program writes a metric line as long
MAX_CELLS = 200  # metrics of one line
MAX_FULL = 100_000  # records that keep all their values; later ones keep what tells of training: a loss and a learning rate
MAX_CHECKPOINTS = 100_000  # steps of checkpoints that are remembered
NUMBER = r"[-+]?(?:\d{1,40}(?:,\d{3}){0,8}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,4})?|[-+]?(?:nan|inf(?:inity)?)(?![a-z])"

_NUMBER = re.compile(NUMBER)
_ANSI = re.compile(r"\x1b(?:\[[0-?]{0,40}[ -/]{0,9}[@-~]|\][^\x07\x1b]{0,400}(?:\x07|\x1b\\)?)")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,6}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A metric line: the step that it names, its numbers, and the steps that it says are planned (0: none)."""

    step: int
    values: Mapping[str, float]
    kind: str = "train"
    epoch: float | None = None
    time: float | None = None
    planned: int = 0


@dataclass(frozen=True, slots=True)
class Restart:
    """A line that only a process that starts writes."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A line that tells of a checkpoint at a step."""

    step: int


Event = Row | Restart | Saved
Parse = Callable[[str], Event | None]


@dataclass(slots=True)
class Dropped:
    """Counts the lines that were too long to be looked at."""

    count: int = 0
    first: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        text = f"{self.count} lines of more than {MAX_LINE} characters are left out, the first is line {self.first}"
        return (text,) if self.count else ()


def lines(file: BinaryIO, dropped: Dropped) -> Iterator[tuple[int, str]]:
    """(number, text) of each line without colours; LF, CRLF and CR end lines, bytes that are no text are replaced.

    A line longer than MAX_LINE is counted as dropped and never held in memory. An empty line is added at the end, so that
    a parser of blocks can close its last one.
    """
    start = file.read(2)
    encoding = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = io.TextIOWrapper(io.BufferedReader(_Rejoined(start, file), 1 << 20), encoding=encoding, errors="replace", newline=None)
    position = 0
    while line := text.readline(MAX_LINE + 1):
        position += 1
        if len(line) > MAX_LINE and not line.endswith("\n"):
            dropped.count, dropped.first = dropped.count + 1, dropped.first or position
            while (rest := text.readline(MAX_LINE)) and not rest.endswith("\n"):
                pass
            continue
        yield position, _ANSI.sub("", line) if "\x1b" in line else line
    yield position + 1, ""


def holds(pattern: re.Pattern[bytes], data: bytes) -> bool:
    """Whether a pattern of ASCII text is in the bytes of a console log, be they UTF-8 or, as some shells write, UTF-16."""
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return bool(pattern.search(data.replace(b"\0", b"") if wide else data))


class _Rejoined(io.RawIOBase):
    """A stream with the bytes back in front that were read to look at them; the stream below is left open."""

    def __init__(self, start: bytes, file: BinaryIO) -> None:
        self._start, self._file = start, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data, self._start = self._start or self._file.read(len(buffer)), b""
        buffer[: len(data)] = data
        return len(data)


def run_of(name: str, form: str, file: BinaryIO, parse: Parse) -> Run:
    """The run that a console log tells of. Raises Malformed where no line holds a metric, or too many do."""
    dropped = Dropped()
    story = _Story()
    for position, line in lines(file, dropped):
        event = parse(line)
        if event is not None:
            story.take(event, position)
            within_limit(len(story.records), name)
    if not story.records:
        raise Malformed(f"{name}: no line has a step and a number", advice="commit the log as the program wrote it")
    return Run(source=name, format=form, records=tuple(story.records), claimed=story.claimed(), notes=(*story.notes(), *dropped.notes))


@dataclass(slots=True)
class _Story:
    """What has been read so far."""

    records: list[LogRecord] = field(default_factory=list)
    saved: set[int] = field(default_factory=set)
    planned: int = 0
    session: int = 0

    def take(self, event: Event, position: int) -> None:
        if isinstance(event, Restart):
            # a start prints several such lines: they count once, and only after something was logged
            self.session += bool(self.records and self.records[-1].session == self.session)
        elif isinstance(event, Saved):
            if len(self.saved) < MAX_CHECKPOINTS and event.step > 0:
                self.saved.add(event.step)
        elif event.values and whole(float(event.step)) is not None:
            self.planned = max(self.planned, event.planned)
            self.records.append(
                LogRecord(
                    step=event.step,
                    kind=event.kind,
                    values=event.values if len(self.records) < MAX_FULL else _core(event.values),
                    epoch=event.epoch,
                    time=event.time,
                    position=position,
                    session=self.session,
                )
            )

    def claimed(self) -> dict[str, float]:
        """`max_steps` where lines name it, and `save_steps` where at least two checkpoints tell how far they lie apart."""
        said = {"max_steps": float(self.planned)} if self.planned else {}
        ordered = sorted(self.saved)[:-1] if len(self.saved) > 2 else sorted(self.saved)  # the last one may be of the end
        apart = math.gcd(*ordered) if len(ordered) > 1 else 0
        return {**said, "save_steps": float(apart)} if apart > 1 else said

    def notes(self) -> tuple[str, ...]:
        return (f"records after the first {MAX_FULL} keep only a loss and a learning rate",) if len(self.records) > MAX_FULL else ()


def _core(values: Mapping[str, float]) -> dict[str, float]:
    """The first loss and the first learning rate of a row; its first value where it has neither."""
    names = [next((name for name in values if word in name.lower()), None) for word in ("loss", "learning")]
    return {name: values[name] for name in names if name is not None} or dict([next(iter(values.items()))])


def number(text: str) -> float:
    """A number as programs print it, thousands separated by commas included; NaN where it is none."""
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return math.nan


def pairs(found: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Names and numbers of one line as metrics."""
    return {sys.intern(name.strip()): number(value) for name, value in found}


def cells(text: str) -> dict[str, float]:
    """The metrics of a line of cells such as `lm loss: 2.5E+00 | grad norm: 0.8 |`; cells that hold no number are left out."""
    parts = (cell.rpartition(":") for cell in text.split("|", MAX_CELLS)[:MAX_CELLS])
    return {sys.intern(name.strip()): number(value) for name, _, value in parts if 0 < len(name) < 100 and _NUMBER.fullmatch(value.strip())}


def moment(line: str) -> float | None:
    """Unix seconds of the first time stamp of a line. It names no zone and is read as UTC, so that no machine's zone enters."""
    match = _TIME.search(line, 0, 200)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        stamp = datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC).timestamp()
    except ValueError:
        return None
    return stamp + float(f"0.{match[7] or 0}")
