"""DeepSpeed's own lines: `[Rank 0] step=, skipped=, lr=[…], mom=[…]` and the timer's samples per second. They hold no loss."""

from __future__ import annotations

import re

from modelguard.logs.textlines import NUMBER, Event, Restart, Row, moment, number

FORMAT = "deepspeed"
PATTERN = re.compile(rb"\[Rank \d{1,6}\] step=\d{1,15}, skipped=\d{1,15}, lr=\[")
# rows of the program that runs on DeepSpeed say more than its own lines
UNLESS = re.compile(rb"elapsed time per iteration|\{'(?:loss|train_runtime)': |Training epoch \d{1,9}, iteration ")
_ROW = re.compile(rf"\[Rank \d{{1,6}}\] step=(\d{{1,15}}), skipped=(\d{{1,15}}), lr=\[ *({NUMBER})")
_TIMER = re.compile(rf"global_step=(\d{{1,15}}), RunningAvgSamplesPerSec=({NUMBER})")
_RESTART = re.compile(r"DeepSpeed info: version=|\[launch\.py:\d{1,6}:main\] WORLD INFO DICT")


def parse(line: str) -> Event | None:
    """A row of the optimizer or of the timer, or a start; None for any other line."""
    if row := _ROW.search(line):
        return Row(step=int(row[1]), values={"learning_rate": number(row[3]), "skipped": number(row[2])}, time=moment(line))
    if timer := _TIMER.search(line):
        return Row(step=int(timer[1]), values={"samples_per_second": number(timer[2])}, time=moment(line))
    return Restart() if _RESTART.search(line) else None
