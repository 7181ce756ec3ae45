"""Whatever bytes come in, a reader answers with a run, with nothing, or with one line."""

from __future__ import annotations

import json
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.attempt import attempt
from modelguard.errors import Malformed
from modelguard.logs import csv_metrics, hf_trainer, jsonl, tensorboard, tfrecord
from modelguard.logs.base import assemble, read_log
from modelguard.logs.timeline import timeline
from modelguard.types.findings import Missing
from modelguard.types.logs import Run, TrainingLog
from tests.logs.building import claims, events, lines, record, state

READERS = (hf_trainer, jsonl, csv_metrics, tensorboard)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["step", "loss", "epoch", "data", "x"]), inner, max_size=4),
    max_leaves=12,
)
steps = st.lists(st.integers(0, 1 << 60) | st.integers(0, 40), max_size=30)
json_names = st.sampled_from(["trainer_state.json", "a.jsonl", "b.csv", "events.out.tfevents.1.h.1.0", "checkpoint-20/trainer_state.json"])


def survives(name: str, data: bytes) -> None:
    """Through the readers one by one, and through the rules and the picture."""
    for reader in READERS:
        assert isinstance(reader.sniff(name, data), bool)
        outcome = attempt(partial(reader.read, name, data), what="a reader")
        assert isinstance(outcome, Run) or ("crashed" not in outcome.why and "\n" not in outcome.why)
    log = assemble({name: data, "other.jsonl": lines(range(5))})
    assert isinstance(log, TrainingLog | Missing)
    assert "crashed" not in (log.why if isinstance(log, Missing) else " ".join(log.unread))
    if isinstance(log, TrainingLog):
        assert tuple(claims(log))
        assert all(len(timeline(run).points) <= 400 for run in log.runs)


@given(st.binary(max_size=400), json_names)
def test_random_bytes(data: bytes, name: str) -> None:
    survives(name, data)


@given(values, json_names)
def test_random_json(value: object, name: str) -> None:
    survives(name, json.dumps({"log_history": value, "global_step": 7}).encode())
    survives(name, json.dumps(value).encode() + b"\n" + lines([1]))


@given(steps, json_names, st.floats(allow_nan=False, allow_infinity=False))
def test_random_steps(numbers: list[int], name: str, claim: float) -> None:
    survives(name, state(numbers, save_steps=claim, logging_steps=claim))
    survives(name, lines(numbers))
    survives(name, b"step,loss\n" + b"".join(b"%d,1.5\n" % number for number in numbers))
    survives(name, events(numbers))


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_random_records_in_a_sound_frame(bodies: list[bytes]) -> None:
    data = b"".join(record(body) for body in bodies)
    assert list(tfrecord.records(data, "x")) == bodies
    survives("events.out.tfevents.1.h.1.0", data)


@settings(max_examples=40)
@given(st.integers(0, 2000), st.integers(0, 7))
def test_one_flipped_bit_is_seen(place: int, bit: int) -> None:
    whole = events(range(1, 9))
    data = bytearray(whole)
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(Malformed):
        read_log("events.out.tfevents.1.h.1.0", bytes(data))


def test_logs_of_thousands_of_holes_and_returns_are_read_without_a_crash() -> None:
    zigzag = lines(step for pair in range(5_000) for step in (pair + 9, pair))
    holes = lines(step for step in range(0, 130_000, 10) if step % 40)
    stretches = lines(step for block in range(0, 130_000, 100) for step in range(block, block + 30 + block // 10_000, 10))
    for data in (zigzag, holes, stretches):
        survives("a.jsonl", data)
