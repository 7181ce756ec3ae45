"""DeepSpeed's own lines: `[Rank 0] step=, skipped=, lr=[…], mom=[…]` and the timer's samples per second. They hold no loss."""

from __future__ import annotations

import io
import re
from typing import BinaryIO

from modelguard.logs.textlines import NUMBER, Event, Restart, Row, holds, moment, number, run_of
from modelguard.types.logs import Run

FORMAT = "deepspeed"
PATTERN = re.compile(rb"\[Rank \d{1,6}\] step=\d{1,15}, skipped=\d{1,15}, lr=\[")
_RICHER = re.compile(rb"elapsed time per iteration|\{'(?:loss|train_runtime)': |Training epoch \d{1,9}, iteration ")
_ROW = re.compile(rf"\[Rank \d{{1,6}}\] step=(\d{{1,15}}), skipped=(\d{{1,15}}), lr=\[ *({NUMBER})")
_TIMER = re.compile(rf"global_step=(\d{{1,15}}), RunningAvgSamplesPerSec=({NUMBER})")
_RESTART = re.compile(r"DeepSpeed info: version=|\[launch\.py:\d{1,6}:main\] WORLD INFO DICT")


def sniff(name: str, head: bytes) -> bool:
    """A line of DeepSpeed's that counts steps, in a log without rows of the program that runs on it: those say more."""
    return holds(PATTERN, head) and not holds(_RICHER, head)


def read(name: str, data: bytes) -> Run:
    """The run in a log: steps, skipped steps and learning rates. Raises Malformed."""
    return stream(name, io.BytesIO(data))


def stream(name: str, file: BinaryIO) -> Run:
    """The same, from a file of any size."""
    return run_of(name, FORMAT, file, _parse)


def _parse(line: str) -> Event | None:
    if row := _ROW.search(line):
        return Row(step=int(row[1]), values={"learning_rate": number(row[3]), "skipped": number(row[2])}, time=moment(line))
    if timer := _TIMER.search(line):
        return Row(step=int(timer[1]), values={"samples_per_second": number(timer[2])}, time=moment(line))
    return Restart() if _RESTART.search(line) else None
