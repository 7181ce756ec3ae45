"""A process without secrets: what it cannot see or do, and how each way in which it can end becomes one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.confinement.apart import ROOT, environment, run_apart
from modelguard.confinement.broker import Broker
from modelguard.confinement.limits import FOR_AUDITS, Limits
from modelguard.confinement.walls import WALLS
from modelguard.errors import BadRequest, CannotRead, Malformed
from tests.confinement import tasks

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the walls are those of Linux")
SECRET = "s3cr3t-0123456789"
SECRETS = (
    *("GITHUB_TOKEN", "INPUT_GITHUB-TOKEN", "INPUT_POLICY-TOKEN", "INPUT_HF-TOKEN", "GH_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
    *(
        "ACTIONS_RUNTIME_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "ACTIONS_CACHE_URL",
        "ACTIONS_RESULTS_URL",
    ),
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD", "MODELGUARD_LFS_TOKEN", "INPUT_REGISTRY", "SSH_AUTH_SOCK", "NETRC"),
    *("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "HTTPS_PROXY", "PYTHONPATH", "PYTHONSTARTUP", "LD_PRELOAD"),
)


def run(task: str, given: object = None, limits: Limits | None = None, broker: Broker | None = None) -> Any:
    within = limits or Limits()
    return run_apart(f"tests.confinement.tasks:{task}", given, broker or Broker(within), within, what="the task", progress=_silent)


def _silent(_what: str, _done: int, _total: int) -> None:
    """Shows nothing."""


def standing() -> tuple[str, ...]:
    broker = Broker(Limits())
    run("echo", broker=broker)
    return broker.walls


def test_values_come_back_as_they_went() -> None:
    given = {"text": "ü\udc80\n", "numbers": [1, 1.0, -0.0, 1e300, float("inf"), 2**80], "nothing": None, "yes": True}
    assert repr(run("echo", given)) == repr(given)


def test_all_walls_stand_where_the_kernel_has_them() -> None:
    """The kernels of hosted runners and of this project's machines have them all; a container may refuse the network namespace."""
    walls = standing()
    assert {"processor time", "open files", "files written", "memory", "no new privileges", "no capabilities"} <= set(walls)
    told = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    assert (WALLS[-1] in walls) == (told in ("x86_64", "aarch64"))


def test_no_secret_is_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, f"{SECRET}-{name}")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    seen = run("environment")
    assert SECRET not in seen
    assert "OPENBLAS_NUM_THREADS=1" in seen
    assert not set(environment(os.environ)) & set(SECRETS)


PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.confinement.test_apart import run
print(run("parents_environment"))
print(open("/proc/self/environ").read().count("s3cr3t"))
"""


def test_it_does_not_read_the_secrets_out_of_its_parent() -> None:
    """A process may read its parent's environment, where tokens are, unless somebody sees to it."""
    environ = {"GITHUB_TOKEN": SECRET, "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", PARENT, ROOT], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["refused: PermissionError", "1"], done.stdout


def test_files_of_others_are_neither_read_nor_written(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text(SECRET)
    assert tasks.read(str(secret), None) == SECRET  # type: ignore[arg-type]
    if WALLS[2] in standing():
        assert run("read", str(secret)).startswith("refused")
        assert run("read", "/etc/passwd").startswith("refused")
    assert run("write", str(tmp_path / "new")).startswith("refused")
    assert not list(tmp_path.glob("new*")) or (tmp_path / "new").read_bytes() == b""
    assert "class Limits" in run("read", str(Path(ROOT) / "modelguard/confinement/limits.py"))


def test_a_scratch_directory_is_its_own_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run("scratch", 1000, Limits(scratch=1000)) == 1000
    assert run("scratch", 1001, Limits(scratch=1000)) == "refused: OSError"
    assert run("scratch", 1) == "refused: FileNotFoundError"
    assert not list(tmp_path.iterdir())


def test_it_reaches_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = list(server.getsockname())
        assert tasks.connect(address, None) == "connected"  # type: ignore[arg-type]
        if {"no network", WALLS[-1]} & set(standing()):
            assert run("connect", address).startswith("refused")


def test_it_starts_no_program_but_threads() -> None:
    assert tasks.start(None, None) == "started\n"  # type: ignore[arg-type]
    if WALLS[-1] in standing():
        assert run("start") == "refused: PermissionError"
        assert run("fork") == "refused: PermissionError"
    assert run("threads") == 4


def test_it_inherits_no_open_file(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        kinds = run("descriptors")
    assert "open" not in kinds
    assert kinds.count("socket") == 1


ENDINGS = {
    "refuse": (Malformed, "model.safetensors: not what it says"),
    "misuse": (BadRequest, "no such thing"),
    "crash": (CannotRead, r"the task crashed \(ZeroDivisionError\)"),
    "fault": (CannotRead, r"the task: ended by signal 11 \(SIGSEGV\)"),
    "leave": (CannotRead, r"the task: the confined process ended without an answer \(code 0\)"),
    "die": (CannotRead, "the task: was killed"),
    "eat_memory": (CannotRead, "the task needs more memory than there is for it"),
    "eat_time": (CannotRead, "the task: used up its 1 s of processor time"),
    "sleep": (CannotRead, "the task: stopped after 2 s"),
}


@pytest.mark.parametrize("task", ENDINGS)
def test_each_end_is_one_line(task: str) -> None:
    kind, words = ENDINGS[task]
    limits = Limits(memory=1 << 30, cpu=60) if task == "eat_memory" else Limits(cpu=1, wall=2.0 if task == "sleep" else 60.0)
    began = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        run(task, limits=limits)
    assert time.monotonic() - began < 60
    assert "\n" not in str(caught.value)
    assert caught.value.advice  # type: ignore[attr-defined]


FRAMES = {
    "no kind": b"Z\0\0\0\0",
    "too long": b"D\xff\xff\xff\xff",
    "not JSON": b"D\0\0\0\2{]",
    "no outcome": b"D\0\0\0\x02[]",
    "an outcome of two": b'D\0\0\0\x15{"value":1,"error":2}',
    "an error that is none": b'D\0\0\0\x0d{"error":"x"}',
    "nested": b"D\0\x01\x86\xa0" + b"[" * 100_000,
    "a read cut short": b"F\0\0\0\1x",
    "progress of text": b'S\0\0\0\x0d["x","y","z"]',
    "walls again": b'W\0\0\0\x05["x"]',
    "the parent's own": b"T\0\0\0\2[]",
}


@pytest.mark.parametrize("what", FRAMES)
def test_what_is_not_in_the_protocol_ends_in_one_line(what: str) -> None:
    with pytest.raises(CannotRead, match="the confined process said") as caught:
        run("babble", list(FRAMES[what]), Limits(wall=20))
    assert "\n" not in str(caught.value)


def test_what_it_prints_is_taken_and_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("chatter") == "done"
    assert "::error::" not in "".join(capfd.readouterr())


def test_progress_is_shown_from_outside() -> None:
    seen: list[tuple[str, int, int]] = []
    limits = Limits()
    run_apart(
        "tests.confinement.tasks:count",
        None,
        Broker(limits),
        limits,
        what="counting",
        progress=lambda what, done, total: seen.append((what, done, total)),
    )
    assert seen[-1] == ("counting", 5, 5)
    assert len(seen) >= 3


def test_files_and_tensors_come_through_the_broker(tmp_path: Path) -> None:
    values = np.arange(100_000, dtype=np.float32).reshape(100, 1000)
    content = save({"w": values})
    (tmp_path / "m.safetensors").write_bytes(content)
    folder, broker = LocalFolder(tmp_path, "models"), Broker(Limits())
    assert bytes.fromhex(run("copy", {"folder": broker.folder(folder), "name": "m.safetensors"}, broker=broker)) == content
    told = broker.checkpoint(open_safetensors(folder.open("m.safetensors")))
    assert run("tensor", told, broker=broker) == ["w", "F32", [100, 1000], values.tobytes().hex()]


def test_a_file_of_this_machine_is_handed_over_open_and_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(range(256)) * 1000)
    broker = Broker(Limits(served=0), hands_over=True)
    told = {"folder": broker.folder(LocalFolder(tmp_path, "models")), "name": "model.bin", "handed": True}
    assert bytes.fromhex(run("copy", told, broker=broker)) == bytes(range(256)) * 1000
    assert run("write_handed", told, broker=broker) == "refused: OSError"
    with pytest.raises(CannotRead, match="bytes that were not offered"):
        run("overreach", ["fill", 5, 0, 1], broker=broker)


OVERREACH: dict[str, tuple[list[Any], str]] = {
    "a handle that was not given": (["fill", 7, 0, 5], "bytes that were not offered"),
    "behind the end": (["fill", 0, 90, 11], "bytes that were not offered"),
    "a start that overflows": (["fill", 0, 2**64 - 1, 2], "bytes that were not offered"),
    "a folder that was not offered": (["open", [1, "model.bin"]], "a place that was not offered"),
    "a negative folder": (["open", [-1, "model.bin"]], "a place that was not offered"),
    "a number that is none": (["open", [True, "model.bin"]], "a place that was not offered"),
    "another file": (["open", [0, "../token"]], "has no file"),
    "an absolute path": (["open", [0, "/etc/passwd"]], "has no file"),
    "a name that is none": (["open", [0, 5]], "a name that is none"),
    "a tensor of nothing": (["tensor", [0, "w"]], "a place that was not offered"),
    "another question": (["shell", "id"], "a question that nobody here answers"),
}


@pytest.mark.parametrize("what", OVERREACH)
def test_it_gets_nothing_that_was_not_offered(tmp_path: Path, what: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/model.bin").write_bytes(bytes(100))
    (tmp_path / "token").write_text(SECRET)
    broker = Broker(Limits())
    folder = LocalFolder(tmp_path / "models", "models")
    broker.folder(folder), broker.blob(folder.open("model.bin"))
    question, words = OVERREACH[what]
    assert run("overreach", ["fill", 0, 90, 10], broker=broker) == "given"
    with pytest.raises(CannotRead, match=words):
        run("overreach", question, broker=broker)


def test_there_is_an_end_to_what_it_may_ask_for(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(1000))
    folder = LocalFolder(tmp_path, "models")
    for served, fits in ((1000, True), (999, False)):
        broker = Broker(Limits(served=served))
        told = {"folder": broker.folder(folder), "name": "model.bin"}
        if fits:
            assert len(run("copy", told, broker=broker)) == 2000
        else:
            with pytest.raises(CannotRead, match="more bytes were asked for"):
                run("copy", told, broker=broker)
    with pytest.raises(CannotRead, match="more than anybody has to ask"):
        run("count", limits=Limits(asked=3))


def test_an_interpreter_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(CannotRead, match="no confined process could be started"):
        run("echo")


def test_audits_may_write_a_copy_and_activations_nothing() -> None:
    assert FOR_AUDITS.scratch > 0
    assert Limits().scratch == 0
    assert Limits(memory=5).bytes_of_memory == 5 < Limits().bytes_of_memory
