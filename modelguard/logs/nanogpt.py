"""nanoGPT's console log: `iter n: loss …, time …ms, mfu …%` and, at evaluations, `step n: train loss …, val loss …`."""

from __future__ import annotations

import re

from modelguard.logs.textlines import NUMBER, Event, Restart, Row, Saved, number

FORMAT = "nanogpt"
PATTERN = re.compile(rb"(?:^|[\r\n\xbf\xfe\xff])iter \d{1,15}: loss [-+.\w]{1,40}(?: \w{1,12})?, time [\d.]{1,40}ms")
_ROW = re.compile(rf"iter (\d{{1,15}}): loss ({NUMBER})(?: \w{{1,12}})?, time ({NUMBER})ms(?:, mfu ({NUMBER})%)?")
_VALIDATION = re.compile(rf"step (\d{{1,15}}): train loss ({NUMBER})(?: \w{{1,12}})?, val loss ({NUMBER})")
_SAVED = re.compile(r"saving checkpoint to ")
_RESTART = re.compile(r"Resuming training from |Initializing a new model from scratch|Initializing from OpenAI GPT-2")


class Parser:
    """Lines one by one; a checkpoint is saved at the step of the evaluation before it."""

    def __init__(self) -> None:
        self._evaluated = 0

    def __call__(self, line: str) -> Event | None:
        if row := _ROW.match(line):
            values = {"loss": number(row[2]), "time_ms": number(row[3])}
            return Row(step=int(row[1]), values=values | ({"mfu": number(row[4])} if row[4] else {}))
        if check := _VALIDATION.match(line):
            self._evaluated = int(check[1])
            return Row(step=int(check[1]), values={"eval_train_loss": number(check[2]), "val_loss": number(check[3])}, kind="eval")
        if _SAVED.match(line):
            return Saved(self._evaluated)
        return Restart() if _RESTART.match(line) else None
