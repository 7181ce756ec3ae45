"""What the readers of machine logs share: samples and allocations within limits, and texts whose encoding is not trusted."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterator, Sequence

from modelguard.errors import Malformed
from modelguard.logs.rows import MAX_ROWS
from modelguard.types.logs import Allocation, Sample, Usage

MAX_LINE = 1 << 16  # characters


def text_of(data: bytes) -> str:
    """The text of a machine log; bytes that are no text are replaced."""
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return data.decode("utf-16" if wide else "utf-8-sig", "replace")


def rows(name: str, data: bytes, separator: str) -> Iterator[list[str]]:
    """The cells of each line that is not empty, without the blanks around them. Raises Malformed for a line of no machine log."""
    text = text_of(data).replace("\r\n", "\n").replace("\r", "\n")
    for position, line in enumerate(io.StringIO(text), start=1):
        if len(line) > MAX_LINE:
            raise Malformed(f"{name}: line {position} has more than {MAX_LINE} characters", advice="commit the file as the tool wrote it")
        if line.strip():
            yield [cell.strip().strip('"') for cell in _cells(line.strip(), separator)]


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return line.split(separator)


def usage(name: str, form: str, samples: Sequence[Sample] = (), allocations: Sequence[Allocation] = (), left_out: int = 0) -> Usage:
    """A machine log as a value, samples in order of time. Raises Malformed where nothing in it has a time, or too much."""
    if not samples and not allocations:
        raise Malformed(f"{name}: no line has a time and a value", advice="commit the file as the tool wrote it, with time stamps")
    if max(len(samples), len(allocations)) > MAX_ROWS:
        raise Malformed(f"{name}: more than {MAX_ROWS} rows", advice="sample less often, or commit the log in parts")
    notes = (f"{left_out} lines without a time or a value are passed over",) if left_out else ()
    ordered = tuple(sorted(samples, key=lambda sample: (sample.time, sample.device)))
    return Usage(source=name, format=form, samples=ordered, allocations=tuple(allocations), notes=notes)


def moment(text: str) -> float | None:
    """Unix seconds of `2024/05/01 12:00:00.123` or `2024-05-01T12:00:00`; a time without a zone is read as UTC."""
    try:
        found = datetime.datetime.fromisoformat(text.strip().replace("/", "-"))
        return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def quantity(text: str) -> float | None:
    """The finite number that a cell begins with (`98 %`, `350.12 W`); None for `[N/A]` and the like."""
    head = text.strip().split(" ", 1)[0].rstrip("%W")
    try:
        value = float(head)
    except ValueError:
        return None
    return value if abs(value) < 1e15 else None
