"""The child's side: walls first, then the one function that the parent named, and its answer. Started by `apart`."""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelguard.attempt import attempt
from modelguard.confinement.data import dumps, loads
from modelguard.confinement.limits import hold_to
from modelguard.confinement.walls import raise_walls
from modelguard.confinement.wire import (
    ASK,
    BYTES,
    DONE,
    FILL,
    GIVEN,
    JOB,
    MAX_READ,
    READ,
    REFUSED,
    SHOW,
    WALLS,
    Channel,
    as_words,
    from_words,
)
from modelguard.errors import Malformed, ModelguardError
from modelguard.types.findings import Missing

SHOWN_EVERY_S = 0.1
NOWHERE = "/nonexistent"


class Desk:
    """Where the child asks: for what the parent looks up for it, for bytes, and for progress to be shown. Threads may share it."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._lock = channel, threading.Lock()
        self._shown = 0.0

    def ask(self, what: str, given: object) -> Any:
        """What the parent looks up. Raises what looking it up raised there."""
        return self.ask_for_file(what, given)[0]

    def ask_for_file(self, what: str, given: object) -> tuple[Any, int | None]:
        """What the parent looks up, and an open file where it hands one over: reading that needs nobody."""
        with self._lock:
            self._channel.send(ASK, dumps([what, given]))
            kind, body, handed = self._channel.receive_handed()
        if kind == REFUSED:
            raise from_words(loads(body))
        return loads(body), handed

    def fill(self, handle: int, start: int, buffer: memoryview) -> None:
        """Fills a buffer with bytes of what was opened under a handle. Raises what reading raised there."""
        for offset in range(0, len(buffer), MAX_READ):
            self._fill(handle, start + offset, buffer[offset : offset + MAX_READ])

    def _fill(self, handle: int, start: int, buffer: memoryview) -> None:
        with self._lock:
            self._channel.send(FILL, READ.pack(handle, start, len(buffer)))
            kind, length = self._channel.head()
            if kind == BYTES and length == len(buffer):
                self._channel.fill(buffer)
                return
            words = bytearray(length)
            self._channel.fill(memoryview(words))
        raise from_words(loads(words))

    def progress(self, what: str, done: int, total: int) -> None:
        """Has the parent show how far something has come; too often is not passed on."""
        now = time.monotonic()
        if now - self._shown >= SHOWN_EVERY_S or done >= total:
            self._shown = now
            with self._lock:
                self._channel.send(SHOW, dumps([what[:200], done, total]))


def main(descriptor: int) -> None:
    """Does one job. The answer is the function's value or an error of ours; a crash is an error too."""
    channel = Channel(socket.socket(fileno=descriptor))
    if os.environ.get("MODELGUARD_DEBUG"):
        logging.basicConfig(level=logging.DEBUG)
    job = _body(channel, JOB)
    module, _, name = job["task"].partition(":")
    root = job["root"]
    tempfile.tempdir = job["scratch"] or NOWHERE  # libraries ask where they might write even if they never do
    standing = hold_to(job["memory"], job["cpu"], job["files"], job["scratch_bytes"])
    roots = [place for place in sys.path if place and place != root]
    readable = (sys.prefix, sys.base_prefix, *roots, str(Path(root) / "modelguard"), str(Path(root) / module.partition(".")[0]))
    standing += raise_walls(readable, (root,), filter(None, [job["scratch"]]))
    channel.send(WALLS, dumps(list(standing)))
    given = _body(channel, GIVEN)
    function: Callable[[Any, Desk], Any] = getattr(importlib.import_module(module), name)
    channel.send(DONE, dumps(_answer(lambda: function(given, Desk(channel)), job["what"])))


def _answer(action: Callable[[], Any], what: str) -> dict[str, object]:
    try:
        outcome = attempt(action, what=what, passing=ModelguardError)
    except ModelguardError as error:
        return {"error": as_words(error)}
    if isinstance(outcome, Missing):
        return {"error": ["CannotRead", outcome.why, outcome.advice]}
    return {"value": outcome}


def _body(channel: Channel, kind: bytes) -> Any:
    told, body = channel.receive()
    if told != kind:
        raise Malformed("a frame out of order")
    return loads(body)
