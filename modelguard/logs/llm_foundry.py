"""Composer's console log, as llm-foundry prints it: `[epoch=1][batch=100/4800]:` and indented `Train time/batch: …` lines."""

from __future__ import annotations

import re

from modelguard.logs.textlines import NUMBER, Event, Restart, Row, number

FORMAT = "composer"
PATTERN = re.compile(rb"\[batch=\d{1,15}(?:/\d{1,15})?\]:[ \t]{0,9}\r?\n[^\n]{0,40}(?:Train|Eval) [\w/.\-]{1,120}: ")
MAX_VALUES = 1000  # of one block
_HEADER = re.compile(r"(?:\[epoch=(\d{1,9})(?:/\d{1,9})?\])?\[batch=(\d{1,15})(?:/(\d{1,15}))?\]:")
_VALUE = re.compile(rf"\s*(Train|Eval) ([\w/.\- ]{{1,120}}): ({NUMBER})\s*$")
_RESTART = re.compile(r"\s*(?:Building trainer|Starting training|Logging config)\b")


class Parser:
    """A block is open from its header until a line that is no metric; it then becomes a row."""

    def __init__(self) -> None:
        self._header: re.Match[str] | None = None
        self._values: dict[str, float] = {}
        self._kind = "train"

    def __call__(self, line: str) -> Event | None:
        if self._header and (value := _VALUE.match(line)):
            self._kind = "eval" if value[1] == "Eval" else self._kind
            if len(self._values) < MAX_VALUES:
                self._values[value[2] if value[1] == "Train" else f"eval/{value[2]}"] = number(value[3])
            return None
        row = self._close()
        self._header = _HEADER.search(line, 0, 200)
        return row or (Restart() if _RESTART.match(line) else None)

    def _close(self) -> Row | None:
        """The row of the block that ends here; its step is the count of batches that it names, else that of its header."""
        header, values, kind = self._header, self._values, self._kind
        self._header, self._values, self._kind = None, {}, "train"
        if header is None or not values:
            return None
        epoch = float(header[1]) if header[1] else None
        return Row(step=int(header[2]), values=values, kind=kind, epoch=epoch, planned=int(header[3] or 0) if epoch in (None, 1.0) else 0)
