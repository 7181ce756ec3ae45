"""The optimizer's and the scheduler's files of a checkpoint, `optimizer.pt` and `scheduler.pt`: their counts and settings, read as data.

Layout: torch.optim.Optimizer.state_dict (`state`: per tensor, with `step`; `param_groups`: settings) and LRScheduler.state_dict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from modelguard.attempt import attempt
from modelguard.blobs.base import Folder
from modelguard.checkpoints.torch_zip import TorchState, read_state
from modelguard.errors import Malformed
from modelguard.types.displacement import OptimizerSettings
from modelguard.types.findings import Absence, Missing
from modelguard.types.optimizer_state import OptimizerState

OPTIMIZERS = ("optimizer.pt", "optimizer.bin")
SCHEDULER = "scheduler.pt"
MAX_TENSORS = 100_000  # whose counts are read
MAX_COUNT = 1e15
EQUAL = 1e-6  # relative: a rate that went through float32 is the same

Settings = Mapping[Any, Any]


def optimizer_state_of(folder: Folder, directory: str) -> OptimizerState | Missing:
    """What these files of a folder say; `directory` is how the paths of logs name it. Raises Malformed where one cannot be read."""
    optimizer = next((name for name in OPTIMIZERS if name in folder.sizes), None)
    scheduler = SCHEDULER if SCHEDULER in folder.sizes else None
    if optimizer is None and scheduler is None:
        return Missing("no optimizer's state beside the weights", kind=Absence.INAPPLICABLE)
    found = OptimizerState(sources=tuple(name for name in (optimizer, scheduler) if name), folder=directory)
    if optimizer is not None:
        found = _with_optimizer(found, read_state(folder.open(optimizer)))
    return found if scheduler is None else _with_scheduler(found, read_state(folder.open(scheduler)))


def optimizer_state_beside(folder: Folder, directory: str) -> OptimizerState | Missing:
    """As `optimizer_state_of`, for those who ask about a log: a state in a form that is not read says nothing against what was read."""
    state = attempt(lambda: optimizer_state_of(folder, directory), what="reading the optimizer's state")
    if isinstance(state, Missing) and state.kind is Absence.BROKEN:
        return Missing(state.why, advice=state.advice)
    return state


def completed_by(settings: OptimizerSettings, state: OptimizerState) -> OptimizerSettings:
    """The optimizer's settings as papers state them, completed by its own state; a contradiction becomes an obstacle."""
    source = state.sources[0]
    obstacles = [*settings.obstacles]
    betas = state.betas[0] if len(state.betas) == 1 else None
    if len(state.betas) > 1 or len(set(state.peaks)) > 1:
        obstacles.append(f"{source} has groups of different betas or rates")
    if settings.betas and betas and not all(math.isclose(a, b, rel_tol=EQUAL) for a, b in zip(settings.betas, betas, strict=True)):
        obstacles.append(f"it states betas {settings.betas}, {source} has {betas}")
    return replace(
        settings,
        name=settings.name or state.kind,
        betas=settings.betas or betas,
        momentum=state.momentum if settings.momentum is None else settings.momentum,
        weight_decay=max(state.weight_decays, default=None) if settings.weight_decay is None else settings.weight_decay,
        learning_rate=max(state.peaks, default=None) if settings.learning_rate is None else settings.learning_rate,
        source=settings.source or source,
        obstacles=tuple(obstacles),
    )


def _with_optimizer(found: OptimizerState, state: TorchState) -> OptimizerState:
    value = state.value
    groups = value.get("param_groups") if isinstance(value, dict) else None
    kept = value.get("state") if isinstance(value, dict) else None
    if not isinstance(groups, list) or not isinstance(kept, dict) or not all(isinstance(group, dict) for group in groups):
        raise Malformed(f"{state.blob.name}: no state of an optimizer", advice="commit the file as the trainer wrote it")
    counts = [count for entry in list(kept.values())[:MAX_TENSORS] if (count := _count(state, entry)) is not None]
    return replace(
        found,
        steps=(min(counts), max(counts)) if counts else None,
        kind=_kind(kept, groups),
        betas=tuple(dict.fromkeys(pair for group in groups if (pair := _pair(group.get("betas"))) is not None)),
        momentum=max(_numbers(state, groups, "momentum"), default=None),
        weight_decays=tuple(sorted(set(_numbers(state, groups, "weight_decay")))),
        rates=tuple(_numbers(state, groups, "lr")),
        peaks=tuple(_numbers(state, groups, "initial_lr")),
    )


def _with_scheduler(found: OptimizerState, state: TorchState) -> OptimizerState:
    value = state.value
    if not isinstance(value, dict):
        raise Malformed(f"{state.blob.name}: no state of a scheduler", advice="commit the file as the trainer wrote it")
    last = _number(state, value.get("last_epoch"))
    whole = last is not None and last == int(last) and 0 <= last < MAX_COUNT
    rates = value.get("_last_lr")
    told = [_number(state, rate) for rate in rates[:MAX_TENSORS]] if isinstance(rates, list) else []
    return replace(found, last_epoch=int(last) if last is not None and whole else None, last_rates=tuple(r for r in told if r is not None))


def _count(state: TorchState, entry: object) -> int | None:
    """The steps that the optimizer took on one tensor: a number, or a tensor of one."""
    number = _number(state, entry.get("step")) if isinstance(entry, dict) else None
    return int(number) if number is not None and 0 <= number < MAX_COUNT and number == int(number) else None


def _numbers(state: TorchState, groups: list[Settings], key: str) -> Iterator[float]:
    return (number for group in groups if (number := _number(state, group.get(key))) is not None)


def _number(state: TorchState, value: object) -> float | None:
    """A finite number, also where it is kept as a tensor of one entry."""
    if hasattr(value, "entries") and hasattr(value, "dtype"):
        value = float(state.numbers(value).reshape(-1)[0]) if value.entries == 1 and value.dtype in ("F32", "F64", "I64") else None  # type: ignore[arg-type]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _pair(value: object) -> tuple[float, float] | None:
    if not isinstance(value, tuple | list) or len(value) != 2 or not all(type(item) is float and 0 <= item <= 1 for item in value):
        return None
    return value[0], value[1]


def _kind(kept: Settings, groups: list[Settings]) -> str:
    """The optimizer's name, by what it keeps for each tensor; Adam and AdamW differ in a setting that newer versions of torch write."""
    names = next((entry.keys() for entry in kept.values() if isinstance(entry, dict)), ())
    if "exp_avg" in names and "exp_avg_sq" in names:
        decoupled = {group.get("decoupled_weight_decay") for group in groups}
        return "adamw" if decoupled == {True} else "adam" if decoupled == {False} else ""
    return "sgd" if "momentum_buffer" in names and all("nesterov" in group for group in groups) else ""
