"""The zoo is as large and as clean as its numbers need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.zoo.pairs import controls, pairs
from benchmarks.zoo.population import INDEPENDENT, LLAMAS

ROOT = Path(__file__).parents[2]


def test_no_pair_is_its_own_control() -> None:
    for pair in pairs():
        assert not set(controls(pair, "all")) & set(pair.models), pair.names
    llamas = [pair for pair in pairs() if pair.family == "llama" and pair.models[-1] in LLAMAS]
    assert min(len(controls(pair, "all")) for pair in llamas) >= 19


def test_the_zoo_is_as_large_as_its_numbers_need() -> None:
    unrelated = [pair for pair in pairs() if pair.group == "unrelated"]
    assert len(unrelated) >= 500
    assert len({recipe for pair in unrelated for recipe in pair.models}) >= 35
    assert len(set(INDEPENDENT)) == len({(recipe.family, recipe.seed) for recipe in INDEPENDENT})
    counts: dict[str, int] = {}
    for pair in pairs():
        if pair.cell and "split" not in pair.truth:
            counts[pair.truth] = counts.get(pair.truth, 0) + 1
    assert min(counts.values()) >= 20


def test_names_tell_pairs_apart() -> None:
    names = [(pair.truth, *pair.names) for pair in pairs()]
    assert len(set(names)) == len(names)


def test_the_command_says_what_it_does() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "benchmarks.zoo", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert "--part {smoke,all}" in help_text
