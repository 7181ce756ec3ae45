"""Console logs of public repositories: who claims them, that honest ones raise no alarm, and that a tenth cut out does."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from modelguard.logs.base import assemble
from modelguard.types.findings import Level
from modelguard.types.logs import Run, TrainingLog
from tests.logs.building import CORPUS, corpus_rows, found, log_of

# A line with a step of the run, by format; the text before its metrics decides the step.
STEP = {
    "modded-nanogpt": re.compile(r"(?:step|s):(\d+)"),
    "nanogpt": re.compile(r"(?:iter|step) (\d+):"),
    "mlx": re.compile(r"Iter (\d+):"),
    "coqui": re.compile(r".*GLOBAL_STEP: (\d+)"),
}
CLAIMED = {"modded-nanogpt": 45, "nanogpt": 7, "hf-stdout": 3, "coqui": 2, "mlx": 1}


def console_logs() -> dict[str, bytes]:
    return {row["path"]: (CORPUS / row["path"]).read_bytes() for row in corpus_rows({"text_log", "wandb_output_log"})}


@pytest.fixture(scope="module")
def logs() -> dict[str, tuple[bytes, TrainingLog]]:
    assembled = ((path, data, assemble({path: data})) for path, data in console_logs().items())
    return {path: (data, log) for path, data, log in assembled if isinstance(log, TrainingLog)}


def test_each_is_claimed_by_the_reader_of_its_program(logs: dict[str, tuple[bytes, TrainingLog]]) -> None:
    assert Counter(log.runs[0].format for _, log in logs.values()) == CLAIMED
    assert len(console_logs()) == 70
    for path in console_logs().keys() - logs.keys():  # empty files, a web server's log, tracebacks: no line in them is a metric
        assert not re.search(rb"(?m)^\{'loss'|^iter \d|^step:\d|^Iter \d|GLOBAL_STEP", console_logs()[path]), path


def test_no_honest_log_raises_an_alarm(logs: dict[str, tuple[bytes, TrainingLog]]) -> None:
    assert {path: raised for path, (_, log) in logs.items() if (raised := found(log))} == {}


def without(run: Run, data: bytes, steps: range) -> bytes:
    """The same log without the lines that belong to these steps."""
    lines = data.decode().splitlines(keepends=True)
    if run.format == "hf-stdout":
        out = {record.position for record in run.training if record.step in steps}
        return "".join(line for position, line in enumerate(lines, start=1) if position not in out).encode()
    step, kept = 0, []
    for line in lines:
        match = STEP[run.format].match(line.replace("\x1b[1m", ""))
        step = int(match[1]) if match else step
        if step not in steps or not (match or line.startswith("     |")):
            kept.append(line)
    return "".join(kept).encode()


def test_a_tenth_cut_out_of_the_middle_is_found(logs: dict[str, tuple[bytes, TrainingLog]]) -> None:
    missed, judged = [], 0
    for path, (data, log) in logs.items():
        run = log.runs[0]
        if not run.cadence:
            continue
        judged += 1
        steps = sorted({record.step for record in run.training})
        start = int(len(steps) * 0.45)
        out = range(steps[start], steps[start + max(3, len(steps) // 10) - 1] + 1)
        raised = found(log_of({path: without(run, data, out)}), Level.HIGH)
        if not any(claim.numbers.get("first_missing") in out and claim.numbers.get("last_missing") in out for claim in raised):
            missed.append(path)
    assert judged == 46
    assert not missed


def test_what_cannot_be_judged_is_said(logs: dict[str, tuple[bytes, TrainingLog]]) -> None:
    """Logs with evaluations only, or with rows that name no step: undecidable, never a pass."""
    open_ones = [log.runs[0] for _, log in logs.values() if not log.runs[0].cadence]
    assert Counter(run.format for run in open_ones) == {"modded-nanogpt": 11, "hf-stdout": 1}
    assert all(run.undecidable for run in open_ones)
