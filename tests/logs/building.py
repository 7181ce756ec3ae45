"""Logs for tests, in the bytes that trainers write, and what the rules say of them."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from modelguard.checks import log_backwards, log_gap, log_head, log_tail
from modelguard.logs.base import assemble
from modelguard.logs.tfrecord import masked_crc32c
from modelguard.policy import Policy, default, parse
from modelguard.types.findings import Claim, Level, Missing, Status
from modelguard.types.logs import Run, TrainingLog

CORPUS = Path(os.environ.get("MODELGUARD_CORPUS", Path(__file__).parents[2] / "../shared/corpus"))


def state(steps: Iterable[int], **claims: float) -> bytes:
    """A trainer state with a training row at each step; its loss falls as steps go on."""
    rows = [{"epoch": step / 1000, "loss": round(9 / (1 + step / 100), 4), "learning_rate": 1e-5, "step": step} for step in steps]
    last = max((int(row["step"]) for row in rows), default=0)
    whole = {"global_step": last, "max_steps": last, "logging_steps": 10, "save_steps": 500, "log_history": rows} | claims
    return json.dumps(whole, indent=2, sort_keys=True).encode()


def lines(steps: Iterable[int], **more: object) -> bytes:
    """A JSONL log with a training row at each step."""
    return b"".join(json.dumps({"step": step, "loss": 9 / (1 + step / 100), **more}).encode() + b"\n" for step in steps)


def record(data: bytes) -> bytes:
    """One TFRecord."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def event(step: int, **scalars: float) -> bytes:
    """One event of scalars, as torch writes it; with no scalars the version record that opens a file."""
    body = b"\x09" + struct.pack("<d", 1.7e9 + step) + b"\x10" + varint(step)
    if not scalars:
        return record(body + field(3, b"brain.Event:2"))
    values = b"".join(field(1, field(1, tag.encode()) + b"\x15" + struct.pack("<f", value)) for tag, value in scalars.items())
    return record(body + field(5, values))


def events(steps: Iterable[int]) -> bytes:
    return event(0) + b"".join(event(step, **{"train/loss": 9 / (1 + step / 100)}) for step in steps)


def field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def log_of(files: Mapping[str, bytes]) -> TrainingLog:
    log = assemble(files)
    assert isinstance(log, TrainingLog), log
    return log


def run_of(data: bytes, name: str = "trainer_state.json") -> Run:
    (run,) = log_of({name: data}).runs
    return run


def refusal(files: Mapping[str, bytes]) -> Missing:
    log = assemble(files)
    assert isinstance(log, Missing), log
    return log


def claims(log: TrainingLog, policy: Policy | None = None) -> Iterator[Claim]:
    """What all rules on steps say."""
    yield from log_gap.check(log, policy or default())
    yield from log_head.check(log)
    yield from log_tail.check(log)
    yield from log_backwards.check(log)


def found(log: TrainingLog, severity: Level = Level.INFO, policy: Policy | None = None) -> list[Claim]:
    return [claim for claim in claims(log, policy) if claim.status is Status.FOUND and claim.severity >= severity]


def policy(text: str) -> Policy:
    return parse(("version: 1\n" + text).encode(), "test")


def corpus_rows(kinds: set[str]) -> list[dict[str, str]]:
    """The manifest rows of these kinds; skips where the corpus is absent, fails where it is required."""
    manifest = CORPUS / "MANIFEST.jsonl"
    if not manifest.is_file():
        if "corpus" in os.environ.get("MODELGUARD_REQUIRE", ""):
            pytest.fail(f"the corpus is required and absent: {manifest}")
        pytest.skip(f"no corpus at {manifest}")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    return [row for row in rows if row["kind"] in kinds]
