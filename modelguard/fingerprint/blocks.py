"""Where the exact tests look: matrices whose rows are the hidden units of one layer.

The units of an MLP are exchangeable: they are initialised alike, and training does not know their order. A matrix qualifies by its
shape, (units, width) with a partner (width, units) in the same layer, so that names are only needed to leave attention out and to
choose among several candidates. One matrix a layer: gate, up and down share one order of units and would not be independent.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from modelguard.checkpoints.base import Checkpoint, TensorInfo
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.correspondence.alignment import Alignment

ATTENTION = re.compile(r"attn|attention|query|key|value|[._](q|k|v|o|qkv)(_proj)?[._]", re.IGNORECASE)
PREFERENCE = ("up_proj", "fc1", "intermediate", "wi", "c_fc", "h_to_4h", "lin1", "w3", "w1", "gate_proj")
FUSED = re.compile(r"gate_up|wi_fused|w12", re.IGNORECASE)
MIN_UNITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The units of one layer on both sides: tensors (units, width), and the partners (width, units) that read from those units."""

    layer: str
    matched: str
    left: str
    right: str
    units: int
    width: int
    left_partner: str = ""
    right_partner: str = ""
    named: bool = True  # whether names paired the two, rather than their order alone
    candidates: int = 1  # how many layers of the right checkpoint the partner was chosen among
    kernel: int = 1  # entries of a kernel in a convolution: beyond 1, the axes of a unit's row are not exchangeable and T2 is not exact


def find_blocks(left: Checkpoint, right: Checkpoint, alignment: Alignment) -> tuple[Block, ...]:
    """One block a layer, for the layers that both checkpoints have, in layer order.

    Layers are paired by the tensors' alignment; where no names align, in their order, if both have equally many of equal shapes.
    """
    ours, theirs = unit_matrices(left), unit_matrices(right)
    pairs = dict(alignment.pairs)
    named = [(info, pairs[info.name]) for info in ours.values() if pairs.get(info.name) in right.tensors]
    in_order = list(zip(ours.values(), (info.name for info in theirs.values()), strict=False)) if len(ours) == len(theirs) else []
    chosen = named or [(info, name) for info, name in in_order if right.tensors[name].shape == info.shape]
    blocks = (_block(info, name, left, pairs, bool(named)) for info, name in chosen)
    return tuple(sorted(blocks, key=lambda block: natural(block.layer)))


def layer_of(name: str) -> str:
    """The part of a tensor's name up to its last layer number; the name itself where there is none."""
    match = re.match(r"^(.*\.\d+)\.", name)
    return match[1] if match else name


def _block(info: TensorInfo, right: str, left: Checkpoint, pairs: Mapping[str, str], named: bool) -> Block:
    partner = _partner(info, left.tensors)
    return Block(
        layer=layer_of(info.name),
        matched=layer_of(right),
        left=info.name,
        right=right,
        units=units_of(info),
        width=info.shape[1],
        left_partner=partner if partner in pairs else "",
        right_partner=pairs.get(partner, ""),
        named=named,
    )


def unit_matrices(checkpoint: Checkpoint) -> dict[str, TensorInfo]:
    """The preferred unit matrix of every layer, by layer, in layer order."""
    width = _width(checkpoint)
    candidates: dict[str, list[TensorInfo]] = defaultdict(list)
    for name, info in checkpoint.tensors.items():
        if _is_unit_matrix(info, width) and (_partner(info, checkpoint.tensors) or FUSED.search(name)) and "." in layer_of(name):
            candidates[layer_of(name)].append(info)
    return {layer: min(candidates[layer], key=_rank) for layer in sorted(candidates, key=natural)}


def _is_unit_matrix(info: TensorInfo, width: int) -> bool:
    shaped = len(info.shape) == 2 and info.shape[0] >= MIN_UNITS and info.shape[1] == width and info.dtype in FLOATING
    return shaped and not ATTENTION.search(info.name) and (info.shape[0] != width or _rank(info)[0] < len(PREFERENCE))


def units_of(info: TensorInfo) -> int:
    """Units of a unit matrix: half its rows where gate and up are stored as one."""
    return info.shape[0] // 2 if FUSED.search(info.name) else info.shape[0]


def _partner(info: TensorInfo, tensors: Mapping[str, TensorInfo]) -> str:
    """The matrix of the same layer that reads from these units, (width, units); "" when there is none."""
    layer, wanted = layer_of(info.name), (info.shape[1], units_of(info))
    matches = [name for name, other in tensors.items() if other.shape == wanted and name != info.name and layer_of(name) == layer]
    return min((name for name in matches if not ATTENTION.search(name)), default="")


def _rank(info: TensorInfo) -> tuple[int, str]:
    places = [place for place, part in enumerate(PREFERENCE) if part in info.name]
    return (min(places, default=len(PREFERENCE)), info.name)


def _width(checkpoint: Checkpoint) -> int:
    """The residual width: the commonest length of one-dimensional tensors (norms), else of the last axis of matrices."""
    vectors = Counter(info.shape[0] for info in checkpoint.tensors.values() if len(info.shape) == 1 and info.shape[0] > 1)
    matrices = Counter(info.shape[1] for info in checkpoint.tensors.values() if len(info.shape) == 2)
    counts = vectors or matrices
    return max(counts, key=lambda length: (counts[length], -length), default=0)


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts `layer.10` behind `layer.9`."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))
