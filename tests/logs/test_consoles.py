"""What programs print while they train: each format is claimed by one reader, read whole, and judged like any other log."""

from __future__ import annotations

import io
import time
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.attempt import attempt
from modelguard.errors import Malformed
from modelguard.logs import hf_stdout, megatron, textlines, torchtitan
from modelguard.logs.base import HEAD_BYTES, assemble, read_log
from modelguard.logs.epochsteps import steps_of
from modelguard.logs.readers import all_readers, reader_of
from modelguard.types.findings import Level, Missing, Status
from modelguard.types.logs import Jump, Run, TrainingLog
from tests.logs import consoles
from tests.logs.building import claims, found, log_of
from tests.logs.consoles import PRINTERS, Printer, console

READERS = tuple(reader for reader in all_readers() if reader.format in {form for form, _ in PRINTERS.values()})
ALL = pytest.mark.parametrize(("form", "printer"), PRINTERS.values(), ids=list(PRINTERS))


def run_of(data: bytes, name: str = "train.log") -> Run:
    (run,) = log_of({name: data}).runs
    return run


def read(module: ModuleType, data: bytes) -> Run:
    run = reader_of(module).read("a.log", data)
    assert isinstance(run, Run)
    return run


@ALL
def test_every_format_is_claimed_once_and_read_whole(form: str, printer: Printer) -> None:
    data = console(printer, range(10, 501, 10))
    assert [reader.format for reader in READERS if reader.sniff("train.log", data)] == [form]
    run = run_of(data)
    assert (run.format, run.cadence, run.last_step) == (form, 10, 500)
    assert sorted({record.step for record in run.training}) == list(range(10, 501, 10))
    assert not found(log_of({"train.log": data}))
    assert not any(claim.status is Status.UNKNOWN for claim in claims(log_of({"train.log": data})))


@ALL
def test_a_stretch_cut_out_is_found(form: str, printer: Printer) -> None:
    steps = [step for step in range(10, 1001, 10) if not 450 <= step < 550]
    (gap,) = found(log_of({"train.log": console(printer, steps)}), Level.HIGH)
    assert (gap.numbers["first_missing"], gap.numbers["last_missing"]) == (450, 540)


@ALL
def test_a_head_cut_off_is_found(form: str, printer: Printer) -> None:
    (head,) = found(log_of({"train.log": console(printer, range(310, 1001, 10))}), Level.MEDIUM)
    assert head.numbers["missing"] == 300


@ALL
def test_dressing_changes_nothing(form: str, printer: Printer) -> None:
    data = console(printer, range(10, 301, 10))
    plain = run_of(data)
    crlf = data if b"\r" in data else data.replace(b"\n", b"\r\n")
    odd = data.replace(b"WARNING", b"\xff\xfe\x80 latin \xe9")
    for dressed in (crlf, b"\xef\xbb\xbf" + data, odd, data.decode().encode("utf-16")):
        again = run_of(dressed)
        assert [(record.step, record.values) for record in again.records] == [(record.step, record.values) for record in plain.records]


@ALL
def test_a_line_of_many_megabytes_is_dropped_with_a_note(form: str, printer: Printer) -> None:
    data = console(printer, range(10, 301, 10))
    run = run_of(data + b"x" * (8 << 20) + b"\n" + console(printer, range(310, 501, 10)))
    assert run.last_step == 500
    assert [note for note in run.notes if "65536 characters" in note]


@ALL
def test_streams_and_bytes_say_the_same(form: str, printer: Printer) -> None:
    data = console(printer, range(10, 301, 10))
    (reader,) = (reader for reader in READERS if form == reader.format)
    file = io.BytesIO(data)
    assert reader.stream is not None
    assert reader.stream("a.log", file) == reader.read("a.log", data)
    assert not file.closed


def test_source_code_before_the_first_step_is_passed_over() -> None:
    source = b"import torch\n" + b'print(f"step:{step}/{N} train_loss:{loss}")\n' * 6000
    assert len(source) > 1 << 17
    assert run_of(source + console(consoles.modded, range(1, 301))).last_step == 300
    assert len(source) < HEAD_BYTES
    assert read_log("train.log", source) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hello\n",
        b"iteration 10 of 20\nstep 3 loss 1.0\n",
        b"Traceback (most recent call last):\n  File x\n",
        b"{'lr': 0.1, 'epoch': 3}\n",
        b"epoch 1 loss: 0.3\n" * 40,
        b"the iter 10: loss 0.3, time 5ms is what nanoGPT prints\n",
        b"step: 3  loss: 1.0\n",
        b"[batch=1/10]:\nnothing\n",
        b"step:1/2 of the recipe\n",
    ],
)
def test_other_texts_are_nobodys(text: bytes) -> None:
    assert read_log("notes.txt", text) is None


def test_rows_of_the_program_on_deepspeed_go_before_its_own() -> None:
    for printer in (consoles.megatron, consoles.hf_printed):
        data = console(lambda step, inner=printer: consoles.deepspeed(step) + "\n" + inner(step), range(10, 101, 10))  # type: ignore[misc]
        assert read_log("a.log", data).format in ("megatron", "hf-stdout")  # type: ignore[union-attr]


def test_megatron_says_more_than_its_steps() -> None:
    said = {
        100: "  successfully saved checkpoint\nsaving checkpoint at iteration     100 to ckpt in torch_dist format",
        150: " validation loss at iteration 150 | lm loss value: 2.5E+00 | lm loss PPL: 1.2E+01 | ",
        200: "saving checkpoint at iteration     200 to ckpt\nusing world size: 8, data-parallel size: 8",
        300: "saving checkpoint at iteration     300 to ckpt",
    }
    run = run_of(console(consoles.megatron, range(10, 401, 10), said))
    assert run.claimed == {"max_steps": 100000.0, "save_steps": 100.0}
    first = run.training[0]
    assert (first.values["loss"], first.values["grad norm"], first.values["consumed samples"]) == (8.181818, 0.811, 640.0)
    assert first.time == 1740816010.0
    (check,) = (record for record in run.records if record.kind == "eval")
    assert (check.step, check.values) == (150, {"validation lm loss value": 2.5, "validation lm loss PPL": 12.0})
    assert [jump.kind for jump in run.discontinuities] == [Jump.RESUME]


def test_torchtitan_logs_step_one_and_then_every_tenth() -> None:
    ranks = console(lambda step: "\n".join([consoles.torchtitan(step)] * 8), [1, *range(10, 501, 10)])
    run = run_of(ranks)
    assert (run.cadence, run.discontinuities) == (10, ())
    assert run.training[0].values == {"loss": 8.91089, "grad_norm": 0.8319, "memory": 9.46, "tps": 7282.0, "mfu": 0.17}
    again = {260: "[titan] 2025-03-01 09:00:00,000 - root - INFO - Starting job: llama3"}
    back = console(consoles.torchtitan, [*range(10, 261, 10), *range(210, 501, 10)], again)
    assert not found(log_of({"a.log": back}), Level.MEDIUM)


def test_nanogpt_evaluations_are_no_training_records() -> None:
    run = run_of(console(consoles.nanogpt, range(0, 1001, 10)))
    assert run.claimed == {"save_steps": 250.0}
    assert [record.step for record in run.records if record.kind == "eval"] == [0, 250, 500, 750, 1000]
    assert run.discontinuities == ()


def test_a_composer_block_is_one_record() -> None:
    run = run_of(console(consoles.composer, range(1, 41)))
    assert len(run.records) == 40
    assert run.records[-1].values["loss/train/total"] == pytest.approx(consoles.loss(40), abs=1e-4)
    assert (run.records[-1].epoch, run.claimed) == (1.0, {"max_steps": 4800.0})


def test_rows_without_steps_are_not_judged() -> None:
    rows = b"".join(b"{'loss': 1.5, 'learning_rate': 1e-05, 'epoch': 0.0}\n" for _ in range(50))
    log = log_of({"train.log": rows})
    assert [(run.claimed, run.undecidable) for run in log.runs] == [({"unstepped": 1.0}, "the rows name no step")]
    assert not found(log)
    assert {claim.status for claim in claims(log) if "name no step" in claim.text} == {Status.UNKNOWN}


def test_steps_are_computed_from_epochs_that_are_printed_finely() -> None:
    def printed(steps: range | list[int], digits: int) -> bytes:
        rows = "".join(
            f"{{'loss': {consoles.loss(step):.4f}, 'learning_rate': 1e-05, 'epoch': {step / 650:.{digits}f}}}\n" for step in steps
        )
        ends = "{'train_runtime': 12.5, 'train_steps_per_second': 100.0, 'train_loss': 0.5, 'epoch': 2.0}\n"
        return (" 0%| | 0/1300 [00:00<?, ?it/s]\n" + rows + ends).encode()

    run = run_of(printed(range(20, 1301, 20), 2))
    assert (run.cadence, run.last_step, run.claimed) == (20, 1300, {"max_steps": 1300.0})
    cut = [step for step in range(20, 1301, 20) if not 500 <= step < 640]
    (gap,) = found(log_of({"train.log": printed(cut, 2)}), Level.HIGH)
    assert (gap.numbers["first_missing"], gap.numbers["last_missing"]) == (500, 620)
    assert run_of(printed(range(2, 1301, 2), 2)).undecidable == "the rows name no step"


@given(st.integers(2, 400), st.integers(20, 60), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_fitted_steps_are_in_step(interval: int, rows: int, epochs: int) -> None:
    total = interval * rows
    length = total / epochs
    printed = [round(step / length, 4) for step in range(interval, total + 1, interval)]
    steps = steps_of(printed, 4, total, float(epochs))
    assert not steps or [step // steps[0] for step in steps] == list(range(1, rows + 1))


@given(st.binary(max_size=300), st.sampled_from(list(PRINTERS)), st.lists(st.integers(0, 1 << 60), max_size=12))
@settings(max_examples=80, deadline=None)
def test_random_bytes_between_lines(noise: bytes, name: str, steps: list[int]) -> None:
    _, printer = PRINTERS[name]
    body = b"\n".join(printer(step % 10**9).encode()[: len(noise) + 40] + noise for step in steps)
    for data in (noise, body, console(printer, (step % 10**9 for step in steps)) + noise):
        for reader in READERS:
            assert isinstance(reader.sniff("a.log", data), bool)
            outcome = attempt(lambda reader=reader, data=data: reader.read("a.log", data), what="a reader")  # type: ignore[misc]
            assert isinstance(outcome, Run) or ("crashed" not in outcome.why and "\n" not in outcome.why)
        log = assemble({"a.log": data})
        assert isinstance(log, TrainingLog | Missing)
        assert "crashed" not in (log.why if isinstance(log, Missing) else " ".join(log.unread))
        assert not isinstance(log, TrainingLog) or tuple(claims(log))


@pytest.mark.parametrize(
    "line",
    [
        b"iteration        1/       2 | consumed samples: " + b"9" * 60000,
        b"step:  1  loss:  1.0  grad_norm: 1" + b" a" * 30000,
        b"iteration 1/ 2 | elapsed time per iteration (ms): 1 | " + b"a " * 30000,
        b"{'loss': 1, 'epoch': 1, " + b"'a': " * 12000 + b"}",
        b"{'loss': 1" + b"{'loss': 1" * 6000,
        b"Training epoch 0, iteration 1/2 | " + b"x x" * 20000,
        b"step:1/2 " + b"a:1" * 20000,
        b"\x1b[" + b"0;" * 30000,
        b"1/" * 30000 + b" [00:00",
        b"[batch=1/2]:" * 5000,
        b"--> TIME: " * 6000,
    ],
    ids=range(11),
)
def test_hostile_lines_cost_little(line: bytes) -> None:
    started = time.process_time()
    for reader in READERS:
        outcome = attempt(lambda reader=reader: reader.read("a.log", (line + b"\n") * 20), what="a reader")  # type: ignore[misc]
        assert isinstance(outcome, Run) or "crashed" not in outcome.why
        reader.sniff("a.log", line * 8)
    assert time.process_time() - started < 5  # seconds for 21 lines of 60 kB through every reader


def test_numbers_of_any_size_are_read_or_refused() -> None:
    wild = console(consoles.megatron, [1, 2]).replace(b"0.811", b"1e999").replace(b"1.0 |", b"nan |")
    assert run_of(wild).training[0].values["grad norm"] == float("inf")
    assert read_log("a.log", b"step: 99999999999999999999  loss:  1.0  memory: 1\n") is None
    beyond = b"step: 999999999999999  loss:  1.0  memory: 1GiB\n"
    assert read(torchtitan, beyond).last_step == 999999999999999
    with pytest.raises(Malformed, match="no line has a step"):
        read(megatron, b"\n\n")
    with pytest.raises(Malformed, match="no line has a loss"):
        read(hf_stdout, b"\n\n")


def test_lines_end_where_terminals_end_them() -> None:
    dropped = textlines.Dropped()
    text = "\ufeffa\r\nb\rc\n\x1b[31md\x1b[0m\x1b]0;title\x07\ne".encode()
    assert list(textlines.lines(io.BytesIO(text), dropped)) == [(1, "a\n"), (2, "b\n"), (3, "c\n"), (4, "d\n"), (5, "e"), (6, "")]
    assert dropped.notes == ()


def test_later_records_of_a_long_log_keep_what_tells_of_training() -> None:
    many = textlines.MAX_FULL + 10
    row = b"iteration %d/ 9 | grad norm: 1.0 | learning rate: 2.0 | lm loss: 3.0 |\n"
    run = read(megatron, b"".join(row % step for step in range(many)))
    assert (run.training[0].values, len(run.records)) == ({"grad norm": 1.0, "learning rate": 2.0, "loss": 3.0}, many)
    assert run.training[-1].values == {"loss": 3.0, "learning rate": 2.0}
    assert run.notes == (f"records after the first {textlines.MAX_FULL} keep only a loss and a learning rate",)


def test_llama_factory_writes_rows_of_json() -> None:
    rows = "".join(
        f'{{"current_steps": {step}, "total_steps": 500, "loss": {consoles.loss(step):.4f}, "lr": 1e-05, "epoch": {step / 100}, '
        f'"percentage": {step / 5}, "elapsed_time": "0:00:10", "remaining_time": "0:01:30"}}\n'
        for step in range(10, 501, 10)
    )
    run = run_of(rows.encode(), "trainer_log.jsonl")
    assert (run.format, run.cadence, run.last_step, run.claimed) == ("jsonl", 10, 500, {"max_steps": 500.0})
