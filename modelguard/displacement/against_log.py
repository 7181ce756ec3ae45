"""Holds the movement of a checkpoint from its base against what a log and the papers beside the model allow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, isfinite, sqrt
from pathlib import PurePosixPath

import numpy as np

from modelguard.checkpoints.base import Checkpoint
from modelguard.correspondence.alignment import Alignment, align
from modelguard.displacement.bounds import LION, MUON, SETTLE, Bound, NoBound, bound, muon_factor
from modelguard.displacement.frozen import above_rank, thawed
from modelguard.displacement.measure import (
    NOT_TRAINED,
    Advance,
    Movement,
    Sides,
    comparable,
    low_rank,
    measure,
    narrow,
    reencoded,
)
from modelguard.displacement.norms import Ends, told
from modelguard.displacement.schedule import MAX_STEPS, Schedule, Window, end_of, schedule
from modelguard.logs.continuity import checkpoint_step
from modelguard.types.displacement import LIMIT, Displacement, OptimizerSettings
from modelguard.types.findings import Absence, Missing
from modelguard.types.logs import TrainingLog
from modelguard.types.weights import Comparison, Relation

RATES = "no group of weights had a higher rate than the one in the log"
ANEW = "an optimizer that started anew with the log"
RELATED = 0.2  # cosine with the base below which a matrix was made anew: training on keeps most of it
SMALL = 1e-3  # Adafactor's eps2: the least size of a tensor that its rates are in units of
UNBOUNDED = Bound(norm="entry", reach=inf, drift=0.0)
REENCODED = ("adapter", "lora-merged", "quantized", "pruned", "merged", "upcycled", "noised")
REARRANGED = ("layers-removed", "layers-added", "permuted", "rotated", "rescaled")


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
    if found.declared or found.ratio > LIMIT or found.reached > found.logged or not found.moved or found.placed or found.thawed:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What the log and the settings allow; without a schedule or a bound, `unbounded` says why, and nothing is judged by them."""

    limit: Bound
    schedule: Schedule | None
    unbounded: str


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

    Raises NoBound, with the reason, where nothing can be compared, or no bound holds and nothing else bears on the log.
    """
    sides, since = (checkpoint, base), _since(checkpoint, base, reached)
    plan = _plan(log, settings, Window(since, reached or MAX_STEPS))
    pairs = align(checkpoint, base, by_content=False)
    names = [pair for pair in pairs.pairs if comparable(sides, *pair)]
    if not names:
        raise NoBound("the checkpoint and its base share no floating-point tensor of one name and shape")
    steps = len(plan.schedule.rates) if plan.schedule else 0
    moved = [measure(sides, pair, plan.limit, steps, advance) for pair in names]
    broken = next((item for item in moved if not item.finite), None)
    if broken is not None:
        raise NoBound(f"tensor {broken.name[:80]!a} holds numbers that are not finite, whose movement has no size")
    found = _verdict(moved, plan, settings, all(narrow(checkpoint, ours) for ours, _ in names))
    found = replace(found, checkpoint=checkpoint.ref, base=base.ref, new=len(pairs.only_left), reached=reached, since=since)
    found = _with_papers(found, moved, sides, pairs, log, settings)
    if plan.unbounded and not (found.ranked or found.thawed or found.placed):
        raise NoBound(plan.unbounded, advice=SETTLE)
    return _explained(found, moved, plan.limit, sides, dict(names)) if found.telling else found


def _since(checkpoint: Checkpoint, base: Checkpoint, reached: int) -> int:
    """The step of a base that is an earlier checkpoint of the same run, beside the later one; 0 for any other base."""
    ours, theirs = PurePosixPath(checkpoint.ref), PurePosixPath(base.ref)
    before = checkpoint_step(base.ref)
    beside = ours.parent.parent == theirs.parent.parent and ours.parent != theirs.parent
    return before if before is not None and beside and checkpoint_step(checkpoint.ref) == reached and before < reached else 0


def _plan(log: TrainingLog, settings: OptimizerSettings, window: Window) -> _Plan:
    told_rates = None
    try:
        told_rates = schedule(log, settings.learning_rate, window)
        if not told_rates.rates.any():
            raise NoBound("every learning rate in the log is zero, which bounds nothing")
        return _Plan(limit=bound(settings, told_rates.rates, told_rates.warm, told_rates.norms), schedule=told_rates, unbounded="")
    except NoBound as error:
        return _Plan(limit=UNBOUNDED, schedule=told_rates, unbounded=str(error))


def _verdict(moved: list[Movement], plan: _Plan, settings: OptimizerSettings, sixteen: bool) -> Displacement:
    """The totals over all tensors."""
    limit, told_rates = plan.limit, plan.schedule
    ratios = {item.name: _ratio(item, limit) for item in moved}
    largest = max(moved, key=lambda item: ratios[item.name])
    total = float(told_rates.rates.sum()) if told_rates else 0.0
    drift = limit.drift * sqrt(sum(item.weights for item in moved)) if limit.norm == "model" else 0.0
    whole = max(0.0, sqrt(sum(item.excess for item in moved)) - drift) / limit.reach
    matrices = [item for item in moved if len(item.shape) >= 2 and item.squares > 0]
    adaptive = not settings.name or "adam" in settings.name or settings.name in MUON
    anew = () if told_rates and told_rates.warm else (ANEW,)
    return Displacement(
        checkpoint="",
        base="",
        tensor="" if limit.norm == "model" or plan.unbounded else largest.name,
        ratio=whole if limit.norm == "model" else ratios[largest.name],
        norm=limit.norm,
        rms=max(sqrt(item.squares / item.entries) for item in moved) / total if total else 0.0,
        tensors=len(moved),
        moved=sum(item.squares > 0 for item in moved),
        beyond=sum(ratios[item.name] > LIMIT for item in matrices),
        matrices=len(matrices),
        new=0,
        steps=len(told_rates.rates) - 1 if told_rates else 0,
        rate_sum=total,
        reach=limit.reach if isfinite(limit.reach) else 0.0,
        optimizer=settings.name or "AdamW (taken, not stated)",
        betas=(settings.betas or (0.9, 0.999)) if adaptive and settings.name not in LION else None,
        declared=bool(settings.name),
        stated=settings.stated,
        source=settings.source,
        narrow=sixteen,
        assumptions=(RATES, *anew, *limit.assumptions),
        caveats=(*limit.doubts, *(told_rates.counting if told_rates else ())),
        unbounded=plan.unbounded,
        logged=told_rates.last if told_rates else 0,
    )


def _ratio(item: Movement, limit: Bound) -> float:
    """Movement over bound in the bound's own norm; for the model's norm a tensor alone is held against all of it."""
    if limit.norm == "entry" or (limit.matrix_reach is not None and len(item.shape) != 2):
        return item.ratio
    if limit.norm == "model":
        return max(0.0, sqrt(item.excess) - limit.drift * sqrt(item.weights)) / limit.reach
    size, before = sqrt(item.excess / item.entries), sqrt(item.weights / item.entries)
    if limit.matrix_reach is not None:
        return size / max(limit.matrix_reach * muon_factor(item.shape), limit.reach)
    if limit.scaled:
        return size / (limit.reach * max(SMALL, before))
    return size / (limit.reach * max(1.0, before + sqrt(item.squares / item.entries)))


def _with_papers(
    found: Displacement, moved: list[Movement], sides: Sides, pairs: Alignment, log: TrainingLog, settings: OptimizerSettings
) -> Displacement:
    """Adds what needs no bound: norms that the log holds, parts stated as frozen, and the rank of a stated adapter."""
    partners = dict(pairs.pairs)
    high, ranked = above_rank(moved, partners, sides, settings.rank, settings.whole) if settings.rank else ((), 0)
    norms = (
        None if any(not NOT_TRAINED.search(name) for name in (*pairs.only_left, *pairs.only_right)) else told(log, _ends(found, moved, log))
    )
    return replace(
        found,
        thawed=thawed(moved, settings.frozen),
        rank=settings.rank,
        above_rank=high,
        ranked=ranked,
        first_norm=norms[0] if norms else None,
        last_norm=norms[1] if norms else None,
    )


def _ends(found: Displacement, moved: list[Movement], log: TrainingLog) -> Ends:
    last = max((end_of(run) if run.claimed.get("global_step") else run.last_step for run in log.runs if run.training), default=0)
    weights, own = (sqrt(float(np.sum([getattr(item, name) for item in moved]))) for name in ("weights", "own"))
    end = found.reached if 0 < found.reached <= last else last
    grain, entries = max(item.grain for item in moved), sum(item.entries for item in moved)
    return Ends(start=found.since, end=end, base=weights, checkpoint=own, grain=grain, entries=entries)


def _explained(found: Displacement, moved: list[Movement], limit: Bound, sides: Sides, partners: dict[str, str]) -> Displacement:
    """Adds what would explain it without speaking against the log: vectors alone, matrices made anew, an update of low rank."""
    matrices = [item for item in moved if len(item.shape) >= 2 and item.squares > 0]
    renewed = sum(abs(item.cosine) < RELATED for item in matrices)
    far = [item for item in matrices if _ratio(item, limit) > LIMIT]
    caveats, doubts = list(found.caveats), list(found.doubts)
    if found.norm != "model" and not far and found.ratio > LIMIT:
        caveats.append("no matrix exceeds it, only vectors, which may hold statistics that no optimizer moves")
    elif found.norm != "model" and 2 * len(far) < found.matrices and far and all(abs(item.cosine) < RELATED for item in far):
        caveats.append(f"only {len(far)} of {found.matrices} matrices exceed it, and these were made anew, as a new head is")
    if found.tensor and low_rank(sides, (found.tensor, partners[found.tensor])):
        caveats.append("the update has a low rank, as a merged adapter's has")
    largest = max(matrices, key=lambda item: (item.squares, item.name), default=None)
    if any(reencoded(sides[0], name) for name in {found.tensor, largest.name if largest else ""} if name):
        doubts.append("its entries are mostly zeros or few distinct numbers, as of pruned or quantized weights")
    return replace(found, doubts=tuple(doubts), caveats=tuple(caveats), renewed=renewed if 2 * renewed < len(matrices) else 0)
