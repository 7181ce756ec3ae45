"""What parent and child say to each other: frames of one letter, a length and a body, over one pair of sockets.

The child asks and the parent answers. Neither believes a length: a frame beyond its bound ends the conversation.
"""

from __future__ import annotations

import socket
import struct
import time

from modelguard.errors import BadRequest, CannotFetch, CannotPost, CannotRead, Malformed, ModelguardError

HEAD = struct.Struct(">cI")  # kind, bytes of the body
READ = struct.Struct(">IQI")  # handle, first byte, bytes
MAX_READ = 16 << 20  # bytes of one answer to a read
MAX_QUESTION = 1 << 20
MAX_ANSWER = 256 << 20  # bytes of what the child gives in the end, and of what it is given in the beginning
MAX_WORDS = 2000  # characters of a reason
MAX_WALLS = 32

JOB, GIVEN, ASK, FILL, TOLD, BYTES, REFUSED, SHOW, WALLS, DONE = (letter.encode() for letter in "JGAFTBRSWD")
BOUNDS = {JOB: MAX_QUESTION, GIVEN: MAX_ANSWER, ASK: MAX_QUESTION, FILL: READ.size, TOLD: MAX_ANSWER, BYTES: MAX_READ}
BOUNDS |= {REFUSED: 1 << 16, SHOW: 1 << 12, WALLS: 1 << 12, DONE: MAX_ANSWER}
ERRORS = {kind.__name__: kind for kind in (ModelguardError, BadRequest, CannotRead, CannotFetch, Malformed, CannotPost)}


class Silence(Exception):
    """The other side ended, or said nothing for too long."""


class Channel:
    """One end. `patience` bounds the seconds that are spent waiting for the other side, in all; None waits for ever."""

    def __init__(self, end: socket.socket, patience: float | None = None) -> None:
        self._end = end
        self.patience = patience

    def send(self, kind: bytes, body: bytes | bytearray | memoryview = b"", handed: int | None = None) -> None:
        """Says something, and hands an open file over with it. Raises Silence when nobody listens any more."""
        if len(body) > BOUNDS[kind]:
            raise Malformed(f"{len(body):,} bytes, more than the {BOUNDS[kind]:,} that may be said at once")
        began = self._arm()
        try:
            head = HEAD.pack(kind, len(body))
            if handed is None:
                self._end.sendall(head)
            else:
                socket.send_fds(self._end, [head], [handed])
            self._end.sendall(body)
        except OSError as error:
            raise Silence(type(error).__name__) from error
        finally:
            self._spend(began)

    def receive(self) -> tuple[bytes, bytearray]:
        """The next frame. Raises Silence, and Malformed for what is no frame."""
        kind, length = self.head()
        body = bytearray(length)
        self.fill(memoryview(body))
        return kind, body

    def head(self) -> tuple[bytes, int]:
        """The next frame's kind and length; its body is then to be taken with `fill`."""
        head = bytearray(HEAD.size)
        self.fill(memoryview(head))
        kind, length = HEAD.unpack(head)
        if length > BOUNDS.get(kind, -1):
            raise Malformed("a frame that is not in the protocol")
        return kind, length

    def fill(self, buffer: memoryview) -> None:
        """Fills a buffer with what comes next. Raises Silence."""
        done = 0
        while done < len(buffer):
            began = self._arm()
            try:
                count = self._end.recv_into(buffer[done:])
            except OSError as error:
                raise Silence(type(error).__name__) from error
            finally:
                self._spend(began)
            if not count:
                raise Silence("ended")
            done += count

    def receive_handed(self) -> tuple[bytes, bytearray, int | None]:
        """The next frame with the open file that came with it. For the child alone: the parent takes none."""
        first, handed, _flags, _address = socket.recv_fds(self._end, 1, 1, socket.MSG_CMSG_CLOEXEC)
        if not first:
            raise Silence("ended")
        head = bytearray(first.ljust(HEAD.size, b"\0"))
        self.fill(memoryview(head)[1:])
        kind, length = HEAD.unpack(head)
        body = bytearray(length)
        self.fill(memoryview(body))
        return kind, body, handed[0] if handed else None

    def _arm(self) -> float:
        """The time now, with the socket's patience set to what is left of ours."""
        if self.patience is not None:
            if self.patience <= 0:
                raise Silence("patience")
            self._end.settimeout(self.patience)
        return time.monotonic()

    def _spend(self, began: float) -> None:
        if self.patience is not None:
            self.patience -= time.monotonic() - began


def as_words(error: ModelguardError) -> list[str]:
    """An error as what travels."""
    return [type(error).__name__, str(error)[:MAX_WORDS], error.advice[:MAX_WORDS]]


def from_words(words: object) -> ModelguardError:
    """The error that somebody tells of; one that is not ours is what cannot be read."""
    if not isinstance(words, list) or len(words) != 3 or not all(isinstance(word, str) for word in words):
        raise Malformed("an error that is none")
    kind, reason, advice = (word[:MAX_WORDS] for word in words)
    return ERRORS.get(kind, CannotRead)(" ".join(reason.split()), advice=" ".join(advice.split()))
