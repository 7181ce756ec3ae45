"""Which rearrangements are worth a try: candidates from roles, layer numbers and shapes, before any weight is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from modelguard.checkpoints.base import Checkpoint
from modelguard.correspondence.alignment import Alignment
from modelguard.correspondence.layouts import Made, Part
from modelguard.correspondence.orders import Order, fusings, inverse, rotary
from modelguard.correspondence.roles import FUSED, Role, by_role, paired_places

KINDS = ("weight", "bias")
Names = Mapping[Role, str]


@dataclass(frozen=True, slots=True)
class Option:
    """One way to make some tensors of the right side's names and shapes."""

    text: str
    made: Mapping[str, Made]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Tensors to make, and the ways to make them; `optional` where the first way is to leave them as they are."""

    kind: str
    options: tuple[Option, ...]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer on both sides by role, and the names that found no partner."""

    left: Checkpoint
    right: Checkpoint
    ours: Names
    theirs: Names
    strays: tuple[frozenset[str], frozenset[str]]

    def stray(self, module: str, kind: str) -> tuple[str, str]:
        """The names of a role on both sides that found no partner, "" where there is none."""
        ours, theirs = self.ours.get(Role(module, kind), ""), self.theirs.get(Role(module, kind), "")
        return ours if ours in self.strays[0] else "", theirs if theirs in self.strays[1] else ""


def jobs_of(left: Checkpoint, right: Checkpoint, alignment: Alignment) -> tuple[Job, ...]:
    """Every rearrangement that roles and shapes allow, layer by layer."""
    ours, theirs = by_role(left.tensors), by_role(right.tensors)
    strays = frozenset(alignment.only_left), frozenset(alignment.only_right)
    found = []
    for place, other in sorted(paired_places(ours, theirs).items()):
        layer = _Layer(left, right, ours[other], theirs[place], strays)
        changed = [*_renamed(layer), *_fused(layer)]
        found += [*changed, *_reordered(layer, dict(alignment.pairs))]
        if any("transposed" in option.text for job in changed for option in job.options):
            found += _turned_squares(layer, dict(alignment.pairs))
    return tuple(found)


def _renamed(layer: _Layer) -> Iterator[Job]:
    """Tensors of one role under other names, or transposed. A square matrix may be either: its lines decide."""
    for role in sorted(layer.theirs, key=lambda role: (role.module, role.kind)):
        ours, theirs = layer.stray(role.module, role.kind)
        if not ours or not theirs:
            continue
        shape, wanted = layer.left.tensors[ours].shape, layer.right.tensors[theirs].shape
        plain = Option("the same role under another name", {theirs: Made(parts=(Part(source=ours),), shape=wanted)})
        turned = Option("transposed", {theirs: Made(parts=(Part(source=ours, turned=True),), shape=wanted)})
        if shape == wanted:
            inside = len(shape) == 2 and shape[0] == shape[1] and role.module not in ("tokens", "head", "positions")
            yield Job(kind=f"{role.module} {role.kind}", options=(plain, turned) if inside else (plain,))
        elif len(shape) == 2 and shape[::-1] == wanted:
            yield Job(kind=f"{role.module} {role.kind} transposed", options=(turned,))


def _fused(layer: _Layer) -> Iterator[Job]:
    for whole, parts in FUSED.items():
        ours, theirs = layer.stray(whole, "weight")
        one, many = (ours, [layer.stray(part, "weight")[1] for part in parts]), (theirs, [layer.stray(part, "weight")[0] for part in parts])
        if one[0] and all(one[1]):
            yield from _cut(layer, whole, parts)
        elif many[0] and all(many[1]):
            yield from _joined(layer, whole, parts)


def _cut(layer: _Layer, whole: str, parts: Sequence[str]) -> Iterator[Job]:
    """The parts on the right, cut from one matrix on the left."""
    weights = [layer.right.tensors[layer.stray(part, "weight")[1]] for part in parts]
    sizes, width = [info.shape[0] for info in weights], weights[0].shape[1:]
    shape = layer.left.tensors[layer.stray(whole, "weight")[0]].shape
    if any(info.shape[1:] != width for info in weights) or shape not in ((sum(sizes), *width), (*width, sum(sizes))):
        return
    turned = shape != (sum(sizes), *width)
    options = []
    for order in fusings(sizes):
        made: dict[str, Made] = {}
        for kind in KINDS:
            source, offset = layer.stray(whole, kind)[0], 0
            for part, size in zip(parts, sizes, strict=True):
                name = layer.stray(part, kind)[1]
                places = order.places[offset : offset + size]
                offset += size
                if source and name and _length(layer.left, source, turned and kind == "weight") == sum(sizes):
                    item = Part(source=source, places=places, turned=turned and kind == "weight")
                    made[name] = Made(parts=(item,), shape=layer.right.tensors[name].shape)
        options.append(Option(f"{', '.join(parts)} cut from one {'transposed ' if turned else ''}matrix, {order.text}", made))
    yield Job(kind=f"{whole} cut", options=tuple(options))


def _joined(layer: _Layer, whole: str, parts: Sequence[str]) -> Iterator[Job]:
    """One matrix on the right, joined from the parts on the left."""
    weights = [layer.left.tensors[layer.stray(part, "weight")[0]] for part in parts]
    sizes, width = [info.shape[0] for info in weights], weights[0].shape[1:]
    shape = layer.right.tensors[layer.stray(whole, "weight")[1]].shape
    same = all(info.shape[1:] == width and info.dtype == weights[0].dtype for info in weights)
    if not same or shape not in ((sum(sizes), *width), (*width, sum(sizes))):
        return
    turned = shape != (sum(sizes), *width)
    options = []
    for order in fusings(sizes):
        made: dict[str, Made] = {}
        for kind in KINDS:
            name, sources = layer.stray(whole, kind)[1], [layer.stray(part, kind)[0] for part in parts]
            if name and all(sources) and [_length(layer.left, source, False) for source in sources] == sizes:
                joined = tuple(_interleaved(sources, sizes, order))
                made[name] = Made(parts=joined, shape=layer.right.tensors[name].shape, turned=turned and kind == "weight")
        options.append(Option(f"{', '.join(parts)} joined to one {'transposed ' if turned else ''}matrix, {order.text}", made))
    yield Job(kind=f"{whole} joined", options=tuple(options))


def _interleaved(sources: Sequence[str], sizes: Sequence[int], order: Order) -> Iterator[Part]:
    """The parts' lines in the order of the fused matrix, as stretches that belong to one part each."""
    lines, start = inverse(order.places), 0
    starts = [sum(sizes[:part]) for part in range(len(sizes))]
    owner = [sum(line >= first for first in starts[1:]) for line in lines.tolist()]
    for place in range(1, len(lines) + 1):
        if place == len(lines) or owner[place] != owner[start]:
            yield Part(source=sources[owner[start]], places=lines[start:place] - starts[owner[start]])
            start = place


def _reordered(layer: _Layer, pairs: Mapping[str, str]) -> Iterator[Job]:
    """Aligned matrices whose lines may stand in another order: rotary pairs of queries and keys, fused ones stacked or interleaved.

    Queries and keys are reordered alike or not at all: one of them alone would be another function.
    """
    for modules in (("q", "k"), ("qkv",), ("gate_up",)):
        names = [layer.ours.get(Role(module, "weight"), "") for module in modules]
        aligned = all(name in pairs for name in names)
        if not aligned or [pairs[name] for name in names] != [layer.theirs.get(Role(module, "weight")) for module in modules]:
            continue
        lines = [layer.left.tensors[name].shape[0] for name in names]
        ways = _rotaries(lines) if len(modules) > 1 else [(order,) for order in _refusings(layer, modules[0], lines[0])]
        if ways:
            plain = Option("as it is", _taken(layer, pairs, dict.fromkeys(modules)))
            text = " and ".join(modules)
            options = (Option(f"{text}: {way[0].text}", _taken(layer, pairs, dict(zip(modules, way, strict=True)))) for way in ways)
            yield Job(kind=f"{text} reordered", options=(plain, *options), optional=True)


def _turned_squares(layer: _Layer, pairs: Mapping[str, str]) -> Iterator[Job]:
    """Aligned square matrices of a layer whose other matrices are transposed: their shape does not tell whether they are too."""
    for role, name in sorted(layer.ours.items(), key=lambda item: item[1]):
        shape = layer.left.tensors[name].shape
        if len(shape) == 2 and shape[0] == shape[1] and name in pairs:
            ways = (("as it is", False), ("transposed", True))
            options = (Option(text, {pairs[name]: Made(parts=(Part(source=name, turned=turned),), shape=shape)}) for text, turned in ways)
            yield Job(kind=f"{role.module} {role.kind} turned", options=tuple(options), optional=True)


def _rotaries(lines: Sequence[int]) -> list[tuple[Order, ...]]:
    """The reorderings that all matrices of so many lines can undergo together, one order each."""
    known = [{order.text: order for order in rotary(count)} for count in lines]
    return [tuple(orders[text] for orders in known) for text in known[0] if all(text in orders for orders in known)]


def _refusings(layer: _Layer, module: str, lines: int) -> tuple[Order, ...]:
    """From stacked to every other way of fusing, and back."""
    sizes = [lines // 2] * 2
    if module == "qkv":
        out = layer.ours.get(Role("o", "weight"), "")
        queries = layer.left.tensors[out].shape[1] if out and len(layer.left.tensors[out].shape) == 2 else lines // 3
        sizes = [queries, (lines - queries) // 2, (lines - queries) // 2]
    if sum(sizes) != lines or min(sizes) < 1:
        return ()
    ways = fusings(sizes)[1:]
    there = (Order(f"{way.text}, from stacked", inverse(way.places)) for way in ways)
    return (*there, *(Order(f"stacked, from {way.text}", way.places) for way in ways))


def _taken(layer: _Layer, pairs: Mapping[str, str], orders: Mapping[str, Order | None]) -> dict[str, Made]:
    """The weights and biases of these modules with their lines in that order."""
    made = {}
    for module, order in orders.items():
        for name in (layer.ours.get(Role(module, kind), "") for kind in KINDS):
            if name in pairs and (order is None or layer.left.tensors[name].shape[0] == len(order.places)):
                part = Part(source=name, places=None if order is None else order.places)
                made[pairs[name]] = Made(parts=(part,), shape=layer.left.tensors[name].shape)
    return made


def _length(checkpoint: Checkpoint, name: str, turned: bool) -> int:
    shape = checkpoint.tensors[name].shape
    return shape[1] if turned and len(shape) == 2 else shape[0] if shape else 1
