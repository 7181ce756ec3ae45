"""The shortcuts of the event reader say what the long way says, and buy what they are there for."""

from __future__ import annotations

import math
import random
import struct
import time

from hypothesis import given
from hypothesis import strategies as st

from modelguard.attempt import attempt
from modelguard.checks.base import all_checks, run
from modelguard.logs import tensorboard
from modelguard.logs.base import assemble
from modelguard.logs.tfrecord import masked_crc32c, masked_crc32cs
from modelguard.partial_evidence import only_log
from modelguard.policy import default
from modelguard.types.findings import Missing, Status
from tests.logs.building import event, field, varint

tags = st.text(min_size=1, max_size=12) | st.sampled_from(["epoch", "train/loss", "train/global_step"])


@given(tags, st.integers(0, 1 << 62), st.floats(width=32, allow_nan=False), st.integers(0, 60), st.integers(0, 255))
def test_an_event_taken_apart_at_once_is_the_one_read_field_by_field(tag: str, step: int, value: float, place: int, byte: int) -> None:
    body = b"\x09" + struct.pack("<d", 1.7e9) + b"\x10" + varint(step)
    body += field(5, field(1, field(1, tag.encode()) + b"\x15" + struct.pack("<f", value)))
    damaged = bytearray(body)
    damaged[place % len(body)] = byte
    for data in (body, bytes(damaged)):
        short = attempt(lambda data=data: tensorboard._event(data, 3), what="it")  # type: ignore[misc]
        long = attempt(lambda data=data: tensorboard._any_event(data, 3), what="it")  # type: ignore[misc]
        assert repr(short) == repr(long)
    assert tensorboard._USUAL.fullmatch(body) or step >= 1 << 56


@given(st.integers(0, 40), st.integers(1, 30), st.randoms(use_true_random=False))
def test_checksums_taken_together_are_those_taken_one_by_one(length: int, count: int, rng: random.Random) -> None:
    data = rng.randbytes(length * count + 5)
    starts = [rng.randrange(len(data) - length + 1) for _ in range(count)]
    assert masked_crc32cs(data, starts, length) == [masked_crc32c(data[start : start + length]) for start in starts]


def test_thirty_thousand_events_are_read_assembled_and_judged_in_two_seconds() -> None:
    rng = random.Random(3)
    last = 100_000

    def rows(step: int) -> dict[str, float]:
        rate = 5e-5 * (1 + math.cos(math.pi * step / last))
        return {"train/loss": 9 / (1 + step / 1e4) + 0.1 * rng.random(), "train/learning_rate": rate, "train/grad_norm": rng.random()}

    data = event(0) + b"".join(event(step, **{tag: value}) for step in range(10, last + 1, 10) for tag, value in rows(step).items())
    started = time.process_time()
    log = assemble({"events.out.tfevents.1700000000.h.1.0": data})
    assert not isinstance(log, Missing)
    findings = run((check for check in all_checks() if "log" in check.wants), only_log(log), "model", default())
    assert time.process_time() - started < 2
    assert len(log.runs[0].training) == 10_000
    assert not [finding for finding in findings if finding.claim.status is Status.FOUND]
