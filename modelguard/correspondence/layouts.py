"""A checkpoint seen through another layout: tensors that are cut from, joined from, reordered or transposed versions of a source's tensors.

A view reads nothing until it is read, holds at most a few bands of a transposed tensor, and changes no value: what a test or the exact
difference says of a view, it says of the source's own weights.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint, TensorInfo
from modelguard.checkpoints.dtypes import itemsize

BAND_BYTES = 1 << 26  # of a transposed tensor that is read at a time
BANDS = 3  # held at once: a scan by several threads touches neighbours
PIECE_BYTES = 1 << 22
WASTE = 4  # lines may be read to be skipped, up to this multiple of those that are wanted

Places = NDArray[np.intp]
Words = NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Lines of a source tensor, in this order: its rows, or its columns where it is `turned`. Without `places`, all of them."""

    source: str
    places: Places | None = None
    turned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A tensor of a view: the lines of its parts one after the other, as a matrix of `shape`, or as its transpose where it is `turned`.

    A source is cut into lines of the length that is needed, whatever its shape: stacked experts are lines of one expert after the other.
    """

    parts: tuple[Part, ...]
    shape: tuple[int, ...]
    turned: bool = False

    @property
    def width(self) -> int:
        """Entries of a line before it is turned."""
        return self.shape[0] if self.turned else prod(self.shape[1:])


class View:
    """A checkpoint whose tensors are made of another one's. `names` are tensors taken as they are, by their name in the view."""

    def __init__(self, source: Checkpoint, names: Mapping[str, str], made: Mapping[str, Made]) -> None:
        self._source, self._names, self._made = source, names, made
        self._bands: OrderedDict[tuple[str, str, int], Words] = OrderedDict()
        self._lock = threading.Lock()
        self.ref, self.format, self.notes = source.ref, source.format, source.notes
        self.digest, self.verified = source.digest, source.verified
        self.tensors: Mapping[str, TensorInfo] = {name: self._info(name) for name in sorted({*names, *made})}

    def readinto(self, name: str, start: int, buffer: memoryview) -> None:
        if name not in self._made:
            self._source.readinto(self._names[name], start, buffer)
            return
        info, made = self.tensors[name], self._made[name]
        if not len(buffer):
            return
        line = info.nbytes // _lines(made.shape)
        first, last = start // line, -(-(start + len(buffer)) // line)
        raw = np.concatenate([piece.reshape(-1) for piece in self._stretches(name, made, first, last)]).view(np.uint8)
        buffer[:] = raw[start - first * line : start - first * line + len(buffer)].data

    def _info(self, name: str) -> TensorInfo:
        if name not in self._made:
            info = self._source.tensors[self._names[name]]
            return TensorInfo(name, info.dtype, info.shape, info.nbytes)
        made = self._made[name]
        dtype = self._source.tensors[made.parts[0].source].dtype
        return TensorInfo(name, dtype, made.shape, prod(made.shape) * itemsize(dtype))

    def _stretches(self, name: str, made: Made, first: int, last: int) -> Iterator[Words]:
        """Lines [first, last) of a made tensor, (n, line) in words of the entry's size."""
        if not made.turned:
            yield from self._gathered(made, first, last)
            return
        lines, width = _lines(made.shape), prod(made.shape[1:])
        read: Callable[[int, int], Words] = lambda start, stop: np.concatenate(list(self._gathered(made, start, stop)))  # noqa: E731
        yield from self._columns((name, "made"), read, (width, lines), first, last, self._word(made.parts[0].source))

    def _gathered(self, made: Made, first: int, last: int) -> Iterator[Words]:
        """Lines [first, last) of the parts one after the other."""
        offset = 0
        for part in made.parts:
            count = self._count(part, made.width)
            start, stop = max(first - offset, 0), min(last - offset, count)
            if start < stop:
                places = np.arange(start, stop) if part.places is None else part.places[start:stop]
                yield from self._taken(part, places, made.width)
            offset += count

    def _taken(self, part: Part, places: Places, width: int) -> Iterator[Words]:
        """Those lines of a source tensor, in that order."""
        low, high = int(places.min()), int(places.max()) + 1
        breaks = np.flatnonzero(np.diff(places) != 1) + 1
        if len(breaks) and high - low <= WASTE * len(places):
            yield np.concatenate(list(self._run(part, low, high, width)))[places - low]
            return
        for run in np.split(places, breaks):
            yield from self._run(part, int(run[0]), int(run[-1]) + 1, width)

    def _run(self, part: Part, first: int, last: int, width: int) -> Iterator[Words]:
        """Lines [first, last) of a source tensor."""
        if not part.turned:
            yield self._rows(part.source, first, last, width)
            return
        rows, columns = self._source.tensors[part.source].shape
        read: Callable[[int, int], Words] = lambda start, stop: self._rows(part.source, start, stop, columns)  # noqa: E731
        yield from self._columns((part.source, "source"), read, (rows, columns), first, last, self._word(part.source))

    def _rows(self, source: str, first: int, last: int, width: int) -> Words:
        size = itemsize(self._source.tensors[source].dtype)
        raw = np.empty((last - first) * width * size, dtype=np.uint8)
        self._source.readinto(source, first * width * size, raw.data)
        return raw.view(self._word(source)).reshape(last - first, width)

    def _columns(
        self,
        key: tuple[str, str],
        read: Callable[[int, int], Words],
        shape: tuple[int, int],
        first: int,
        last: int,
        word: np.dtype[np.unsignedinteger],
    ) -> Iterator[Words]:
        """Columns [first, last) of a matrix that is read by rows, as rows; whole bands are read at once and a few of them kept."""
        step = max(1, BAND_BYTES // max(1, shape[0] * word.itemsize))
        for number in range(first // step, -(-last // step)):
            start = number * step
            with self._lock:
                band = self._band((*key, number), read, shape, start, min(start + step, shape[1]), word)
            yield band[max(first - start, 0) : last - start]

    def _band(
        self,
        key: tuple[str, str, int],
        read: Callable[[int, int], Words],
        shape: tuple[int, int],
        start: int,
        stop: int,
        word: np.dtype[np.unsignedinteger],
    ) -> Words:
        if key in self._bands:
            self._bands.move_to_end(key)
            return self._bands[key]
        band = np.empty((stop - start, shape[0]), dtype=word)
        step = max(1, PIECE_BYTES // max(1, shape[1] * word.itemsize))
        for row in range(0, shape[0], step):
            rows = read(row, min(row + step, shape[0]))
            band[:, row : row + len(rows)] = rows[:, start:stop].T
        self._bands[key] = band
        while len(self._bands) > BANDS:
            self._bands.popitem(last=False)
        return band

    def _word(self, source: str) -> np.dtype[np.unsignedinteger]:
        return np.dtype(f"<u{itemsize(self._source.tensors[source].dtype)}")

    def _count(self, part: Part, width: int) -> int:
        info = self._source.tensors[part.source]
        return len(part.places) if part.places is not None else info.shape[1] if part.turned else info.entries // max(1, width)


def _lines(shape: tuple[int, ...]) -> int:
    return shape[0] if shape else 1
