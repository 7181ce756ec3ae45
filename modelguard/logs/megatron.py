"""The console log of Megatron-LM and its kin (Megatron-DeepSpeed, GPT-NeoX): `iteration i/ N | … | lm loss: …`."""

from __future__ import annotations

import re

from modelguard.logs.textlines import Event, Restart, Row, Saved, cells, moment, number

FORMAT = "megatron"
PATTERN = re.compile(rb"iteration {1,20}\d{1,15}/ {0,20}\d{1,15} \| {1,20}(?:consumed (?:train )?samples|elapsed time per iteration)")
_ROW = re.compile(r"(?<!at )iteration +(\d{1,15})/ *(\d{1,15}) \|")
_VALIDATION = re.compile(r"validation loss at iteration +(\d{1,15})(?: on [\w ]{1,30})? *\|")
_SAVED = re.compile(r"saving checkpoint at iteration +(\d{1,15})|Saved checkpoint +Iteration: *(\d{1,15})")
_RESTART = re.compile(r"using world size: *\d|initializing torch distributed|loading checkpoint from .{1,400} at iteration")
_NAMES = {"lm loss": "loss", "lm_loss": "loss"}


def parse(line: str) -> Event | None:
    """A row with its steps and numbers, a validation's, a checkpoint or a start; None for any other line."""
    if "iteration" not in line.lower() and "world size" not in line and "torch distributed" not in line:
        return None
    if row := _ROW.search(line):
        values = {_NAMES.get(key, key): value for key, value in cells(line[row.end() :]).items()}
        return Row(step=int(row[1]), values=values, time=moment(line), planned=int(row[2]))
    if check := _VALIDATION.search(line):
        values = {f"validation {key}": value for key, value in cells(line[check.end() :]).items()}
        return Row(step=int(check[1]), values=values, kind="eval", time=moment(line))
    if saved := _SAVED.search(line):
        return Saved(int(number(saved[1] or saved[2])))
    return Restart() if _RESTART.search(line) else None
