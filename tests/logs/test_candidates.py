"""Which files are opened in search of a log, how much of them is read, and from where."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from modelguard.blobs.local import LocalBlob
from modelguard.errors import CannotFetch
from modelguard.logs import base
from modelguard.logs.base import assemble, read_runs
from modelguard.logs.names import Likelihood, likelihood
from modelguard.logs.sources import BlobFile
from modelguard.types.findings import Absence, Missing
from tests.logs.boards import board, metric
from tests.logs.building import lines, log_of, refusal, state

NAMES = {
    Likelihood.MUST: ["trainer_state.json", "a/events.out.tfevents.1.h.1.0", "wandb/run-1-x/run-x.wandb"],
    Likelihood.LIKELY: [
        *("metrics.csv", "a.jsonl", "train.log", "wandb/run-1-x/files/output.log", "debug.log.2", "slurm-17.out", "nohup.out"),
        *("logs/train_log.txt", "trainer_0_log.txt", "nemo_log_globalrank-0_localrank-0.txt", "stdout.txt", "sacct.txt", "dcgm.prom"),
        *("mlruns/0/1/metrics/loss", "mlruns/0/models/m-1/metrics/a/b", f"x/{'0a' * 16}/metrics/loss", "mlflow.db", "gpu.txt", "log.txt"),
    ],
    Likelihood.MAYBE: ["records/f66d43d7.txt", "job.out", "job.err", "tracking.db", "chroma.sqlite3"],
    Likelihood.NO: [
        *(
            "merges.txt",
            "requirements.txt",
            "requirements-train.txt",
            "LICENSE.txt",
            "special_tokens.txt",
            "README.md",
            "model.safetensors",
        ),
        *(
            "config.json",
            "mlruns/0/1/params/lr",
            "mlruns/0/meta.yaml",
            "0/artifacts/metrics/a",
            "train.py",
            "logo.png",
            "trainer_state.json.txt",
        ),
    ],
}


class Counting(LocalBlob):
    """A file that counts the bytes that are read of it."""

    taken = 0

    def readinto(self, start: int, buffer: memoryview) -> None:
        self.taken += len(buffer)
        super().readinto(start, buffer)


def blob(folder: Path, name: str, data: bytes) -> Counting:
    (folder / name).write_bytes(data)
    return Counting(folder / name, name)


@pytest.mark.parametrize("expected", NAMES)
def test_names(expected: Likelihood) -> None:
    assert {name: likelihood(name) for name in NAMES[expected]} == dict.fromkeys(NAMES[expected], expected)


def test_a_blob_and_a_loader_of_one_are_read_as_bytes_are(tmp_path: Path) -> None:
    data = state(range(10, 501, 10))
    file = blob(tmp_path, "trainer_state.json", data)
    assert read_runs("trainer_state.json", file) == read_runs("trainer_state.json", data) == read_runs("trainer_state.json", lambda: file)


def test_of_a_large_file_that_is_no_log_only_the_beginning_is_read(tmp_path: Path) -> None:
    file = blob(tmp_path, "corpus.txt", b"once upon a time\n" * 500_000)
    assert refusal({"corpus.txt": file}).kind is Absence.ABSENT  # type: ignore[dict-item]
    assert file.taken <= 2 * base.HEAD_BYTES < file.size


def test_a_file_above_the_limit_is_streamed_where_its_reader_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_BYTES", 1000)
    large = board(range(10, 3001, 10))
    (whole,) = read_runs("run-x.wandb", blob(tmp_path, "run-x.wandb", large)) or ()
    assert len(whole.records) == 300
    (again,) = read_runs("run-x.wandb", large) or ()
    assert again == whole
    (values,) = read_runs("mlruns/0/a/metrics/loss", metric((step, 1.0) for step in range(500))) or ()
    assert len(values.records) == 500
    missing = assemble({"a.jsonl": lines(range(500))})
    assert isinstance(missing, Missing)
    assert "more than the 1000 that are read" in missing.why


def test_files_that_only_may_be_logs_are_limited_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_MAYBE", 3)
    files = {f"notes/{number}.txt": b"a poem\n" for number in range(9)} | {"z/train.jsonl": lines(range(20))}
    log = log_of(files)
    assert [run.source for run in log.runs] == ["z/train.jsonl"]
    assert log.unread == ("notes/3.txt and 5 more files that may be logs were not opened: there are too many",)
    assert "were not opened" in refusal({f"{number}.txt": b"a poem\n" for number in range(9)}).why


def test_bytes_of_files_that_are_no_logs_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_WASTE", 100)
    opened: list[str] = []

    def loader(name: str) -> base.Loader:
        def load() -> bytes:
            opened.append(name)
            return b"a poem\n" * 10

        return load

    assemble({name: loader(name) for name in ("a.txt", "b.txt", "c.txt", "d.txt")})
    assert opened == ["a.txt", "b.txt"]


def gone() -> bytes:
    raise CannotFetch("the object is not on the server", advice="push it")


@pytest.mark.parametrize(("name", "kind"), [("notes.txt", Absence.ABSENT), ("train.log", Absence.BROKEN), ("run-x.wandb", Absence.BROKEN)])
def test_a_file_that_cannot_be_had_weighs_as_its_name_does(name: str, kind: Absence) -> None:
    missing = assemble({name: gone})
    assert isinstance(missing, Missing)
    assert missing.kind is kind
    assert "not on the server" in missing.why


def test_texts_that_nobody_claims_are_passed_over() -> None:
    log = log_of(
        {"train.log": b"starting\n", "api.log": b"GET /\n", "a.txt": b"step by step, the loss of a friend\n", "b.jsonl": lines(range(9))}
    )
    assert ([run.source for run in log.runs], log.unread) == (["b.jsonl"], ())


def test_a_text_log_of_wandb_is_claimed_by_what_it_holds() -> None:
    text = b"".join(b"iter %d: loss %.4f, time 50.00ms, mfu 7.31%%\n" % (step, 9 / (1 + step)) for step in range(0, 500, 10))
    (run,) = log_of({"wandb/run-1-x/files/output.log": text}).runs
    assert (run.format, run.cadence) == ("nanogpt", 10)


def test_a_blob_as_a_file(tmp_path: Path) -> None:
    with io.BufferedReader(BlobFile(blob(tmp_path, "x", b"0123456789"))) as file:
        assert (file.read(3), file.seek(-2, io.SEEK_END), file.read(), file.read()) == (b"012", 8, b"89", b"")
        assert (file.seek(1), file.read(1), file.seek(2, io.SEEK_CUR), file.read(1)) == (1, b"1", 4, b"4")


PROGRAM = """
import resource, sys
from pathlib import Path
from modelguard.blobs.local import LocalBlob
from modelguard.logs.base import assemble
log = assemble({"train.log": LocalBlob(Path(sys.argv[1]))})
print(log.runs[0].last_step, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_gigabyte_of_text_takes_constant_memory(tmp_path: Path) -> None:
    memory = []
    for blocks in (1, 250):
        path = tmp_path / f"{blocks}.log"
        with path.open("wb") as file:
            for block in range(blocks):
                file.write(
                    b"iter %d: loss 2.5000, time 50.00ms, mfu 7.31%%\n" % (block * 10) + b"a warning that stands in the way\n" * 130_000
                )
        done = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True)
        last, peak = map(int, done.stdout.split())
        assert last == (blocks - 1) * 10
        memory.append(peak)
    assert path.stat().st_size > 1_000_000_000
    assert memory[1] < memory[0] + 30_000  # KiB
