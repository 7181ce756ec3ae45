"""Weights & Biases run files, `run-<id>.wandb`: the history of one process, in records that carry contiguous numbers."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO

from modelguard.errors import Malformed
from modelguard.logs import wire
from modelguard.logs.rows import CLAIM_KEYS, DASHBOARD_STEP, STEP_KEYS, record, whole, within_limit
from modelguard.logs.wandb_records import MAGIC, records
from modelguard.types.logs import Identity, LogRecord, Run, Standing

FORMAT = "wandb"
BINARY = True
RULE = "log-record-numbers"
RESUMED = "this process resumed the run"
MAX_BREAKS = 5  # that are told one by one
MAX_NUMBERS = 10_000_000  # in all rows together: each costs memory

# Record: num 1, history 2, config 5, run 17; HistoryRecord: item 1, step 2; RunRecord: run_id 1, config 4, start_time 17, resumed 18;
# items of history and of configuration: key 1, nested_key 2, value_json 16 (wandb/proto/wandb_internal.proto)
_NUM, _HISTORY, _CONFIG, _RUN = 1, 2, 5, 17
_NUMBER = re.compile(r'-?\d{1,400}(?:\.\d{0,400})?(?:[eE][-+]?\d{1,5})?|-?(?:NaN|Infinity)|"-?(?:NaN|Infinity)"')
_IDENTITY = re.compile(r"[\w.-]{1,128}", re.ASCII)


@dataclass(slots=True)
class _History:
    """What a file says, while it is read."""

    rows: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    claimed: dict[str, float] = field(default_factory=dict)
    run_id: str = ""
    notes: list[str] = field(default_factory=list)
    last: int = 0  # the number of the record before
    breaks: list[str] = field(default_factory=list)  # where a record's number does not follow the one before it
    missing: int = 0
    numbers: int = 0


def sniff(name: str, head: bytes) -> bool:
    """The file begins with W&B's mark; the name alone claims it too, so that a damaged file is not overlooked."""
    return head.startswith(MAGIC[:4]) or name.endswith(".wandb")


def read(name: str, data: bytes) -> Run:
    """The history in a run file. An end inside a record is an ordinary crash; damage before it is Malformed."""
    return stream(name, io.BytesIO(data))


def stream(name: str, file: BinaryIO) -> Run:
    """The history in a run file of any size, read once from front to back."""
    history = _History()
    for position, body in enumerate(records(file, name), start=1):
        if body is None:
            history.notes.append(f"record {position}, the last one, breaks off: the writer was stopped there")
            break
        try:
            _take(history, body, position)
        except (wire.Broken, UnicodeDecodeError) as error:
            raise Malformed(f"{name}: record {position} is no W&B record", advice="commit the file as W&B wrote it") from error
        within_limit(len(history.rows), name)
        if history.numbers > MAX_NUMBERS:
            raise Malformed(f"{name}: more than {MAX_NUMBERS} numbers", advice="log less often, or commit the log in parts")
    if not history.last and not history.notes:
        history.notes.append("the file is empty")
    entries = tuple(_entries(history))
    return Run(
        source=name,
        format=FORMAT,
        records=entries,
        claimed=history.claimed,
        notes=tuple(history.notes),
        run_id=history.run_id,
        identities=_numbering(history),
    )


def _take(history: _History, body: bytes, position: int) -> None:
    """Adds one record of the file."""
    number = 0
    for kind, form, value, data in wire.fields(body):
        if (kind, form) == (_NUM, wire.VARINT):
            number = value
        elif form != wire.BYTES:
            continue
        elif kind == _HISTORY:
            row = _items(data, (1,))
            history.numbers += len(row)
            history.rows.append((position, row))
        elif kind == _CONFIG:
            history.claimed |= _claims(_items(data, (1,)))
        elif kind == _RUN:
            _take_run(history, data)
    if number:
        _follow(history, number)


def _follow(history: _History, number: int) -> None:
    """Record numbers go up by one from 1: where they do not, records were taken out, put in or moved."""
    missing = number - history.last - 1
    if missing:
        what = f"{missing} records between them are not there" if missing > 0 else "an untouched file only counts up"
        history.breaks += (f"record number {number} follows number {history.last}: {what}",) if len(history.breaks) < MAX_BREAKS else ()
        history.missing += max(missing, 0)
    history.last = number


def _numbering(history: _History) -> tuple[Identity, ...]:
    """Whether the records' numbers follow one another; nothing where they carry none."""
    if not history.last:
        return ()
    numbers = {"last": history.last, "missing": history.missing}
    if history.breaks:
        return (Identity(rule=RULE, name="contiguous", standing=Standing.BROKEN, text="; ".join(history.breaks), numbers=numbers),)
    text = f"the records are numbered 1 to {history.last} without a gap"
    return (Identity(rule=RULE, name="contiguous", standing=Standing.HOLDS, text=text, numbers=numbers),)


def _take_run(history: _History, data: bytes) -> None:
    """The identity of the run, when its process started, and what its configuration says about the whole run."""
    for kind, form, value, content in wire.fields(data):
        if (kind, form) == (1, wire.BYTES):
            text = content.decode("utf-8")
            history.run_id = text if _IDENTITY.fullmatch(text) else ""
        elif (kind, form) == (4, wire.BYTES):
            history.claimed |= _claims(_items(content, (1,)))
        elif (kind, form) == (17, wire.BYTES):
            history.claimed["started"] = float(next((part for number, kind, part, _ in wire.fields(content) if number == 1), 0))
        elif (kind, form) == (18, wire.VARINT) and value and RESUMED not in history.notes:
            history.notes.append(RESUMED)


def _items(data: bytes, wanted: tuple[int, ...]) -> dict[str, float]:
    """The items of a message that hold a number, by their key; nested keys are joined by dots."""
    found: dict[str, float] = {}
    for kind, form, _, body in wire.fields(data):
        if kind not in wanted or form != wire.BYTES:
            continue
        keys, text = [], ""
        for part, part_form, _, content in wire.fields(body):
            if part in (1, 2) and part_form == wire.BYTES:
                keys.append(content.decode("utf-8"))
            elif (part, part_form) == (16, wire.BYTES) and len(content) <= 1024:
                text = content.decode("utf-8")
        if keys and _NUMBER.fullmatch(text):
            found[".".join(keys)] = float(text.strip('"'))
    return found


def _claims(items: dict[str, float]) -> dict[str, float]:
    """What a configuration says about the whole run (`save_steps`, `max_steps`)."""
    return {claim: items[key] for key, claim in CLAIM_KEYS.items() if key in items and whole(items[key])}


def _entries(history: _History) -> Iterator[LogRecord]:
    """The rows as records, by the trainer's own step where the rows carry one, else by W&B's count of rows."""
    key = _step_key([row for _, row in history.rows])
    if key.endswith("global_step"):
        reached = (whole(row.get(key)) for _, row in history.rows)
        history.claimed["global_step"] = float(max((step for step in reached if step is not None), default=0))
    kept = 0
    for position, row in history.rows:
        entry = record(row, key, position)
        if entry is not None:
            kept += 1
            yield entry
    if kept < len(history.rows):
        history.notes.append(f"{len(history.rows) - kept} of {len(history.rows)} rows have no step or no number and are passed over")


def _step_key(rows: list[dict[str, float]]) -> str:
    """The most trusted step key that at least half of the rows carry and that does not count within epochs."""
    counts = Counter(key for row in rows for key in STEP_KEYS if key in row)
    usual = (key for key in STEP_KEYS if key != DASHBOARD_STEP and 2 * counts[key] >= max(len(rows), 1))
    return next((key for key in usual if not _starts_over([row[key] for row in rows if key in row])), DASHBOARD_STEP)


def _starts_over(steps: list[float]) -> bool:
    """Whether a counter goes back to its beginning again and again, as one that counts within epochs does."""
    return sum(after < before and after <= steps[0] for before, after in pairwise(steps)) >= 2
