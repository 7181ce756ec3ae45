"""mlx-lm's console log: `Iter n: Train loss …, Learning Rate …, It/sec …` and `Iter n: Val loss …`."""

from __future__ import annotations

import io
import re
from typing import BinaryIO

from modelguard.logs.textlines import NUMBER, Event, Restart, Row, Saved, holds, number, run_of
from modelguard.types.logs import Run

FORMAT = "mlx"
PATTERN = re.compile(rb"(?:^|[\r\n\xbf\xfe\xff])Iter \d{1,15}: Train loss [-+.\w]{1,40}, (?:Learning Rate|It/sec) [\d.]")
_ROW = re.compile(r"Iter (\d{1,15}): (Train|Val) loss ")
_PAIR = re.compile(rf"(Train loss|Val loss|Learning Rate|It/sec|Tokens/sec|Trained Tokens|Peak mem) ({NUMBER})")
_SAVED = re.compile(r"Iter (\d{1,15}): Saved adapter weights")
_RESTART = re.compile(r"Starting training\.\.\., iters: \d|Loading pretrained model")


def sniff(name: str, head: bytes) -> bool:
    """A line with an iteration, its training loss and its speed."""
    return holds(PATTERN, head)


def read(name: str, data: bytes) -> Run:
    """The run in a log. Raises Malformed."""
    return stream(name, io.BytesIO(data))


def stream(name: str, file: BinaryIO) -> Run:
    """The same, from a file of any size."""
    return run_of(name, FORMAT, file, _parse)


def _parse(line: str) -> Event | None:
    if row := _ROW.match(line):
        values = {key.lower().replace(" ", "_"): number(value) for key, value in _PAIR.findall(line)}
        return Row(step=int(row[1]), values=values, kind="train" if row[2] == "Train" else "eval")
    if saved := _SAVED.match(line):
        return Saved(int(saved[1]))
    return Restart() if _RESTART.match(line) else None
