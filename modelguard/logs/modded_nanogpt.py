"""The logs of modded-nanogpt's records: `step:n/N train_loss:… train_time:…` after a copy of the source, and llm.c's `s:n trl:…`."""

from __future__ import annotations

import re

from modelguard.logs.textlines import NUMBER, Event, Row, number

FORMAT = "modded-nanogpt"
PATTERN = re.compile(
    rb"(?:^|[\r\n\xbf\xfe\xff])(?:step:\d{1,15}/\d{1,15} (?:(?:train|val)_loss:[-+.\w]{1,40} )?train_time:[\d.]{1,40}m?s"
    rb"|s:\d{1,15} t[re]l:[-+.\w]{1,40}\r?\n)"
)
_ROW = re.compile(rf"step:(\d{{1,15}})/(\d{{1,15}}) ((?:[a-z_]{{1,40}}:(?:{NUMBER})(?:ms|s)? *){{1,9}})")
_PAIR = re.compile(rf"([a-z_]{{1,40}}):({NUMBER})")
_SHORT = re.compile(rf"s:(\d{{1,15}}) (trl|tel):({NUMBER})\s*$")


def parse(line: str) -> Event | None:
    """A line that is nothing but a step and its metrics as a row; None for any other line, the program's own text among them."""
    if line.startswith("step:") and (row := _ROW.match(line)):
        values = {key: number(value) for key, value in _PAIR.findall(row[3])}
        kind = "eval" if "val_loss" in values else "train"
        return Row(step=int(row[1]), values=values, kind=kind, planned=int(row[2]))
    if line.startswith("s:") and (short := _SHORT.match(line)):
        training = short[2] == "trl"
        name, kind = ("loss", "train") if training else ("eval_loss", "eval")
        return Row(step=int(short[1]), values={name: number(short[3])}, kind=kind)
    return None
