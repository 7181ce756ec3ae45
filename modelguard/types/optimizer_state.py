"""What the optimizer's and the scheduler's own files beside a checkpoint say about the training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerState:
    """The counts and settings in `optimizer.pt` and `scheduler.pt`; None and () are what they do not hold.

    `steps` are the lowest and the highest count of steps that the optimizer keeps for a tensor. Groups are parameter groups, in order.
    """

    sources: tuple[str, ...]
    folder: str  # where the files lie, as the paths of logs are written
    steps: tuple[int, int] | None = None
    kind: str = ""  # adam, adamw, sgd; "" where the state does not tell
    betas: tuple[tuple[float, float], ...] = ()  # distinct ones
    momentum: float | None = None
    weight_decays: tuple[float, ...] = ()  # distinct ones
    rates: tuple[float, ...] = ()  # of each group, now
    peaks: tuple[float, ...] = ()  # of each group, before the scheduler scaled it
    last_epoch: int | None = None  # how often the scheduler was stepped
    last_rates: tuple[float, ...] = ()  # of each group, as the scheduler set it last
