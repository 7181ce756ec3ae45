"""What `compare` says of one pair, and whether that is right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.zoo import field
from benchmarks.zoo.pairs import Pair, controls
from benchmarks.zoo.training import trained
from modelguard.fingerprint.compare import compare
from modelguard.types.weights import Comparison, Relation
from tests.fingerprint.zoo import Arrays

RELATED = (Relation.IDENTICAL, Relation.SAME_WEIGHTS, Relation.DERIVED)
CARRYING = ("identical", "same-weights", "derived", "same", "cast", "permuted")  # relations of a layer that has something of the right side
WITHIN = 0.02  # of a merge's coefficient


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One pair by its place in the list, with all that the tables need of the comparison."""

    place: int
    relation: Relation
    kinds: tuple[str, ...]
    basis: str
    direction: str
    log10_p: float
    share: float | None  # T4's share of units that agree, where it was looked at
    carrying: tuple[str, ...]  # layers that carry something of the right side
    coefficient: float | None  # of the merge that was told
    bounded: bool  # whether a limit of what could be seen is stated
    columns: Mapping[str, float | None]
    statistics: tuple[tuple[str, float], ...]  # (method, fixed points) of every block


def outcome(place: int, pair: Pair, part: str) -> Outcome:
    """Compares that pair, with controls, and with the parent of both where the two are siblings."""
    left, right = pair.left(), pair.right()
    independent = [Arrays(trained(recipe), recipe.name) for recipe in controls(pair, part)]
    parents = [Arrays(trained(recipe), recipe.name) for recipe in pair.models] if pair.group == "siblings" else []
    result = compare(Arrays(left, pair.names[0]), Arrays(right, pair.names[1]), controls=independent, candidates=parents)
    return Outcome(
        place=place,
        relation=result.relation,
        kinds=result.kinds,
        basis=str(result.basis),
        direction=result.direction,
        log10_p=result.log10_p,
        share=_share(result),
        carrying=tuple(layer.name for layer in result.layers if layer.relation in CARRYING),
        coefficient=_coefficient(result),
        bounded=any(not power.detectable for power in result.power),
        columns=field.columns(pair.family, left, right),
        statistics=tuple((item.method, item.statistic) for item in result.evidence),
    )


def called_rightly(pair: Pair, result: Outcome) -> bool:
    """Whether the relation is one of the true ones; `unrelated` of what cannot be seen has to name a limit."""
    if pair.group == "blind" and result.relation is Relation.UNRELATED and not result.bounded:
        return False
    direction = pair.cell.direction if pair.cell else ""
    return result.relation in pair.relations and (not direction or result.direction == direction)


def kinds_rightly(pair: Pair, result: Outcome) -> bool | None:
    """Whether the kinds are the true ones; None where they are not judged."""
    if pair.cell is None or pair.cell.kinds is None or pair.group != "plain":
        return None
    told, needed = set(result.kinds), set(pair.cell.kinds)
    return needed <= told <= needed | set(pair.cell.allowed)


def coefficient_rightly(pair: Pair, result: Outcome) -> bool | None:
    """Whether a merge's coefficient is within 0.02 of the truth; None where there is none to tell."""
    if pair.cell is None or pair.cell.coefficient is None:
        return None
    return result.coefficient is not None and abs(result.coefficient - pair.cell.coefficient) <= WITHIN


def layers_rightly(pair: Pair, result: Outcome) -> bool | None:
    """Whether exactly the layers that come from the base are named; None where all or none do."""
    if pair.cell is None or pair.cell.layers is None:
        return None
    numbers = sorted(int(match[1]) for name in result.carrying if (match := re.search(r"\.(\d+)$", name)))
    return numbers == list(range(pair.cell.layers))


def _share(result: Comparison) -> float | None:
    told = [item.statistic for item in result.evidence if item.method.startswith("t4")]
    if told:
        return max(told)
    found = (re.search(r"T4: ([0-9.]+)%", power.how) for power in result.power)
    return next((float(match[1]) / 100 for match in found if match), None)


def _coefficient(result: Comparison) -> float | None:
    numbers = [detail.numbers for detail in result.details if detail.kind == "merged"]
    told = [value for item in numbers for name, value in sorted(item.items()) if name.startswith("coefficient")]
    return float(told[0]) if told else None
