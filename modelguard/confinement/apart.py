"""Runs a function of ours in a fresh interpreter that holds no secret, and answers what it asks. Never a fork: memory holds tokens."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import modelguard
from modelguard.confinement.broker import Broker
from modelguard.confinement.data import dumps, loads
from modelguard.confinement.limits import Limits
from modelguard.confinement.walls import closed_to_others
from modelguard.confinement.wire import (
    ASK,
    BYTES,
    DONE,
    FILL,
    GIVEN,
    JOB,
    MAX_WALLS,
    READ,
    REFUSED,
    SHOW,
    TOLD,
    WALLS,
    Channel,
    Silence,
    as_words,
    from_words,
)
from modelguard.errors import CannotRead, Malformed, ModelguardError

ROOT = str(Path(modelguard.__file__).resolve().parents[1])
START = "import sys; sys.path.insert(0, sys.argv[1]); from modelguard.confinement.inside import main; main(int(sys.argv[2]))"
KEPT = ("PATH", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "CUDA_VISIBLE_DEVICES", "MODELGUARD_DEBUG")
ARITHMETIC = ("OPENBLAS_", "OMP_", "MKL_", "DNNL_", "ONEDNN_", "ATEN_", "NPY_")  # they decide on the last bit of a number
ENVIRONMENT = {"LANG": "C.UTF-8", "HOME": "/nonexistent", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", "MALLOC_ARENA_MAX": "4"}
ENVIRONMENT |= {"TORCHINDUCTOR_CACHE_DIR": "/"}  # torch insists on a directory that is there, and writes nothing into it
MAX_SAID = 8 << 10  # bytes of its output that are kept, for those who debug
ADVICE = "one of the files is not what such files are, or this machine is too small for it"

Progress = Callable[[str, int, int], None]
log = logging.getLogger(__name__)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a child is told of ours: a few names that hold no secret, and constants."""
    return ENVIRONMENT | {name: value for name, value in environ.items() if name in KEPT or name.startswith(ARITHMETIC)}


def run_apart(task: str, given: object, broker: Broker, limits: Limits, *, what: str, progress: Progress) -> Any:
    """What the function `task` (`package.module:name`) makes of `given`, in a child process; all of it JSON data.

    Raises what the function raised where that is an error of ours, and CannotRead with one line where the child crashed, was killed,
    took too long, used too much or said something else than it should.
    """
    ours, theirs = socket.socketpair()
    with ours, _scratch(limits) as scratch, _child(theirs) as process:
        channel, broker.walls = Channel(ours, limits.wall), ()
        job = {"task": task, "root": ROOT, "what": what, "memory": limits.bytes_of_memory, "cpu": limits.cpu, "files": limits.files}
        job |= {"scratch": scratch, "scratch_bytes": limits.scratch}
        try:
            channel.send(JOB, dumps(job))
            channel.send(GIVEN, dumps(given))
            outcome = _outcome(_serve(channel, broker, limits, progress))
        except Silence as error:
            raise CannotRead(f"{what}: {_ending(process, channel, limits)}", advice=ADVICE) from error
        except Malformed as error:
            raise CannotRead(f"{what}: the confined process said {error}", advice=ADVICE) from error
    if isinstance(outcome, ModelguardError):
        raise outcome
    return outcome


def _serve(channel: Channel, broker: Broker, limits: Limits, progress: Progress) -> Any:
    """Answers until the child is done. Raises Silence, and Malformed for what is not in the protocol."""
    for _ in range(limits.asked):
        kind, body = channel.receive()
        if kind == DONE:
            return loads(body)
        if kind == FILL and len(body) == READ.size:
            _answer(channel, BYTES, lambda body=body: broker.read(*READ.unpack(body)))  # type: ignore[misc]
        elif kind == ASK:
            _answer(channel, TOLD, lambda body=body: dumps(broker.look_up(loads(body))), broker.handed)  # type: ignore[misc]
        elif kind == SHOW:
            _show(loads(body), progress)
        elif kind == WALLS and not broker.walls:
            broker.walls = _names(loads(body))
        else:
            raise Malformed("a frame that is not in the protocol")
    raise Malformed("more than anybody has to ask")


def _outcome(answer: Any) -> Any:
    """The value of a child's answer, or the error that it tells of. Raises Malformed where it is neither."""
    if isinstance(answer, dict) and answer.keys() == {"value"}:
        return answer["value"]
    return from_words(answer.get("error") if isinstance(answer, dict) else None)


def _answer(channel: Channel, kind: bytes, made: Callable[[], bytes | memoryview], handed: Callable[[], int | None] = lambda: None) -> None:
    try:
        answer = made()
    except ModelguardError as error:
        channel.send(REFUSED, dumps(as_words(error)))
        return
    channel.send(kind, answer, handed())


def _names(told: Any) -> tuple[str, ...]:
    if not isinstance(told, list) or len(told) > MAX_WALLS or not all(isinstance(name, str) for name in told):
        raise Malformed("walls that are none")
    return tuple(name[:80] for name in told)


def _show(told: Any, progress: Progress) -> None:
    if not isinstance(told, list) or len(told) != 3 or not isinstance(told[0], str) or {type(told[1]), type(told[2])} != {int}:
        raise Malformed("progress that is none")
    progress(told[0][:200], told[1], told[2])


@contextmanager
def _scratch(limits: Limits) -> Iterator[str]:
    """A directory that only this run writes into; "" where it writes nothing."""
    if not limits.scratch:
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="modelguard-") as folder:
        yield folder


@contextmanager
def _child(theirs: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """A fresh interpreter with nothing of ours but one end of the conversation. Nothing of it outlives the context."""
    before = closed_to_others(True)
    try:
        with theirs:
            command = (sys.executable, "-I", "-B", "-X", "utf8", "-c", START, ROOT, str(theirs.fileno()))
            process = _started(command, theirs.fileno())
        assert process.stdout is not None
        listener = threading.Thread(target=_listen, args=(process.stdout,), daemon=True)
        listener.start()
        try:
            yield process
        finally:
            _kill(process)
            listener.join(timeout=5)
    finally:
        closed_to_others(before)


def _started(command: tuple[str, ...], end: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(os.environ),
            pass_fds=(end,),
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        raise CannotRead(f"no confined process could be started ({type(error).__name__})", advice="check the installation") from error


def _listen(stream: IO[bytes]) -> None:
    """Takes what a child prints, so that it does not stand still; keeps its beginning, for those who debug."""
    with stream:
        said = stream.read(MAX_SAID)
        while stream.read(MAX_SAID):
            pass
    if said:
        log.debug("confined: said %s", ascii(said.decode("utf-8", "replace")))


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()


def _ending(process: subprocess.Popen[bytes], channel: Channel, limits: Limits) -> str:
    """Why a child fell silent, in a few words."""
    if channel.patience is not None and channel.patience <= 0:
        return f"stopped after {limits.wall:.0f} s"
    try:
        code = process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "the confined process hung up"
    if code == -signal.SIGXCPU:
        return f"used up its {limits.cpu} s of processor time"
    if code == -signal.SIGKILL:
        return "was killed, which happens when a machine runs out of memory or time"
    if code < 0:
        return f"ended by signal {-code} ({signal.Signals(-code).name})" if -code in set(signal.Signals) else f"ended by signal {-code}"
    return f"the confined process ended without an answer (code {code})"
