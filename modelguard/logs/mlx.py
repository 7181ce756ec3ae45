"""mlx-lm's console log: `Iter n: Train loss …, Learning Rate …, It/sec …` and `Iter n: Val loss …`."""

from __future__ import annotations

import re

from modelguard.logs.textlines import NUMBER, Event, Restart, Row, Saved, number

FORMAT = "mlx"
PATTERN = re.compile(rb"(?:^|[\r\n\xbf\xfe\xff])Iter \d{1,15}: Train loss [-+.\w]{1,40}, (?:Learning Rate|It/sec) [\d.]")
_ROW = re.compile(r"Iter (\d{1,15}): (Train|Val) loss ")
_PAIR = re.compile(rf"(Train loss|Val loss|Learning Rate|It/sec|Tokens/sec|Trained Tokens|Peak mem) ({NUMBER})")
_SAVED = re.compile(r"Iter (\d{1,15}): Saved adapter weights")
_RESTART = re.compile(r"Starting training\.\.\., iters: \d|Loading pretrained model")


def parse(line: str) -> Event | None:
    """A row of training or of a validation, a checkpoint or a start; None for any other line."""
    if row := _ROW.match(line):
        values = {key.lower().replace(" ", "_"): number(value) for key, value in _PAIR.findall(line)}
        return Row(step=int(row[1]), values=values, kind="train" if row[2] == "Train" else "eval")
    if saved := _SAVED.match(line):
        return Saved(int(saved[1]))
    return Restart() if _RESTART.match(line) else None
