"""A file on a web server, read by ranges: only what is asked for travels (RFC 9110, sections 13.1.5 and 14).

The first answer fixes the size and the strong entity tag; every later one must agree with both, so that a file that is replaced
meanwhile is noticed. Nothing vouches for what a server sends in pieces: such a blob is not `verified`, and reports say so.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from modelguard.blobs.http import Answer, Client, refusal, shown
from modelguard.errors import CannotFetch, CannotRead

BLOCK = 64 << 10  # bytes; what is smaller is read in whole blocks, and kept
KEPT_BLOCKS = 64
LARGEST = 16 << 20  # bytes asked for at once
EXPIRED = (401, 403)  # what signed addresses answer when their time is over
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

Address = Callable[[bool], tuple[str, Mapping[str, str]]]  # (whether the last one expired) -> address, secret headers


class RangeBlob:
    """A file behind an address that may be asked for anew when it expires."""

    sha256: str | None = None
    verified = False

    def __init__(self, client: Client, address: Address, name: str, *, size: int | None = None) -> None:
        self.name = name
        self.bytes_fetched = 0
        self._client, self._address = client, address
        self._url, self._secret = address(False)
        self._etag = ""
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self.size = -1 if size is None else size
        if size is None or size:
            self._first()

    def readinto(self, start: int, buffer: memoryview) -> None:
        if start < 0 or start + len(buffer) > self.size:
            raise CannotRead(f"{self.name}: ends at byte {self.size}", advice="the file is cut short")
        if len(buffer) >= BLOCK:
            for offset in range(0, len(buffer), LARGEST):
                self._fetch(start + offset, buffer[offset : offset + LARGEST])
            return
        done = 0
        while done < len(buffer):
            number, inside = divmod(start + done, BLOCK)
            piece = self._block(number)[inside : inside + len(buffer) - done]
            buffer[done : done + len(piece)] = piece
            done += len(piece)

    def _first(self) -> None:
        """Learns the size and the entity tag with the first block, which every format needs anyway."""
        with self._ask(0, BLOCK - 1) as answer:
            total = self._agreed(answer, 0, None)
            self.size = total
            body = bytearray(min(BLOCK, total))
            answer.into(memoryview(body))
        self._keep(0, bytes(body))

    def _block(self, number: int) -> bytes:
        with self._lock:
            if number in self._blocks:
                self._blocks.move_to_end(number)
                return self._blocks[number]
        body = bytearray(min(BLOCK, self.size - number * BLOCK))
        self._fetch(number * BLOCK, memoryview(body))
        self._keep(number, bytes(body))
        return bytes(body)

    def _keep(self, number: int, body: bytes) -> None:
        with self._lock:
            self._blocks[number] = body
            while len(self._blocks) > KEPT_BLOCKS:
                self._blocks.popitem(last=False)

    def _fetch(self, start: int, buffer: memoryview) -> None:
        with self._ask(start, start + len(buffer) - 1) as answer:
            self._agreed(answer, start, len(buffer))
            answer.into(buffer)
        with self._lock:
            self.bytes_fetched += len(buffer)

    @contextmanager
    def _ask(self, first: int, last: int) -> Iterator[Answer]:
        """The answer to one range; an address that expired since it worked is asked for anew, once."""
        with self._client.ask(self._url, headers=self._headers(first, last), secret=self._secret) as answer:
            if answer.status not in EXPIRED or self.size < 0:
                yield answer
                return
        self._url, self._secret = self._address(True)
        with self._client.ask(self._url, headers=self._headers(first, last), secret=self._secret) as answer:
            yield answer

    def _headers(self, first: int, last: int) -> dict[str, str]:
        condition = {"If-Range": self._etag} if self._etag else {}
        return {"Range": f"bytes={first}-{last}", **condition}

    def _agreed(self, answer: Answer, start: int, length: int | None) -> int:
        """The size of the whole file, once the answer is the one that was asked for."""
        if answer.status == 200:
            reason = "does not serve parts of the file, or the file was replaced"
            raise CannotFetch(f"{shown(answer.url)}: {reason}", advice="download it, and name the copy")
        if answer.status != 206:
            raise refusal(answer)
        found = CONTENT_RANGE.fullmatch(answer.headers.get("content-range", "").strip())
        if not found or answer.headers.get("content-encoding", "identity") != "identity":
            raise CannotFetch(f"{shown(answer.url)}: answers with a part without saying which")
        first, last, total = map(int, found.groups())
        if self.size >= 0 and total != self.size:
            raise CannotFetch(f"{self.name}: has {total} bytes where {self.size} are named", advice="check the reference")
        expected = total if length is None else start + length
        if first != start or last + 1 != (min(BLOCK, expected) if length is None else expected):
            raise CannotFetch(f"{shown(answer.url)}: answers with another part than was asked for")
        tag = answer.headers.get("etag", "")
        if self._etag and tag != self._etag:
            raise CannotFetch(f"{shown(answer.url)}: was replaced while it was read", advice="run again")
        self._etag = tag if tag.startswith('"') else ""
        return total
