"""From exact tests to a relation. Nothing here is decided by a raw cosine, and `unrelated` is earned, never read off a large p."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log10

from modelguard.checkpoints.base import Checkpoint
from modelguard.fingerprint import weight_tests as tests
from modelguard.fingerprint.blocks import Block
from modelguard.fingerprint.controls import CONTROLS, made_by
from modelguard.fingerprint.matching import log10_tail
from modelguard.types.weights import NullTest, Relation

MIN_DERIVED = 2  # blocks on which independence must be refuted
MIN_NULL = 3  # blocks on which every test must be silent, and must have been able to speak, before a relation is denied
MAX_CONTROLS = 6  # blocks on which positive controls are made

ControlResults = Mapping[str, Mapping[str, float]]  # control -> method -> log10 p


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTests:
    """What the tests gave on one block, and on the positive controls that were made for it."""

    block: Block
    results: tuple[NullTest, ...]
    controls: ControlResults

    @property
    def best(self) -> NullTest:
        return min(self.results, key=lambda result: result.log10_p_adjusted)

    @property
    def score(self) -> float:
        """Share of what was tested that is at its own place, by the best test."""
        return self.best.statistic / self.best.n

    def fired(self, alpha: float) -> bool:
        """Whether a test refutes independence on this block after correction."""
        return self.best.log10_p_adjusted <= log10(alpha)

    def could_speak(self, threshold: float) -> bool:
        """Whether T1 and T3 both fire on every positive control of this block."""
        values = [control[method] for control in self.controls.values() for method in (tests.T1, tests.T3)]
        return bool(values) and max(values) <= threshold


def examine_blocks(left: Checkpoint, right: Checkpoint, blocks: Sequence[Block], alpha: float) -> tuple[BlockTests, ...]:
    """The tests of every block, corrected over all of them (Holm): T1 and T3 first, T2 where those are silent, then the controls."""
    raw = [_tests(left, right, block, log10(alpha)) for block in blocks]
    adjusted = iter(holm([result for results in raw for result in results]))
    examined = [
        BlockTests(block=block, results=tuple(next(adjusted) for _ in results), controls={})
        for block, results in zip(blocks, raw, strict=True)
    ]
    silent = [place for place, item in enumerate(examined) if not item.fired(alpha)]
    for place in spread(silent, MAX_CONTROLS):
        examined[place] = replace(examined[place], controls=_controls(left, right, examined[place].block))
    return tuple(examined)


def spread(places: Sequence[int], most: int) -> list[int]:
    """At most `most` of the places, evenly over all of them, first and last included."""
    if len(places) <= most:
        return list(places)
    return [places[round(step * (len(places) - 1) / (most - 1))] for step in range(most)]


def holm(results: Sequence[NullTest]) -> list[NullTest]:
    """The results with p-values adjusted over all of them (Holm 1979), in their order."""
    order = sorted(range(len(results)), key=lambda place: results[place].log10_p)
    adjusted, worst = [0.0] * len(results), -float("inf")
    for rank, place in enumerate(order):
        worst = max(worst, min(0.0, results[place].log10_p + log10(len(results) - rank)))
        adjusted[place] = worst
    return [replace(result, log10_p_adjusted=value) for result, value in zip(results, adjusted, strict=True)]


def relation_of(examined: Sequence[BlockTests], alpha: float, disguise_possible: str) -> tuple[Relation, str]:
    """The relation, and why it is inconclusive when it is. `disguise_possible` names a hint at a disguise, "" when there is none."""
    fired = sum(item.fired(alpha) for item in examined)
    if fired >= MIN_DERIVED:
        return Relation.DERIVED, ""
    threshold = control_threshold(examined, alpha)
    able = sum(item.could_speak(threshold) for item in examined)
    controlled = sum(bool(item.controls) for item in examined)
    if not examined:
        return Relation.INCONCLUSIVE, "no layer has a matrix of hidden units that both checkpoints share"
    if fired:
        return Relation.INCONCLUSIVE, f"independence is refuted on one block only, {MIN_DERIVED} are needed"
    if not all(item.block.named for item in examined):
        return Relation.INCONCLUSIVE, "no names align, and layers that are paired by their order alone deny nothing"
    if disguise_possible:
        return Relation.INCONCLUSIVE, disguise_possible
    if able < MIN_NULL or 2 * able < controlled:
        why = f"the tests speak on the positive controls of {able} of {controlled} blocks; {MIN_NULL}, and half of them, are needed"
        return Relation.INCONCLUSIVE, why
    return Relation.UNRELATED, ""


def control_threshold(examined: Sequence[BlockTests], alpha: float) -> float:
    """The log10 p at which a single result would have survived the correction."""
    return log10(alpha) - log10(max(1, sum(len(item.results) for item in examined)))


def _tests(left: Checkpoint, right: Checkpoint, block: Block, threshold: float) -> tuple[NullTest, ...]:
    units = tests.sample(left, right, block)
    results = (_result(tests.T1, block, *tests.t1(units)), _result(tests.T3, block, *tests.t3(units)))
    if min(result.log10_p for result in results) <= threshold or block.kernel > 1:
        return results
    ours, theirs = tests.axis_profiles(left, block.left, block), tests.axis_profiles(right, block.right, block)
    return (*results, _result(tests.T2, block, *tests.t2(ours, theirs)))


def _result(method: str, block: Block, fixed: int, n: int) -> NullTest:
    chosen = f"; the best of {block.candidates} layers" if block.candidates > 1 else ""
    return NullTest(
        method=method,
        block=block.layer,
        statistic=float(fixed),
        n=n,
        log10_p=min(0.0, log10_tail(fixed) + log10(block.candidates)),
        log10_p_adjusted=0.0,
        null=tests.ASSUMPTION[method],
        note=f"{fixed} of {n} at their own place, 1 expected by chance" + chosen,
    )


def _controls(left: Checkpoint, right: Checkpoint, block: Block) -> ControlResults:
    """log10 p of T1 and T3 on every positive control of a block."""
    units = tests.sample(left, right, block)
    made = ((name, tests.Sample(made_by(control, units.right, units.left), units.right)) for name, control in CONTROLS.items())
    return {name: {tests.T1: log10_tail(tests.t1(sample)[0]), tests.T3: log10_tail(tests.t3(sample)[0])} for name, sample in made}
