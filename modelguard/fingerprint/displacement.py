"""Holds the movement of a checkpoint from its base against a bound, tile by tile: memory does not grow with the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import FLOATING, PRECISION, itemsize, to_float32
from modelguard.fingerprint.alignment import align
from modelguard.fingerprint.displacement_bounds import LION, MUON, SETTLE, Bound, NoBound, bound, muon_factor
from modelguard.fingerprint.displacement_schedule import Schedule, schedule
from modelguard.fingerprint.tiles import rows
from modelguard.types.displacement import Displacement, OptimizerSettings
from modelguard.types.findings import Absence, Missing
from modelguard.types.logs import TrainingLog
from modelguard.types.weights import Comparison, Relation

TILE_ENTRIES = 1 << 18
TINY = 2.0**-24  # half the distance of float16 numbers next to zero
LIMIT = 1.01  # a movement of one per cent above the bound, rounding allowed for, is no accident of arithmetic
ALWAYS = ("no group of weights had a higher rate than the one in the log", "an optimizer that started anew with the log")
LOW_RANK_BLOCK = 512
LOW_RANK_REST = 1e-6  # of the energy, or what rounding makes: what a sum of few outer products leaves beyond them
RELATED = 0.2  # cosine with the base below which a matrix was made anew: training on keeps most of it
# float tensors that no optimizer moves: statistics, tables, quantizer scales, routing biases
NOT_TRAINED = re.compile(
    r"(?:running_(?:mean|var)|num_batches_tracked|inv_freq|position_ids|masked_bias|attn\.bias|cluster_size|embed_avg|weight_[uv]"
    r"|(?:weight|input|output|k|v)_scale(?:_inv)?|e_score_correction_bias|expert_bias|sin_cached|cos_cached)$"
)
REENCODED = ("adapter", "lora-merged", "quantized", "pruned", "merged", "upcycled", "noised")
REARRANGED = ("layers-removed", "layers-added", "permuted", "rotated", "rescaled")
Array = NDArray[np.float64]
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class _Moved:
    """One tensor pair: largest movement over the bound of an entry, sums of squares of movement and of its excess over rounding."""

    name: str
    shape: tuple[int, ...]
    ratio: float
    squares: float
    excess: float
    weights: float  # sum of squares of the base's entries
    own: float  # and of the checkpoint's
    product: float  # and their products
    finite: bool

    @property
    def entries(self) -> int:
        return int(np.prod(self.shape))

    @property
    def cosine(self) -> float:
        return self.product / sqrt(self.own * self.weights) if self.own and self.weights else 0.0


def held_against(
    checkpoint: Checkpoint,
    base: Checkpoint,
    log: TrainingLog,
    settings: OptimizerSettings,
    *,
    reached: int = 0,
    advance: Advance | None = None,
) -> Displacement | Missing:
    """The displacement, or why it does not bear on the log: no bound holds, or it is within the loosest one and nobody states a closer."""
    try:
        found = displacement(checkpoint, base, log, settings, reached=reached, advance=advance)
    except NoBound as error:
        return Missing(str(error), advice=error.advice, kind=Absence.ABSENT)
    if found.declared or found.ratio > LIMIT or found.reached > found.logged or not found.moved:
        return found
    why = f"no paper names the optimizer; the weights moved {found.ratio:.2f} of what the logged rates allow to AdamW with its usual betas"
    return Missing(why, advice=SETTLE, kind=Absence.ABSENT)


def with_doubts(
    found: Displacement | Missing, weights: Comparison, *, consequence: bool = True, pinned: bool = True
) -> Displacement | Missing:
    """Adds what the comparison of the weights says against reading an excess as a fault of the log.

    `consequence`: whether a base that the weights do not support is reported elsewhere, and an excess follows from it. `pinned`:
    whether the base was named by its revision; what its main branch holds now may be newer than the training.
    """
    if isinstance(found, Missing):
        return found
    if not pinned:
        found = replace(found, stated=False, assumptions=(*found.assumptions, "the base that its main branch holds now"))
    doubts = [
        f"the comparison of the weights shows {kind.replace('-', ' ')}" for kind in weights.kinds if kind in (*REENCODED, *REARRANGED)
    ]
    if consequence and weights.relation in (Relation.UNRELATED, Relation.INCONCLUSIVE):
        doubts.append("the weights do not show the declared base in the first place, and this may follow from it")
    return replace(found, doubts=(*found.doubts, *doubts))


def displacement(
    checkpoint: Checkpoint,
    base: Checkpoint,
    log: TrainingLog,
    settings: OptimizerSettings,
    *,
    reached: int = 0,
    advance: Advance | None = None,
) -> Displacement:
    """How far a checkpoint moved from its base, in units of what the log's learning rates allow.

    Raises NoBound, with the reason, where no bound holds or nothing can be compared.
    """
    plan = schedule(log, settings.learning_rate)
    if not plan.rates.any():
        raise NoBound("every learning rate in the log is zero, which bounds nothing")
    limit = bound(settings, plan.rates, plan.warm, plan.norms)
    pairs = align(checkpoint, base, by_content=False)
    names = [pair for pair in pairs.pairs if _comparable(checkpoint, base, *pair)]
    if not names:
        raise NoBound("the checkpoint and its base share no floating-point tensor of one name and shape")
    narrow = all(_narrow(checkpoint, ours) for ours, _ in names)
    moved = [_measure(checkpoint, base, pair, limit, len(plan.rates), advance) for pair in names]
    broken = next((item for item in moved if not item.finite), None)
    if broken is not None:
        raise NoBound(f"tensor {broken.name[:80]!a} holds numbers that are not finite, whose movement has no size")
    found = _verdict(moved, limit, settings, plan, narrow)
    found = replace(found, checkpoint=checkpoint.ref, base=base.ref, new=len(pairs.only_left), reached=reached)
    return _explained(found, moved, limit, (checkpoint, base), dict(names)) if found.ratio > LIMIT else found


def _comparable(checkpoint: Checkpoint, base: Checkpoint, ours: str, theirs: str) -> bool:
    dtypes = checkpoint.tensors[ours].dtype, base.tensors[theirs].dtype
    whole = all(dtype in FLOATING and PRECISION.get(dtype, 0) >= 8 for dtype in dtypes)
    return whole and checkpoint.tensors[ours].entries > 0 and not NOT_TRAINED.search(ours)


def _measure(checkpoint: Checkpoint, base: Checkpoint, names: tuple[str, str], limit: Bound, steps: int, advance: Advance | None) -> _Moved:
    """One pair. An entry may move by reach + drift |base|, twice that where every step rounds to 16 bits, and by rounding of storage."""
    ours, theirs = names
    slack = 2.0 if _narrow(checkpoint, ours) else 1.0
    fine = 2.0 ** -_precision(checkpoint, ours)
    coarse = fine + 2.0 ** -PRECISION[base.tensors[theirs].dtype] + (steps * 2.0**-24 if slack == 1.0 else 0.0)
    ratio, finite = 0.0, True
    sums = np.zeros(5)  # squares of movement and of its excess, of both sides, and their product
    for after, before in _tiles(checkpoint, base, names, advance):
        with np.errstate(invalid="ignore", over="ignore"):
            delta, size = np.abs(after - before), np.abs(before)
            room = slack * limit.drift * size + coarse * size + fine * np.abs(after) + TINY
            ratio = max(ratio, float((delta / (slack * limit.reach + room)).max()))
            beyond = np.maximum(delta - room, 0.0) / slack
            sums += (delta @ delta, beyond @ beyond, size @ size, after @ after, after @ before)
        finite = finite and bool(np.isfinite(sums).all())
    squares, excess, weights, own, product = map(float, sums)
    return _Moved(ours, checkpoint.tensors[ours].shape, ratio, squares, excess, weights, own, product, finite)


def _tiles(checkpoint: Checkpoint, base: Checkpoint, names: tuple[str, str], advance: Advance | None) -> Iterator[tuple[Array, Array]]:
    """Stretches of both tensors as float64."""
    total = checkpoint.tensors[names[0]].entries
    for first in range(0, total, TILE_ENTRIES):
        count = min(TILE_ENTRIES, total - first)
        raw = [_raw(side, name, first, count) for side, name in zip((checkpoint, base), names, strict=True)]
        if advance is not None:
            advance(len(raw[0]) + len(raw[1]))
        yield _float64(raw[0], checkpoint.tensors[names[0]].dtype), _float64(raw[1], base.tensors[names[1]].dtype)


def _raw(side: Checkpoint, name: str, first: int, count: int) -> NDArray[np.uint8]:
    size = itemsize(side.tensors[name].dtype)
    raw = np.empty(count * size, dtype=np.uint8)
    side.readinto(name, first * size, raw.data)
    return raw


def _float64(raw: NDArray[np.uint8], dtype: str) -> Array:
    return raw.view(np.float64).copy() if dtype == "F64" else to_float32(raw, dtype).astype(np.float64)


def _precision(checkpoint: Checkpoint, name: str) -> int:
    """Bits of significand of a tensor's entries; float32 whose first entries are all bfloat16 numbers counts as those."""
    dtype = checkpoint.tensors[name].dtype
    if dtype == "F32":
        raw = _raw(checkpoint, name, 0, min(4096, checkpoint.tensors[name].entries))
        return 24 if np.any(raw.view(np.uint32) & 0xFFFF) else 8
    return PRECISION[dtype]


def _narrow(checkpoint: Checkpoint, name: str) -> bool:
    return _precision(checkpoint, name) < 24


def _verdict(moved: list[_Moved], limit: Bound, settings: OptimizerSettings, plan: Schedule, narrow: bool) -> Displacement:
    """The totals over all tensors."""
    ratios = {item.name: _ratio(item, limit) for item in moved}
    largest = max(moved, key=lambda item: ratios[item.name])
    total = float(plan.rates.sum())
    whole = sqrt(sum(item.excess for item in moved)) / limit.reach
    matrices = [item for item in moved if len(item.shape) >= 2 and item.squares > 0]
    adaptive = not settings.name or "adam" in settings.name or settings.name in MUON
    return Displacement(
        checkpoint="",
        base="",
        tensor="" if limit.norm == "model" else largest.name,
        ratio=whole if limit.norm == "model" else ratios[largest.name],
        norm=limit.norm,
        rms=max(sqrt(item.squares / item.entries) for item in moved) / total,
        tensors=len(moved),
        moved=sum(item.squares > 0 for item in moved),
        beyond=sum(ratios[item.name] > LIMIT for item in matrices),
        matrices=len(matrices),
        new=0,
        steps=len(plan.rates) - 1,
        rate_sum=total,
        reach=limit.reach,
        optimizer=settings.name or "AdamW (taken, not stated)",
        betas=(settings.betas or (0.9, 0.999)) if adaptive and settings.name not in LION else None,
        declared=bool(settings.name),
        stated=settings.stated,
        source=settings.source,
        narrow=narrow,
        assumptions=(*ALWAYS, *limit.assumptions),
        doubts=(*plan.doubts, *limit.doubts),
        logged=plan.last,
    )


def _ratio(item: _Moved, limit: Bound) -> float:
    """Movement over bound in the bound's own norm; for the model's norm a tensor alone is held against all of it."""
    if limit.norm == "entry" or (limit.matrix_reach is not None and len(item.shape) != 2):
        return item.ratio
    if limit.norm == "model":
        return sqrt(item.excess) / limit.reach
    size = sqrt(item.excess / item.entries)
    if limit.matrix_reach is not None:
        return size / max(limit.matrix_reach * muon_factor(item.shape), limit.reach)
    return size / (limit.reach * max(1.0, sqrt(item.weights / item.entries) + sqrt(item.squares / item.entries)))


def _explained(
    found: Displacement, moved: list[_Moved], limit: Bound, sides: tuple[Checkpoint, Checkpoint], partners: dict[str, str]
) -> Displacement:
    """Adds what would explain an excess without speaking against the log: vectors alone, matrices made anew, an update of low rank."""
    doubts = list(found.doubts)
    far = [item for item in moved if len(item.shape) >= 2 and _ratio(item, limit) > LIMIT]
    if found.norm != "model" and not far:
        doubts.append("no matrix exceeds it, only vectors, which may hold statistics that no optimizer moves")
    elif found.norm != "model" and 2 * len(far) < found.matrices and all(abs(item.cosine) < RELATED for item in far):
        doubts.append(f"only {len(far)} of {found.matrices} matrices exceed it, and these were made anew, as a new head is")
    if found.tensor and _low_rank(*sides, found.tensor, partners[found.tensor]):
        doubts.append("the update has a low rank, as a merged adapter's has")
    if found.tensor and _reencoded(sides[0], found.tensor):
        doubts.append("its entries are mostly zeros or few distinct numbers, as of pruned or quantized weights")
    return replace(found, doubts=tuple(doubts))


def _low_rank(checkpoint: Checkpoint, base: Checkpoint, ours: str, theirs: str) -> bool:
    """Whether a quarter of the directions of a matrix's movement (its first rows and columns) carry all of it but rounding."""
    shape = checkpoint.tensors[ours].shape
    if len(shape) != 2 or min(shape) < 16:
        return False
    count, wide = max(16, min(shape[0], LOW_RANK_BLOCK, (1 << 23) // shape[1])), slice(0, LOW_RANK_BLOCK)
    after = rows(checkpoint, ours, 0, count)[:, wide].astype(np.float64)
    before = rows(base, theirs, 0, count)[:, wide].astype(np.float64)
    energy = np.linalg.svd(after - before, compute_uv=False) ** 2
    rest = float(energy[max(1, len(energy) // 4) :].sum())
    rounding = 2.0 ** -_precision(checkpoint, ours) + 2.0 ** -PRECISION[base.tensors[theirs].dtype]
    return rest <= max(LOW_RANK_REST * float(energy.sum()), rounding**2 * float((before**2).sum()))


def _reencoded(checkpoint: Checkpoint, name: str) -> bool:
    """Whether a tenth of a matrix's first entries are zero, or none of its first rows holds more distinct numbers than a byte counts."""
    sample = rows(checkpoint, name, 0, min(16, checkpoint.tensors[name].shape[0]))[:, : 1 << 14]
    distinct = max(len(np.unique(row)) for row in sample)
    return bool((sample == 0).mean() > 0.1) or (sample.shape[1] >= 1024 and distinct <= 256)
