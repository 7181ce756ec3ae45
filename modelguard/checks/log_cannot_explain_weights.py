"""The logged training cannot have moved the weights so far from their base.

An optimizer bounds how far each step moves a weight, whatever the gradients are: Adam by the learning rate times a factor that its
betas give. Summed over the logged learning rates, with weight decay and rounding on top, this bounds the distance from the declared
base. Weights beyond it come from another base, from more training than the log tells of, or from other settings than are declared.
Within the bound nothing is proven: `unseen_share` says how much of the learning rates a log could lose unnoticed.
High severity needs a declared optimizer; the learning rate in the log is taken for the largest of all parameter groups.
Where the log holds the norm of the weights, both of its ends are held against the weights themselves. Parts that the settings state
as frozen must not have moved, and a movement by an adapter must not have a higher rank than the adapter.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.displacement import LIMIT, Displacement, ToldNorm
from modelguard.types.findings import Claim, Level, Numbers, found, not_applicable, ok, unknown

STILL = 1e-3  # root mean square movement over the sum of rates, below which training left next to no trace
MIN_STEPS = 20  # fewer steps may well leave little
SETTLE = "the whole log, the exact base, or the optimizer's settings (its betas, parameter groups, weight decay)"
DECLARE = "write the optimizer and its betas into the card's training hyperparameters or into training_config.json"


def check(displacement: Displacement) -> Iterator[Claim]:
    """Movement against the bound, the checkpoint's own step against the log's end, and what needs no bound."""
    item = displacement
    yield _unbounded(item) if item.unbounded else _movement(item)
    if item.reached > item.logged > 0:
        yield _ahead(item)
    if item.placed and item.first_norm is not None and item.last_norm is not None:
        yield from _norms(item, item.first_norm, item.last_norm)
    if item.thawed:
        yield _thawed(item)
    if item.rank and item.ranked:
        yield _ranked(item)


def _unbounded(item: Displacement) -> Claim:
    return not_applicable(f"no bound is held against the movement: {item.unbounded}")


def _norms(item: Displacement, first: ToldNorm, last: ToldNorm) -> Iterator[Claim]:
    """Both ends of the logged norm. That one end fits shows that the column is of these weights; without that it says nothing."""
    wrong, what, whose = (last, item.checkpoint, "the checkpoint") if first.agrees else (first, item.base, "the base")
    numbers: Numbers = {
        "logged_norm": float(f"{wrong.logged:.7g}"),
        "own_norm": float(f"{wrong.own:.7g}"),
        "tolerance": float(f"{wrong.tolerance:.3g}"),
        "step": wrong.step,
    }
    if first.agrees and last.agrees:
        yield ok(
            f"the log's {last.name} fits both the base and the checkpoint: {last.logged:.6g} at step {last.step}",
            numbers=numbers,
            where=what,
        )
        return
    if abs(wrong.logged - wrong.own) <= first.tolerance + last.tolerance:
        return
    text = f"the log's {wrong.name} is {wrong.logged:.7g} at step {wrong.step}, {whose} has {wrong.own:.7g} (within {wrong.tolerance:.2g})"
    reasons = [*item.doubts]
    if wrong is last and wrong.within:
        reasons.append("earlier records hold norms on both sides of it, as those of an averaged or an earlier checkpoint")
    if wrong is first and item.renewed:
        reasons.append(f"{item.renewed} matrices were made anew, as a new head is")
    if reasons:
        yield unknown(f"{text}; {'; '.join(reasons)}", numbers=numbers, where=what, settle="the checkpoint of the log's last step")
        return
    confidence = Level.HIGH if wrong.exact else Level.MEDIUM
    yield found(text, severity=Level.HIGH, confidence=confidence, numbers=numbers, where=what, settle="the whole log, and the exact base")


def _thawed(item: Displacement) -> Claim:
    """Tensors that the settings call frozen and that moved."""
    text = f"{len(item.thawed)} tensors moved that {item.source or 'the settings'} states as frozen, such as {item.thawed[0][:80]!a}"
    numbers: Numbers = {"frozen_and_moved": len(item.thawed)}
    settle = "the settings of the training that made these weights"
    if item.doubts:
        return unknown(f"{text}; {item.doubts[0]}", numbers=numbers, where=item.thawed[0], settle=settle)
    return found(text, severity=Level.HIGH, confidence=Level.MEDIUM, numbers=numbers, where=item.thawed[0], settle=settle)


def _ranked(item: Displacement) -> Claim:
    """The movement's rank against that of the adapter which the settings state."""
    high, numbers = len(item.above_rank), {"adapter_rank": item.rank, "matrices": item.ranked, "above": len(item.above_rank)}
    if not high:
        return ok(f"the {item.ranked} matrices moved in no more directions than an adapter of rank {item.rank} does", numbers=numbers)
    text = f"{high} of {item.ranked} matrices moved in more directions than the stated adapter of rank {item.rank} can move them"
    settle = "the settings of the training that made these weights, or the adapter itself"
    reasons = [doubt for doubt in item.doubts if "lora" not in doubt and "adapter" not in doubt]
    if reasons or 2 * high < item.ranked:
        why = reasons[0] if reasons else "the others did not, and some may have been trained whole"
        return unknown(f"{text}; {why}", numbers=numbers, where=item.above_rank[0], settle=settle)
    return found(text, severity=Level.HIGH, confidence=Level.MEDIUM, numbers=numbers, where=item.above_rank[0], settle=settle)


def _ahead(item: Displacement) -> Claim:
    """The checkpoint states a step that the log does not reach."""
    text = f"the checkpoint says that it is of step {item.reached}, the log accounts for {item.logged}"
    numbers = {"checkpoint_step": item.reached, "logged_step": item.logged}
    settle = "the log of the last steps"
    if doubts := (*item.doubts, *item.caveats):
        return unknown(f"{text}; {doubts[0]}", numbers=numbers, where=item.checkpoint, settle=settle)
    return found(text, severity=Level.HIGH, confidence=Level.HIGH, numbers=numbers, where=item.checkpoint, settle=settle)


def _movement(item: Displacement) -> Claim:
    if item.ratio > LIMIT:
        return _beyond(item)
    if not item.declared and item.moved:
        return not_applicable("no paper names the optimizer, and the weights moved within the widest bound")
    if item.moved == 0 and item.new == 0:
        return found(
            f"the log tells of {item.steps} steps of training, and none of {item.tensors} tensors differs from {item.base}",
            severity=Level.LOW,
            confidence=Level.MEDIUM,
            numbers=_numbers(item),
            where=item.checkpoint,
            settle="the weights that this log is of",
        )
    still = item.rms < STILL and item.norm != "model"  # how far SGD moves depends on the size of its gradients, not on the rate alone
    if item.moved > 0 and still and item.steps >= MIN_STEPS and not item.narrow and item.declared:
        return found(
            f"the weights moved next to nothing: {item.rms:.2g} of the logged learning rates, where training leaves a hundredth or more",
            severity=Level.INFO,
            confidence=Level.LOW,
            numbers=_numbers(item),
            where=item.checkpoint,
            settle="the weights that this log is of",
        )
    text = (
        f"the logged learning rates allow the distance from {item.base}: {item.ratio:.2f} of the bound for {item.optimizer}{_betas(item)}"
    )
    return ok(
        f"{text}; a log that lost less than {item.unseen:.0%} of them would pass as well", numbers=_numbers(item), where=item.checkpoint
    )


def _beyond(item: Displacement) -> Claim:
    what = {"entry": "a weight", "tensor": "a matrix", "model": "the model"}[item.norm]
    places = "" if item.norm == "model" else f"; {item.beyond} of {item.matrices} matrices went beyond"
    text = (
        f"{what} moved {item.ratio:.2f} times as far from {item.base} as the {item.steps} logged steps of {item.optimizer}{_betas(item)} "
        f"can move it{places}"
    )
    reasons = [*item.doubts, *item.caveats, *(() if item.declared else ("no paper names the optimizer",))]
    if reasons:
        settle = SETTLE if item.declared else DECLARE
        return unknown(f"{text}; {'; '.join(reasons)}", numbers=_numbers(item), where=item.tensor or item.checkpoint, settle=settle)
    return found(
        f"{text}; taken: {', '.join(item.assumptions)}",
        severity=Level.HIGH,
        confidence=_confidence(item),
        numbers=_numbers(item),
        where=item.tensor or item.checkpoint,
        settle=SETTLE,
    )


def _confidence(item: Displacement) -> Level:
    """How sure: an excess in a few matrices is shown and does not block, because a few may have had rates of their own."""
    if item.norm != "model" and 2 * item.beyond < item.matrices:
        return Level.LOW
    return Level.HIGH if item.stated else Level.MEDIUM


def _betas(item: Displacement) -> str:
    return f" with betas {item.betas[0]:g} and {item.betas[1]:g}" if item.betas else ""


def _numbers(item: Displacement) -> Numbers:
    return {
        "ratio": round(item.ratio, 4),
        "unseen_share": round(item.unseen, 4),
        "steps": item.steps,
        "sum_of_rates": float(f"{item.rate_sum:.6g}"),
        "bound": float(f"{item.reach:.6g}"),
        "rms_over_rates": float(f"{item.rms:.4g}"),
        "tensors": item.tensors,
        "moved": item.moved,
        "beyond": item.beyond,
        "optimizer": item.optimizer,
        "settings_from": item.source or "nowhere",
    }
