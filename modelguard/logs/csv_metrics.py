"""Comma-separated metrics with a header: Lightning's `metrics.csv` (mostly empty cells), `step,loss`, exports of dashboards."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace

from modelguard.errors import Malformed
from modelguard.logs.jsontext import decode
from modelguard.logs.rows import TIME_KEYS, is_metric, record, step_key, within_limit
from modelguard.types.logs import LogRecord, Run

FORMAT = "csv"
MAX_LINE = 1 << 20  # characters
MAX_COLUMNS = 4096
_EXPORT = re.compile(r".+__(?:MIN|MAX)$")


def sniff(name: str, head: bytes) -> bool:
    """The first line is a header that names a step (or an epoch) and a metric."""
    header = _header(head.decode("utf-8-sig", "replace").partition("\n")[0])
    return len(header) > 1 and _step_column(header) is not None and (is_metrics(header) or _is_dashboard(header))


def is_metrics(header: list[str]) -> bool:
    """Whether a column is named as training logs name their metrics."""
    return any(is_metric(column) for column in header)


def read(name: str, data: bytes) -> Run:
    """The run in a CSV file. A last line that breaks off is an ordinary crash; a ragged line before it is Malformed."""
    text = decode(data, name)
    within_limit(text.count("\n"), name)
    if max(map(len, text.split("\n")), default=0) > MAX_LINE:
        raise Malformed(f"{name}: a line has more than {MAX_LINE} characters", advice="a training log has one short row a line")
    header = _header(text.partition("\n")[0])
    key = _step_column(header)
    if key is None or len(set(header)) != len(header) or len(header) > MAX_COLUMNS:
        raise Malformed(f"{name}: the header names no step, or a column twice", advice="commit the file as the trainer wrote it")
    notes: list[str] = []
    records = tuple(_records(name, text, header, key, notes))
    if not records and len(text.split()) > 1:
        raise Malformed(f"{name}: no row has a whole step and a number", advice="commit the file as the trainer wrote it")
    sampled = _is_dashboard(header) or any(_EXPORT.match(column) for column in header)
    if sampled:
        notes.append("exported from a dashboard, which keeps a sample of the points")
    return Run(source=name, format=FORMAT, records=records, claimed={"sampled": 1.0} if sampled else {}, notes=tuple(notes))


def _records(name: str, text: str, header: list[str], key: str, notes: list[str]) -> Iterator[LogRecord]:
    """One record a row; a header that comes again marks a restart of the writer."""
    session = 0
    for position, cells in _rows(name, text):
        if cells == header:
            session += position > 1
        elif len(cells) != len(header) or _number(cells[header.index(key)]) is None:
            if text.endswith("\n") or position <= text.count("\n"):
                raise Malformed(f"{name}: line {position} does not fit the header", advice="commit the file as the trainer wrote it")
            notes.append(f"line {position}, the last one, breaks off: the writer was stopped there")
        else:
            row = {column: _number(cell) for column, cell in zip(header, cells, strict=True)}
            entry = record(row, key, position)
            if entry is not None:
                yield replace(entry, session=session)


def _rows(name: str, text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise Malformed(f"{name}: not CSV (line {reader.line_num})", advice="commit the file as the trainer wrote it") from error


def _header(line: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line.rstrip("\r\n")]), [])]
    except csv.Error:
        return []


def _step_column(header: list[str]) -> str | None:
    return step_key(header) or ("epoch" if "epoch" in header else None)


def _is_dashboard(header: list[str]) -> bool:
    """TensorBoard's own download: three columns of at most a thousand sampled points."""
    return len(header) == 3 and header[0] in TIME_KEYS and header[1:] == ["Step", "Value"]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
