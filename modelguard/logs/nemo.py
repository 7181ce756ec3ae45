"""NeMo 2's progress lines: `Training epoch e, iteration n/N | lr: … | global_step: … | reduced_train_loss: …`."""

from __future__ import annotations

import re

from modelguard.logs.textlines import Event, Restart, Row, Saved, cells, moment

FORMAT = "nemo"
PATTERN = re.compile(rb"Training epoch \d{1,9}, iteration \d{1,15}/\d{1,15} \|")
_ROW = re.compile(r"Training epoch (\d{1,9}), iteration (\d{1,15})/(\d{1,15}) \|")
_SAVED = re.compile(r"[Cc]heckpoint save for step (\d{1,15})\b|Saved checkpoint .{0,400}-step=(\d{1,15})")
_RESTART = re.compile(r"Experiments will be logged at|Restored all states from the checkpoint|Initializing distributed: GLOBAL_RANK: 0")


def parse(line: str) -> Event | None:
    """A row, whose step is the global one where the line names it, a checkpoint or a start; None for any other line."""
    if row := _ROW.search(line):
        values = cells(line[row.end() :])
        step = values.pop("global_step", float(row[2]))
        planned = int(row[3]) + 1 if step == float(row[2]) else 0  # iterations are counted from 0, and within an epoch
        if not 0 <= step < 1e15 or step != int(step):
            return None
        return Row(step=int(step), values=values, epoch=float(row[1]), time=moment(line[: row.start()]), planned=planned)
    if saved := _SAVED.search(line):
        return Saved(int(saved[1] or saved[2]))
    return Restart() if _RESTART.search(line) else None
