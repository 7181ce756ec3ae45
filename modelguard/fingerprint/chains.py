"""Networks without a gated MLP or a residual stream: matrices and kernels that follow one another share a hidden axis.

A convolution (out, in, height, width) and the next one of the same sequence, whose inputs are the outputs of the first, hide the
channels between them: they are units like an MLP's, initialised alike and exchangeable. T1 and T3 are exact on them. T2 is not: the entries
of a kernel's row are not exchangeable, since a kernel's middle differs from its corners in every model; `Block.kernel` says so.

Where all channels were put in another order, layer by layer, the chain is walked from its input, whose axis (colours) nobody can turn:
the channels of a layer are matched by one half of what they read, and again by the other half; the share on which the two matchings
agree is taken, and later layers' inputs are put in the order found. If the two halves of a channel's weights were independent of each
other, the second matching would hit the first with the bound of matching.py. At initialisation they are; training relates them (edges,
blobs), so the share is like T4's: measured, and compared with control models, it withholds a denial and accuses nobody.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint, TensorInfo
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.correspondence.alignment import Alignment
from modelguard.correspondence.tiles import rows
from modelguard.fingerprint.blocks import MIN_UNITS, Block, layer_of, natural
from modelguard.fingerprint.matching import nearest

MAX_ENTRIES = 1 << 24  # of a layer that is walked over: it is held whole
COLOURS = 4  # inputs at most of the layer where a walk starts: colours, or the channels of a latent image
MOST_ORDERS = 6
MIN_HALVES = 8  # inputs of a layer below which neither half of them tells channels apart

Matrix = NDArray[np.float32]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Step:
    """One layer of a walk: its channels, how many found one partner by either half of their inputs, and how many found any by both."""

    layer: str
    channels: int
    agreed: int
    matched: int

    @property
    def share(self) -> float:
        return self.agreed / self.channels if self.channels else 0.0


def sequences(checkpoint: Checkpoint) -> tuple[tuple[str, ...], ...]:
    """Names of weights that follow one another: equal names but for their last number, each reading what the one before wrote."""
    groups: dict[str, list[TensorInfo]] = defaultdict(list)
    for name, info in checkpoint.tensors.items():
        if name.endswith("weight") and len(info.shape) in (2, 3, 4) and info.dtype in FLOATING and re.search(r"\d", name):
            groups[re.sub(r"\d+(?=\D*$)", "#", name)].append(info)
    found = (_runs(sorted(group, key=lambda info: natural(info.name))) for _, group in sorted(groups.items()))
    return tuple(run for runs in found for run in runs)


def _runs(group: Sequence[TensorInfo]) -> Iterator[tuple[str, ...]]:
    run: list[TensorInfo] = []
    for info in group:
        if run and (info.shape[1] != run[-1].shape[0] or len(info.shape) != len(run[-1].shape)):
            yield from [tuple(item.name for item in run)] if len(run) > 1 else []
            run = []
        run.append(info)
    yield from [tuple(item.name for item in run)] if len(run) > 1 else []


def find_chains(left: Checkpoint, right: Checkpoint, alignment: Alignment) -> tuple[Block, ...]:
    """A block for every hidden axis between two weights of a sequence that both checkpoints have, in the sequences' order."""
    pairs, found = dict(alignment.pairs), []
    for sequence in sequences(left):
        for name, reader in pairwise(sequence):
            info = left.tensors[name]
            if name in pairs and info.shape[0] >= MIN_UNITS and pairs[name] in right.tensors:
                found.append(_block(left, info, pairs, reader))
    return tuple(sorted(found, key=lambda block: natural(block.layer)))


def _block(left: Checkpoint, info: TensorInfo, pairs: Mapping[str, str], reader: str) -> Block:
    kernel = info.entries // max(1, info.shape[0] * info.shape[1])
    partner = reader if reader in pairs and len(left.tensors[reader].shape) == 2 else ""
    return Block(
        layer=layer_of(info.name) if layer_of(info.name) != info.name else info.name.removesuffix(".weight"),
        matched=layer_of(pairs[info.name]) if layer_of(info.name) != info.name else pairs[info.name].removesuffix(".weight"),
        left=info.name,
        right=pairs[info.name],
        units=info.shape[0],
        width=info.shape[1] * kernel,
        left_partner=partner,
        right_partner=pairs.get(partner, ""),
        kernel=kernel,
    )


def chain(checkpoint: Checkpoint, alignment: Alignment) -> tuple[tuple[str, str], ...]:
    """The aligned convolutions (left name, right name) in their order, from the first one that reads colours."""
    kernels = [(ours, theirs) for ours, theirs in alignment.pairs if _is_kernel(checkpoint.tensors[ours])]
    kernels.sort(key=lambda names: natural(names[0]))
    first = next((place for place, (ours, _) in enumerate(kernels) if checkpoint.tensors[ours].shape[1] <= COLOURS), len(kernels))
    return tuple(kernels[first:])


def _is_kernel(info: TensorInfo) -> bool:
    return len(info.shape) == 4 and info.dtype in FLOATING and 0 < info.entries <= MAX_ENTRIES


def walk(left: Checkpoint, right: Checkpoint, names: Sequence[tuple[str, str]]) -> tuple[Step, ...]:
    """Follows convolutions (left name, right name) from an input whose axis both sides share, finding the order of every layer's channels.

    A layer reads an axis whose order an earlier layer gave. Which one, the names do not tell where layers branch and join: of the last
    few of its length, the one under which most channels agree.
    """
    orders: list[Places] = []  # of every right channel the left one, -1 where there is none
    steps: list[Step] = []
    for ours_name, theirs_name in names:
        if left.tensors[ours_name].shape != right.tensors[theirs_name].shape:
            continue
        ours, theirs = _kernels(left, ours_name), _kernels(right, theirs_name)
        inputs = theirs.shape[1]
        known = [order for order in orders if len(order) == inputs][-MOST_ORDERS:] if steps else [np.arange(inputs, dtype=np.intp)]
        tried = [_matched(layer_of(ours_name), *_ordered(ours, theirs, order)) for order in known if (order >= 0).any()]
        if tried:
            order, step = max(tried, key=lambda made: made[1].agreed)
            orders.append(order)
            steps.append(step)
    return tuple(steps)


def _ordered(ours: Matrix, theirs: Matrix, order: Places) -> tuple[Matrix, Matrix]:
    """Both sides' weights with the inputs that the order knows, in the right side's order."""
    known = np.flatnonzero(order >= 0)
    return ours[:, order[known]], theirs[:, known]


def _kernels(checkpoint: Checkpoint, name: str) -> Matrix:
    """A layer's weights as (out, in, kernel)."""
    shape = checkpoint.tensors[name].shape
    return rows(checkpoint, name, 0, shape[0]).reshape(shape[0], shape[1], -1)


def _matched(layer: str, ours: Matrix, theirs: Matrix) -> tuple[Places, Step]:
    """The order of a layer's channels, by all that they read, and how far its two halves agree on it."""
    count = len(ours)
    whole = nearest(theirs.reshape(count, -1), ours.reshape(count, -1))
    back = nearest(ours.reshape(count, -1), theirs.reshape(count, -1))
    mutual = np.array([image if image >= 0 and back[image] == place else -1 for place, image in enumerate(whole.tolist())], dtype=np.intp)
    halves = _halves(ours, theirs)
    images = [nearest(half[1], half[0]) for half in halves]
    matched = (images[0] >= 0) & (images[1] >= 0)
    return mutual, Step(layer, count, int((matched & (images[0] == images[1])).sum()), int(matched.sum()))


def _halves(ours: Matrix, theirs: Matrix) -> list[tuple[Matrix, Matrix]]:
    """Both sides' weights from every other input; from every other entry of the kernels where the inputs are too few."""
    many = ours.shape[1] >= MIN_HALVES
    first, second = (side if many else side.reshape(len(side), -1, 1) for side in (ours, theirs))
    return [(_flat(first[:, start::2]), _flat(second[:, start::2])) for start in (0, 1)]


def _flat(kernels: Matrix) -> Matrix:
    return kernels.reshape(len(kernels), -1)
