"""W&B: run files, the record numbers in them, and the same history exported as text."""

from __future__ import annotations

import json
import math
from functools import partial
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.attempt import attempt
from modelguard.checks import log_record_numbers
from modelguard.errors import Malformed
from modelguard.logs import wandb
from modelguard.logs.base import read_log
from modelguard.logs.wandb_records import records
from modelguard.types.findings import Absence, Level, Status
from modelguard.types.logs import Jump, Run, Standing
from tests.logs.boards import BLOCK, board, framed, item, numbered, opening
from tests.logs.building import field, found, log_of, refusal, run_of

NAME = "wandb/run-20260101_000000-ab12cd34/run-ab12cd34.wandb"


def bodies(data: bytes) -> list[bytes]:
    return [body for body in records(BytesIO(data), "x") if body is not None]


def test_a_run_file_over_several_blocks() -> None:
    data = board(range(10, 4001, 10), save_steps=500, max_steps=4000)
    assert len(data) > 2 * BLOCK
    run = run_of(data, NAME)
    assert (run.format, run.run_id, run.cadence, run.last_step) == ("wandb", "ab12cd34", 10, 4000)
    assert run.claimed == {"started": 1.7e9, "save_steps": 500.0, "max_steps": 4000.0, "global_step": 4000.0}
    first = run.records[0]
    assert (first.step, first.epoch, first.time, first.kind) == (10, 0.01, 1.7e9 + 10, "train")
    assert first.values == {"train/loss": 9 / 1.1, "train/learning_rate": 1e-5}
    assert not found(log_of({NAME: data}))


def test_the_mark_alone_claims_a_file_whatever_it_carries() -> None:
    run = read_log("a/export.bin", board(range(10, 101, 10)))
    assert run is not None
    assert run.format == "wandb"


@pytest.mark.parametrize(
    ("key", "values", "steps"), [("iter", [0, 250, 500], [0, 250, 500]), ("iter", [1, 2, 1, 2, 1, 2], [0, 1, 2, 3, 4, 5])]
)
def test_a_counter_that_counts_within_epochs_is_not_the_step(key: str, values: list[int], steps: list[int]) -> None:
    rows = [b"".join((item(key, value), item("loss", 1.0), item("_step", count))) for count, value in enumerate(values)]
    run = wandb.read("x", framed(numbered(n, field(2, row)) for n, row in enumerate(rows, start=1)))
    assert [entry.step for entry in run.records] == steps


def test_values_that_are_no_numbers() -> None:
    texts = {"a": math.nan, "b": "NaN", "c": "-Infinity", "d": "12", "e": True, "f": [1], "loss": 1.0, "_step": 3}
    (entry,) = wandb.read("x", framed([numbered(1, field(2, b"".join(item(key, value) for key, value in texts.items())))])).records
    assert math.isnan(entry.values["a"])
    assert math.isnan(entry.values["b"])
    assert (entry.values["c"], sorted(entry.values)) == (-math.inf, ["a", "b", "c", "loss"])


def test_a_stretch_taken_out_is_found_and_shows_in_the_numbers() -> None:
    whole = bodies(board(range(10, 1001, 10)))
    cut = framed([*whole[:81], *whole[141:]])  # a row is two records: steps 410 to 700
    run = run_of(cut, NAME)
    assert numbering({NAME: cut}) == (
        Status.FOUND,
        f"{NAME}: record number 142 follows number 81: 60 records between them are not there",
        60,
    )
    (hole,) = run.unexplained(Jump.MISSING)
    assert (hole.before, hole.after) == (400, 710)
    assert found(log_of({NAME: cut}), Level.HIGH)
    again = {NAME: framed([*whole[:81], *whole[41:]])}
    assert numbering(again) == (Status.FOUND, f"{NAME}: record number 42 follows number 81: an untouched file only counts up", 0)
    assert numbering({NAME: framed(whole)}) == (Status.OK, f"{NAME}: the records are numbered 1 to 201 without a gap", 0)
    assert numbering({"a.jsonl": b'{"step": 1, "loss": 2}\n'})[0] is Status.NOT_APPLICABLE


def numbering(files: dict[str, bytes]) -> tuple[Status, str, object]:
    """What the rule on record numbers says of one log."""
    (claim,) = log_record_numbers.check(log_of(files))
    return claim.status, claim.text, claim.numbers.get("missing")


def test_the_last_row_without_a_metric_says_how_far_the_run_went() -> None:
    whole = bodies(board(range(10, 1001, 10)))
    end = numbered(202, field(2, item("train/global_step", 1000, nested=True) + item("_step", 100, nested=True)))
    assert not found(log_of({NAME: framed([*whole, end])}))
    (claim,) = found(log_of({NAME: framed([*whole[:-80], end])}), Level.HIGH)
    assert claim.numbers["reached"] == 1000


def test_processes_of_one_run_are_one_log_and_copies_count_once() -> None:
    first, second = "wandb/run-1-ab12cd34/run-ab12cd34.wandb", "wandb/run-0-ab12cd34/run-ab12cd34.wandb"
    start, rest = board(range(10, 501, 10)), board(range(510, 1001, 10), started=1_700_100_000, offset=50)
    files = {first: start, second: rest, "wandb/latest-run/run-ab12cd34.wandb": rest, "old/run-ab12cd34.wandb": start[:9000]}
    (run,) = log_of(files).runs
    assert [entry.step for entry in run.training] == list(range(10, 1001, 10))
    assert (run.source, [jump.kind for jump in run.discontinuities]) == (first, [Jump.RESUME])
    other = board(range(10, 501, 10), run_id="zz99")
    assert [run.run_id for run in log_of({"a/run-zz99.wandb": other, "a/run-ab12cd34.wandb": start}).runs] == ["ab12cd34", "zz99"]
    nameless = framed([numbered(1, opening("../x", 5, {}))])
    assert len(log_of({"a.wandb": nameless, "b.wandb": nameless}).runs) == 2


def test_every_cut_is_a_crash() -> None:
    data = board(range(10, 61, 10))
    steps = [entry.step for entry in wandb.read("x", data).records]
    for length in range(len(data)):
        run = wandb.read("x.wandb", data[:length])
        assert [entry.step for entry in run.records] == steps[: len(run.records)]
        assert all(identity.standing is Standing.HOLDS for identity in run.identities)
    assert "breaks off" in wandb.read("x", data[:-1]).notes[0]
    assert "breaks off" in wandb.read("x", data + bytes(3 * BLOCK)).notes[0]
    assert wandb.read("x.wandb", b"").notes == ("the file is empty",)


@settings(max_examples=150)
@given(st.integers(0, 1 << 20), st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_cuts_the_file(place: int, bit: int) -> None:
    whole = board(range(10, 61, 10))
    data = bytearray(whole)
    data[place % len(data)] ^= 1 << bit
    outcome = attempt(lambda: wandb.read("x.wandb", bytes(data)), what="reading")
    if isinstance(outcome, Run):
        assert "breaks off" in outcome.notes[0]
        assert outcome.records == wandb.read("x", whole).records[: len(outcome.records)]
    else:
        assert "crashed" not in outcome.why


@given(st.lists(st.binary(max_size=80), max_size=6), st.binary(max_size=60))
def test_any_bytes_end_in_a_run_or_one_line(parts: list[bytes], tail: bytes) -> None:
    for data in (framed(parts), framed(parts) + tail, tail, framed(field(2, part) for part in parts)):
        outcome = attempt(partial(wandb.read, "x.wandb", data), what="reading")
        assert isinstance(outcome, Run) or ("crashed" not in outcome.why and "\n" not in outcome.why)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"text", "not a W&B file"),
        (b":W&B\xe1\xbe\x07" + bytes(20), "version 7 of the W&B file format"),
        (framed([b"\x0a"]), "record 1 is no W&B record"),
        (framed([numbered(1)]) + b"damaged record with more behind it", "does not match its checksum"),
        (framed([numbered(1)]) + bytes(2 * BLOCK) + b"x", "does not match its checksum"),
        (framed([b"a" * 40000])[:BLOCK] + framed([b"b"])[7:], "is out of order"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "a Git LFS pointer"),
    ],
)
def test_what_is_no_run_file_is_refused_in_one_line(data: bytes, reason: str) -> None:
    missing = refusal({"run-x.wandb": data})
    assert missing.kind is Absence.BROKEN
    assert reason in missing.why
    assert missing.advice


def test_exported_history_is_read_by_the_trainers_step_and_keeps_its_time() -> None:
    rows = [
        {"_step": n, "_runtime": n, "_timestamp": 1.7e9 + n, "train/global_step": 10 * n + 10, "train/loss": 9 / (n + 1)} for n in range(9)
    ]
    text = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    table = "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]).encode() + b"\n"
    for name, data in {"history.jsonl": text, "history.csv": table, "wandb_history.json": json.dumps(rows).encode()}.items():
        run = run_of(data, name)
        assert [entry.step for entry in run.records] == list(range(10, 91, 10)), name
        assert (run.records[3].time, dict(run.records[3].values)) == (1.7e9 + 3, {"train/loss": 9 / 4})
    bare = b"".join(json.dumps({"_step": n, "_timestamp": 5 + n, "loss": 9 / (n + 1)}).encode() + b"\n" for n in range(9))
    assert [entry.step for entry in run_of(bare, "history.jsonl").records] == list(range(9))


def test_a_large_file_is_refused_only_where_its_numbers_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb, "MAX_NUMBERS", 20)
    with pytest.raises(Malformed, match="more than 20 numbers"):
        wandb.read("x", board(range(10, 101, 10)))
