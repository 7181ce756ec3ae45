"""One JSON object a line, with a step and metrics; also an array of such objects, and rows nested under `data`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelguard.errors import Malformed
from modelguard.logs import jsontext
from modelguard.logs.rows import CLAIM_KEYS, TIME_KEYS, is_metric, number, numbers, record, step_key, whole, within_limit
from modelguard.types.logs import LogRecord, Run

FORMAT = "jsonl"
MAX_LINE = 1 << 20  # characters
RUN_KEYS = ("run_id", "_run_id", "session_id", "run", "resumed_from")

Row = dict[str, Any]


def sniff(name: str, head: bytes) -> bool:
    """Among the first rows, one has a whole step and a number under a name that training logs use."""
    text = head.decode("utf-8-sig", "replace")
    if '"log_history"' in text:
        return False
    if text.lstrip().startswith("["):
        return _sniff_array(text)
    lines = (line for line in text.splitlines()[:50] if line.lstrip().startswith("{"))
    return any(_is_log_row(_quiet(line)) for line in lines)


def read(name: str, data: bytes) -> Run:
    """The run in a JSONL file or a JSON array. A last line that breaks off is an ordinary crash; damage before it is Malformed."""
    text = jsontext.decode(data, name)
    within_limit(text.count("\n"), name)
    notes: list[str] = []
    rows = list(_array(text, name) if text.lstrip().startswith("[") else _lines(text, name, notes))
    records = tuple(_records(rows))
    if not records:
        raise Malformed(f"{name}: no row has a whole step and a number", advice="commit the file as the trainer wrote it")
    if len(records) < len(rows):
        notes.append(f"{len(rows) - len(records)} of {len(rows)} rows have no step or no number and are passed over")
    return Run(source=name, format=FORMAT, records=records, claimed=_claimed(rows), notes=tuple(notes))


def _lines(text: str, name: str, notes: list[str]) -> Iterator[tuple[int, Row]]:
    lines = text.split("\n")
    last = max((index for index, line in enumerate(lines) if line.strip()), default=-1)
    for index, line in enumerate(lines[: last + 1]):
        if not line.strip():
            continue
        if len(line) > MAX_LINE:
            raise Malformed(f"{name}: line {index + 1} has more than {MAX_LINE} characters", advice="a log has one short row a line")
        value = _row(line, name, index + 1, cut=index == len(lines) - 1)
        if value is None:
            notes.append(f"line {index + 1}, the last one, breaks off: the writer was stopped there")
        elif isinstance(value, dict):
            yield index + 1, value


def _row(line: str, name: str, number: int, *, cut: bool) -> object:
    """The value of one line; None where a last line without line end breaks off."""
    try:
        return jsontext.loads(line, name, line=number)
    except Malformed:
        if cut and line.lstrip().startswith("{") and not line.rstrip().endswith("}"):
            return None
        raise


def _array(text: str, name: str) -> Iterator[tuple[int, Row]]:
    value = jsontext.loads(text, name)
    return ((index, row) for index, row in enumerate(value, start=1) if isinstance(row, dict))


def _records(rows: list[tuple[int, Row]]) -> Iterator[LogRecord]:
    """The rows as records; a row that names another run or process than the one before it starts a session."""
    session, before = 0, tuple[str, ...]()
    for position, raw in rows:
        row = _flat(raw)
        key = step_key(row)
        entry = record(row, key, position) if key else None
        if entry is None:
            continue
        identity: tuple[str, ...] = tuple(str(raw[name]) for name in RUN_KEYS if name in raw)
        session += bool(before and identity and identity != before)
        before = identity or before
        yield LogRecord(
            step=entry.step, kind=entry.kind, values=entry.values, epoch=entry.epoch, time=entry.time, position=position, session=session
        )


def _flat(row: Row) -> Row:
    """A row with its nested `data`, `metrics` or `logs` brought up; `{"name": n, "data": {"value": v}}` becomes `{n: v}`."""
    nested = next((row[key] for key in ("data", "metrics", "logs") if isinstance(row.get(key), dict)), None)
    if nested is None:
        return row
    flat: Row = {key: value for key, value in row.items() if not isinstance(value, dict)} | nested
    if isinstance(flat.get("name"), str) and "value" in flat:
        flat[flat.pop("name")] = flat.pop("value")
    return flat


def _claimed(rows: list[tuple[int, Row]]) -> dict[str, float]:
    """What rows say about the whole run (`total_steps`, `save_steps`); the last row that says it counts."""
    said = {claim: number(row[key]) for _, row in rows for key, claim in CLAIM_KEYS.items() if key in row}
    return {claim: value for claim, value in said.items() if value is not None and whole(value)}


def _sniff_array(text: str) -> bool:
    """The head of an array may break off anywhere: its first object is looked at alone."""
    start, end = text.find("{"), text.find("}")
    return 0 < start < end and not text[:start].strip(" \t\r\n[") and _is_log_row(_quiet(text[start : end + 1]))


def _quiet(text: str) -> object:
    try:
        return jsontext.loads(text, "")
    except Malformed:
        return None


def _is_log_row(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    row = _flat(value)
    key, values = step_key(row), numbers(row)
    if key is None or whole(values.get(key)) is None:
        return False
    return any(is_metric(name) for name in values if name != key and name not in TIME_KEYS)
