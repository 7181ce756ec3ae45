"""The log of Coqui's Trainer: `--> TIME: … -- STEP: i/N -- GLOBAL_STEP: n` and lines `| > loss: value (average)` below it."""

from __future__ import annotations

import re

from modelguard.logs.textlines import NUMBER, Event, Restart, Row, Saved, moment, number

FORMAT = "coqui"
PATTERN = re.compile(rb"--> TIME: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d -- STEP: \d{1,15}/\d{1,15} -- GLOBAL_STEP: \d{1,15}")
MAX_VALUES = 1000  # of one block
_HEADER = re.compile(r"--> TIME: (.{19}) -- STEP: \d{1,15}/\d{1,15} -- GLOBAL_STEP: (\d{1,15})")
_VALUE = re.compile(rf"\s*\| > (\w{{1,80}}): ({NUMBER})(?: |$)")
_SAVED = re.compile(r".{0,400}checkpoint_(\d{1,15})\.pth")
_RESTART = re.compile(r"\s*> Training Environment:")


class Parser:
    """A block is open from its header until a line that is no metric; it then becomes a row."""

    def __init__(self) -> None:
        self._header: re.Match[str] | None = None
        self._values: dict[str, float] = {}

    def __call__(self, line: str) -> Event | None:
        if self._header and (value := _VALUE.match(line)):
            if len(self._values) < MAX_VALUES:
                self._values[value[1]] = number(value[2])
            return None
        header, values = self._header, self._values
        self._header, self._values = _HEADER.search(line, 0, 400), {}
        if header and values:
            return Row(step=int(header[2]), values=values, time=moment(header[1]))
        if "> CHECKPOINT :" in line and (saved := _SAVED.search(line)):
            return Saved(int(saved[1]))
        return Restart() if _RESTART.match(line) else None
