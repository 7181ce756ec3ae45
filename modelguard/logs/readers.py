"""The readers of training logs: what the modules of this package give, each made whole.

A module gives `FORMAT` and one of these:
- for a text of lines, `PATTERN` (bytes that only a metric line of it holds) and `parse(line)`, or a class `Parser` whose instance takes
  the lines of one file; `UNLESS` names bytes beside which another reader of the same file says more;
- for anything else its own `sniff(name, head)` and `read(name, data)`, and `stream(name, file)` where it can take a file of any size.
  With `PATTERN` and `stream` the other two follow. A format with a mark at its start says `BINARY = True`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any, BinaryIO

import modelguard.logs
from modelguard.discover import modules
from modelguard.logs.textlines import Parse, holds, run_of
from modelguard.types.logs import Run

Found = Run | tuple[Run, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One log format. `read` and `stream` raise Malformed; `stream` is None where a file must be taken whole."""

    format: str
    sniff: Callable[[str, bytes], bool]
    read: Callable[[str, bytes], Found]
    stream: Callable[[str, BinaryIO], Found] | None
    binary: bool


@cache
def all_readers() -> tuple[Reader, ...]:
    """Every log format that this version reads, in the order of the modules' names."""
    found = modules(modelguard.logs, having="FORMAT")
    return tuple(reader_of(module) for module in found if not hasattr(module, "sniff_usage"))  # those are of machine logs


def reader_of(module: ModuleType) -> Reader:
    """The reader that a module describes."""
    given: dict[str, Any] = vars(module)
    return Reader(
        format=given["FORMAT"],
        sniff=given.get("sniff") or partial(_holds, module),
        read=given.get("read") or partial(_read, given.get("stream") or partial(_lines, module)),
        stream=given.get("stream") or (partial(_lines, module) if "PATTERN" in given else None),
        binary=given.get("BINARY", False),
    )


def _read(stream: Callable[[str, BinaryIO], Found], name: str, data: bytes) -> Found:
    return stream(name, io.BytesIO(data))


def _holds(module: ModuleType, _name: str, head: bytes) -> bool:
    unless = getattr(module, "UNLESS", None)
    return holds(module.PATTERN, head) and not (unless is not None and holds(unless, head))


def _lines(module: ModuleType, name: str, file: BinaryIO) -> Run:
    parse: Parse = module.Parser() if hasattr(module, "Parser") else module.parse
    return run_of(name, module.FORMAT, file, parse)
