"""TensorBoard event files, `events.out.tfevents.*`: scalars of torch, Lightning, the HF Trainer, TensorFlow and Keras."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from modelguard.errors import Malformed
from modelguard.logs import wire
from modelguard.logs.rows import basename, kind_of, within_limit
from modelguard.logs.tfrecord import records, starts_record
from modelguard.types.logs import LogRecord, Run

FORMAT = "tfevents"
BINARY = True

# Event: wall_time 1, step 2, file_version 3, summary 5, session_log 7; Summary.value 1: tag 1, simple_value 2, tensor 8
# (tensorflow/core/util/event.proto, framework/summary.proto, framework/tensor.proto)
_TENSOR_DTYPES = {1: "<f", 2: "<d", 3: "<i", 9: "<q"}
_SESSION_START = 1
_COUNTERS = frozenset({"epoch", "step", "global_step"})
_DOUBLE, _SINGLE = struct.Struct("<d"), struct.Struct("<f")
# what torch and the Trainer write for each scalar: time, step, a summary of one value of a tag and a float; all lengths below 128
_USUAL = re.compile(
    rb"\x09(.{8})\x10([\x80-\xff]{0,7}[\0-\x7f])\x2a([\0-\x7f])\x0a([\0-\x7f])\x0a([\0-\x7f])(.{1,120})\x15(.{4})", re.DOTALL
)


@dataclass(slots=True)
class _Event:
    """One event while it is read."""

    position: int
    time: float = 0.0
    step: int = 0
    starts_session: bool = False
    scalars: list[tuple[str, float]] = field(default_factory=list)


def sniff(name: str, head: bytes) -> bool:
    """The first record's length matches its checksum, and the record is an event of version `brain.Event:`."""
    return (starts_record(head) and b"brain.Event:" in head[:64]) or ".tfevents." in name.rpartition("/")[2]


def read(name: str, data: bytes) -> Run:
    """The scalars of one event file. An end inside a record is an ordinary crash; damage before it is Malformed."""
    notes: list[str] = []
    return Run(source=name, format=FORMAT, records=tuple(_merge(_events(name, data, notes))), notes=tuple(notes))


def _events(name: str, data: bytes, notes: list[str]) -> Iterator[_Event]:
    if not data:
        notes.append("the file is empty")
    for position, body in enumerate(records(data, name), start=1):
        if body is None:
            notes.append(f"record {position}, the last one, breaks off: the writer was stopped there")
            return
        within_limit(position, name)
        try:
            yield _event(body, position)
        except (wire.Broken, UnicodeDecodeError) as error:
            raise Malformed(f"{name}: record {position} is no event", advice="commit the file as the trainer wrote it") from error


def _merge(events: Iterator[_Event]) -> Iterator[LogRecord]:
    """Writers give each scalar an event of its own: neighbours of one step, kind and session become one record."""
    session = 0
    current: LogRecord | None = None
    values: dict[str, float] = {}
    for event in events:
        session += event.starts_session and event.position > 2  # a START right after the version record opens the first session
        for tag, value in event.scalars:
            key = (event.step, _kind(tag, event.step, current), session)
            if current is None or (current.step, current.kind, current.session) != key or tag in values:
                if current is not None:
                    yield current
                values = {}
                current = LogRecord(step=event.step, kind=key[1], values=values, time=event.time, position=event.position, session=session)
            values[tag] = value
    if current is not None:
        yield current


def _kind(tag: str, step: int, before: LogRecord | None) -> str:
    """The kind of a scalar; the mean `train_loss` that the HF Trainer writes after its runtime belongs to the summary."""
    closes = before is not None and (before.step, before.kind) == (step, "summary") and basename(tag) == "train_loss"
    return "summary" if closes else _kind_alone(tag)


@lru_cache(maxsize=4096)
def _kind_alone(tag: str) -> str:
    return kind_of([tag])


def _event(body: bytes, position: int) -> _Event:
    """One event; the usual one, of a single scalar, is taken apart at once and the same as field by field."""
    usual = _USUAL.fullmatch(body)
    if usual is not None:
        time, step, summary, value, length, tag, number = usual.groups()
        if (summary[0], value[0], length[0]) == (len(tag) + 9, len(tag) + 7, len(tag)):
            name = _metric(tag)
            scalars = [(name, _SINGLE.unpack(number)[0])] if name else []
            return _Event(position, _DOUBLE.unpack(time)[0], wire.varint(step, 0)[0], scalars=scalars)
    return _any_event(body, position)


@lru_cache(maxsize=4096)
def _metric(tag: bytes) -> str:
    """The name of a metric; empty for a tag that only counts."""
    name = tag.decode("utf-8")
    return "" if basename(name) in _COUNTERS else name


def _any_event(body: bytes, position: int) -> _Event:
    event = _Event(position)
    for number, kind, value, data in wire.fields(body):
        if (number, kind) == (1, wire.FIXED64):
            event.time = float(struct.unpack("<d", data)[0])
        elif (number, kind) == (2, wire.VARINT):
            event.step = wire.signed(value)
        elif (number, kind) == (5, wire.BYTES):
            event.scalars.extend(_summary(data))
        elif (number, kind) == (7, wire.BYTES):
            event.starts_session = any(entry[0] == 1 and entry[2] == _SESSION_START for entry in wire.fields(data))
    if event.step < 0:
        raise wire.Broken("a negative step")
    return event


def _summary(data: bytes) -> Iterator[tuple[str, float]]:
    """The scalars of a summary: (tag, value). Pictures, texts and histograms are passed over."""
    for number, kind, _, body in wire.fields(data):
        if (number, kind) != (1, wire.BYTES):
            continue
        tag, value = b"", None
        for part, part_kind, _, content in wire.fields(body):
            if (part, part_kind) == (1, wire.BYTES):
                tag = content
            elif (part, part_kind) == (2, wire.FIXED32):
                value = float(struct.unpack("<f", content)[0])
            elif (part, part_kind) == (8, wire.BYTES):
                value = _scalar_tensor(content)
        if value is not None and (name := _metric(tag)):
            yield name, value


def _scalar_tensor(data: bytes) -> float | None:
    """The value of a TensorProto that holds one number; None for any other tensor."""
    dtype, content, shaped = 0, b"", False
    for number, kind, value, body in wire.fields(data):
        if (number, kind) == (1, wire.VARINT):
            dtype = value
        elif (number, kind) == (2, wire.BYTES):
            shaped = any(entry[0] == 2 for entry in wire.fields(body))  # a dimension: no scalar
        elif number in (4, 5, 6) and kind != wire.VARINT:  # tensor_content, float_val, double_val
            content = body
        elif number in (7, 10):  # int_val, int64_val
            content = _packed_integer(value, body, dtype)
    layout = _TENSOR_DTYPES.get(dtype)
    if layout is None or shaped or len(content) != struct.calcsize(layout):
        return None
    return float(struct.unpack(layout, content)[0])


def _packed_integer(value: int, body: bytes, dtype: int) -> bytes:
    """The bytes of the one integer in a packed or a plain varint field; empty when there are more."""
    if body:
        value, end = wire.varint(body, 0)
        if end != len(body):
            return b""
    return struct.pack("<q", wire.signed(value))[: struct.calcsize(_TENSOR_DTYPES.get(dtype, "<q"))]
