"""Mixtures of experts whose experts started as a dense model's MLP, or as pieces of it.

Experts are exchangeable, so no expert has a dense counterpart of its own number: each is held against the dense units of its layer, and the
best is paid for by the number of experts. Experts as wide as the dense MLP are tested by T1, narrower ones (cut out of it, as in
LLaMA-MoE) by the order of their units' partners (widths.py), and where that is silent by T2, which needs no order.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log10

import numpy as np

from modelguard.checkpoints.base import Checkpoint, TensorInfo
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.correspondence.layouts import Made, Part, View
from modelguard.correspondence.roles import Place, located, paired_places
from modelguard.fingerprint import weight_tests as tests
from modelguard.fingerprint.blocks import MIN_UNITS, Block, layer_of, natural, unit_matrices, units_of
from modelguard.fingerprint.matching import log10_tail
from modelguard.fingerprint.widths import Uneven, axes_alike, ordered, tested_and_candidates
from modelguard.types.weights import KindDetail, NullTest

MOST_EXPERTS = 512  # of a layer
MIN_LAYERS = 2  # on which the relation must show
STACKED = re.compile(r"experts\.(gate_up_proj|up_proj|gate_proj|w1|w3|up|gate)(\.weight)?$")
SINGLE = re.compile(r"experts\.(\d+)\.(.+)\.weight$")
DENSE = ("up", "gate", "gate_up")


@dataclass(frozen=True, slots=True)
class Upcycling:
    """The tests of every layer with experts, uncorrected, and the kind where it shows on enough layers."""

    results: tuple[NullTest, ...]
    kind: KindDetail | None


def examine_upcycling(left: Checkpoint, right: Checkpoint, alpha: float) -> Upcycling:
    """Holds the experts of `left` against the dense MLPs of `right`, layer by layer."""
    experts, dense = _experts(left), {located(info.name)[0]: info for info in unit_matrices(right).values()}
    dense = {place: info for place, info in dense.items() if "experts" not in info.name}
    counterparts = {other: place for place, other in paired_places(experts, dense).items()}
    layers = [(place, experts[place], dense[counterparts[place]]) for place in sorted(experts) if place in counterparts]
    results = [_layer(left, right, place, matrices, info) for place, matrices, info in layers]
    found = tuple(result for result in results if result is not None)
    fired = [result for result in found if result.log10_p + log10(max(1, len(found))) <= log10(alpha)]
    return Upcycling(found, _kind(fired, found, experts) if len(fired) >= min(MIN_LAYERS, len(found)) and fired else None)


def _kind(fired: Sequence[NullTest], found: Sequence[NullTest], experts: Mapping[Place, Sequence[Made | str]]) -> KindDetail:
    count = max(len(matrices) for matrices in experts.values())
    text = f"experts of {len(fired)} of {len(found)} layers hold the units of the other side's dense MLP"
    return KindDetail(kind="upcycled", text=text, numbers={"layers": len(fired), "of": len(found), "experts": count})


def _layer(left: Checkpoint, right: Checkpoint, place: Place, matrices: Sequence[Made | str], dense: TensorInfo) -> NullTest | None:
    """The best of a layer's experts against its dense units; None where no expert has units of that width."""
    label = f"{place.stack}.{place.number}"
    made = {f"expert.{number}": item for number, item in enumerate(matrices)}
    view = View(left, {name: item for name, item in made.items() if isinstance(item, str)}, _only_made(made))
    results = [result for name in made if (result := _expert(view, right, name, dense, label)) is not None]
    if not results:
        return None
    best = min(results, key=lambda result: result.log10_p)
    value = min(0.0, best.log10_p + log10(len(results)))
    return replace(best, log10_p=value, log10_p_adjusted=value, note=f"{best.note}; the best of {len(results)} experts")


def _only_made(made: Mapping[str, Made | str]) -> dict[str, Made]:
    return {name: item for name, item in made.items() if isinstance(item, Made)}


def _expert(view: View, right: Checkpoint, name: str, dense: TensorInfo, label: str) -> NullTest | None:
    info = view.tensors[name]
    units, theirs = info.shape[0], units_of(dense)
    if info.shape[1] != dense.shape[1] or min(units, theirs) < MIN_UNITS or units > theirs:
        return None
    if units == theirs:
        block = Block(layer=label, matched=layer_of(dense.name), left=name, right=dense.name, units=units, width=info.shape[1])
        fixed, count = tests.t1(tests.sample(view, right, block))
        note = f"{fixed} of {count} at their own place, 1 expected by chance"
        return _result(label, fixed, count, note)
    uneven = Uneven(label, name, dense.name, (units, theirs), (info.shape[1], dense.shape[1]))
    by_order = ordered(label, *tested_and_candidates(view, right, uneven), choices=2)
    by_axes = axes_alike(view, right, uneven)
    by_axes = replace(by_axes, log10_p=min(0.0, by_axes.log10_p + log10(2)), note=f"{by_axes.note}; the better of 2 tests")
    return min((by_order, by_axes), key=lambda result: result.log10_p)


def _result(label: str, fixed: int, count: int, note: str) -> NullTest:
    tail = log10_tail(fixed)
    return NullTest(
        method=tests.T1,
        block=label,
        statistic=float(fixed),
        n=count,
        log10_p=tail,
        log10_p_adjusted=tail,
        null=tests.ASSUMPTION[tests.T1],
        note=note,
    )


def _experts(checkpoint: Checkpoint) -> dict[Place, list[Made | str]]:
    """The unit matrices (units, width) of every layer's experts: tensors by name, or slices of stacked ones. One matrix an expert."""
    found: dict[Place, list[tuple[tuple[int, str], Made | str]]] = defaultdict(list)
    for name in sorted(checkpoint.tensors, key=natural):
        place, info = located(name)[0], checkpoint.tensors[name]
        if info.dtype not in FLOATING or place.number < 0:
            continue
        found[place] += _single(name, info) if len(info.shape) == 2 else _stacked(checkpoint, name, info)
    return {place: _one_each(items) for place, items in found.items() if items}


def _one_each(items: Sequence[tuple[tuple[int, str], Made | str]]) -> list[Made | str]:
    """One matrix of every expert: the first role of `DENSE` that it has."""
    chosen: dict[int, tuple[int, Made | str]] = {}
    for (number, role), item in items:
        rank = DENSE.index(role)
        if number not in chosen or rank < chosen[number][0]:
            chosen[number] = (rank, item)
    return [chosen[number][1] for number in sorted(chosen)][:MOST_EXPERTS]


def _single(name: str, info: TensorInfo) -> Iterator[tuple[tuple[int, str], str]]:
    match = SINGLE.search(name)
    role = located(name)[1].module.rpartition(".")[2]
    if match and role in DENSE and info.shape[0] != info.shape[1]:
        yield (int(match[1]), role), name


def _stacked(checkpoint: Checkpoint, name: str, info: TensorInfo) -> Iterator[tuple[tuple[int, str], Made]]:
    """Slices of a tensor (experts, units, width) or (experts, width, units): the residual width tells which; gate and up are cut apart."""
    match = STACKED.search(name)
    if not match or len(info.shape) != 3 or not info.entries or info.shape[0] > MOST_EXPERTS:
        return
    experts, first, second = info.shape
    width = _stream(checkpoint)
    turned = first == width and second != width
    if not turned and second != width:
        return
    halves = 2 if "gate_up" in match[1] else 1
    units = (second if turned else first) // halves
    for expert in range(experts):
        if turned:  # a line holds one half of the units, and every other line is the other half
            places = halves * np.arange(expert * first, (expert + 1) * first, dtype=np.intp)
        else:
            places = np.arange(expert * first, expert * first + units, dtype=np.intp)
        yield (expert, "up"), Made(parts=(Part(source=name, places=places),), shape=(units, width), turned=turned)


def _stream(checkpoint: Checkpoint) -> int:
    """The residual width: that of the token table, or of the last norm."""
    for name in sorted(checkpoint.tensors):
        place, role = located(name)
        if place.number < 0 and role.module in ("tokens", "last norm") and checkpoint.tensors[name].shape:
            return checkpoint.tensors[name].shape[-1]
    return 0
