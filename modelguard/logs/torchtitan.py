"""torchtitan's console log: `step: n  loss: …  grad_norm: …  memory: …  tps: …`, coloured or not, step 1 and then every few."""

from __future__ import annotations

import re

from modelguard.logs.textlines import NUMBER, Event, Restart, Row, Saved, moment, pairs

FORMAT = "torchtitan"
_COLOUR = rb"(?:\x1b\[[0-9;]{0,20}m){0,4}"
PATTERN = re.compile(
    rb"step: {0,9}\d{1,15} {1,9}" + _COLOUR + rb"loss: {0,20}[-+.\w]{1,40} {1,9}" + _COLOUR + rb"(?:grad_norm|memory): {0,20}[\d.]"
)
_ROW = re.compile(r"step: *(\d{1,15}) +loss:")
_PAIR = re.compile(rf"([a-z]\w{{0,40}}): *({NUMBER})")
_VALIDATION = re.compile(rf"validate step: *(\d{{1,15}}) +loss: *({NUMBER})")
_SAVED = re.compile(r"Saving the checkpoint at step (\d{1,15})|[Ss]aved? .{0,80}\bstep-(\d{1,15})\b")
_RESTART = re.compile(r"Starting job:|Training starts at step \d")


def parse(line: str) -> Event | None:
    """A row, a validation's, a checkpoint or a start; None for any other line."""
    if check := _VALIDATION.search(line):
        return Row(step=int(check[1]), values={"validation_loss": float(check[2])}, kind="eval", time=moment(line))
    if row := _ROW.search(line):
        return Row(step=int(row[1]), values=pairs(_PAIR.findall(line, row.end() - len("loss:"))), time=moment(line))
    if saved := _SAVED.search(line):
        return Saved(int(saved[1] or saved[2]))
    return Restart() if _RESTART.search(line) else None
