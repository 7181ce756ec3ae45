"""Forged logs are found, honest ones are not: the table of forgery × format, and what it must reach."""

from __future__ import annotations

import random
import sys

import pytest

from tests.logs.forgeries import FORGERIES, FORMATS, honest
from tests.logs.forgery_table import CORPUS_FORMAT, detected, files, measure, printed

LEAST = 0.95
# forgery -> the formats in which at least 95 % must be found; what stands nowhere is printed as it is
DEMANDED = {
    "cut_stretch": {CORPUS_FORMAT, *FORMATS},
    "cut_tail": {CORPUS_FORMAT, *FORMATS},
    "duplicated_stretch": {CORPUS_FORMAT, *FORMATS},
    "spliced_run": {CORPUS_FORMAT, *FORMATS},
    "edited_losses": {CORPUS_FORMAT, *FORMATS} - {"csv"},  # a CSV has no totals
    "rewritten_learning_rate": {CORPUS_FORMAT, *FORMATS},
}


@pytest.mark.slow
def test_the_table_of_forgeries() -> None:
    table = measure()
    sys.stdout.write(printed(table) + "\n")
    assert all(hits == 0 for hits, _ in table["nothing"].values())
    demanded = {(name, form): table[name][form] for name, forms in DEMANDED.items() for form in forms}
    short = {pair: (hits, tried) for pair, (hits, tried) in demanded.items() if hits < LEAST * tried}
    assert not short
    assert all(tried >= 15 for row in table.values() for _, tried in row.values())


@pytest.mark.parametrize("form", FORMATS)
def test_one_log_of_each_forgery(form: str) -> None:
    decimals = FORMATS[form][2]
    log, other = honest(7, decimals=decimals), honest(1007, decimals=decimals)
    for forgery in FORGERIES:
        found = detected(files(form, forgery(log, other, random.Random(3)), log, other, forgery))
        if form in DEMANDED.get(forgery.__name__, ()):
            assert found, forgery.__name__
        if forgery.__name__ == "nothing":
            assert not found
