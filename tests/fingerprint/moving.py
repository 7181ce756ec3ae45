"""Real training of a small transformer, with the log that it would leave, and logs that leave part of it out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from modelguard.logs.base import assemble
from modelguard.types.displacement import OptimizerSettings
from modelguard.types.logs import TrainingLog
from benchmarks.zoo.training import FAMILIES, Recipe, batch_of, trained

FAMILY = "llama, 64 wide, 256 units"
INTERVAL = 5  # steps between rows
WEIGHT_DECAY = 0.01
Tensors = dict[str, NDArray[Any]]


Rows = tuple[tuple[float, ...], ...]  # (step, rate, the gradient's norm, the weights' norm after the step)


@dataclass(frozen=True, slots=True)
class Tuning:
    """One way of fine-tuning: what the papers would state, the peak rate, and how the weights are held."""

    settings: OptimizerSettings
    peak: float
    trained: str = "float32"
    stored: str = "float32"
    rule: str = ""  # which of Muon's scalings


def _adam(second: float, trained: str = "float32", stored: str = "float32") -> Tuning:
    settings = OptimizerSettings(name="adamw", betas=(0.9, second), weight_decay=WEIGHT_DECAY, source="card")
    return Tuning(settings, 1e-3, trained, stored)


def _sgd(momentum: float, peak: float) -> Tuning:
    return Tuning(OptimizerSettings(name="sgd", momentum=momentum, weight_decay=0.0, clip=1.0, source="card"), peak)


def _muon(rule: str, peak: float) -> Tuning:
    return Tuning(OptimizerSettings(name="muon", betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY, source="card"), peak, rule=rule)


TUNINGS = {
    "AdamW .9/.999": _adam(0.999),
    "AdamW .9/.95": _adam(0.95),
    "AdamW .9/.95, saved as bfloat16": _adam(0.95, stored="bfloat16"),
    "AdamW .9/.95, trained in bfloat16": _adam(0.95, trained="bfloat16", stored="bfloat16"),
    "Lion": Tuning(OptimizerSettings(name="lion", weight_decay=WEIGHT_DECAY, source="card"), 3e-4),
    "SGD, clipped": _sgd(0.9, 2e-2),
    "SGD, clipped, no momentum": _sgd(0.0, 2e-1),
    "Adafactor": Tuning(OptimizerSettings(name="adafactor", weight_decay=0.0, scaled=True, source="card"), 1e-2),
    "Muon, original scaling": _muon("original", 1e-2),
    "Muon, scaled to AdamW": _muon("match_rms_adamw", 1e-3),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A base, the same weights after training, and what every step logs."""

    base: Tensors
    after: Tensors
    rows: Rows


@cache
def base(seed: int, stored: str = "float32") -> Tensors:
    """A model that was trained for a while."""
    return _as_stored(trained(Recipe(FAMILY, seed, steps=40)), stored)


def _as_stored(tensors: Tensors, stored: str) -> Tensors:
    kind = ml_dtypes.bfloat16 if stored == "bfloat16" else np.float32
    return {name: value.astype(kind) for name, value in tensors.items()}


@cache
def tuned(tuning: str, seed: int, steps: int) -> Outcome:
    """A real fine-tune on other data, with a warmup of a tenth and linear decay, as the Hugging Face Trainer schedules it."""
    import torch

    chosen, rng = TUNINGS[tuning], np.random.default_rng(seed + 100)
    start = base(seed, chosen.stored)
    network = FAMILIES[FAMILY]()
    network.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in start.items()})
    network.to(getattr(torch, chosen.trained))
    optimisers = _optimisers(chosen, network)
    torch.set_num_threads(1)
    network.train()
    rows = []
    for step in range(steps):
        rate = chosen.peak * min(step / max(1, steps // 10), (steps - step) / (steps - steps // 10))
        network.zero_grad()
        network(**batch_of(Recipe(FAMILY, seed, "chain"), rng)).loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0))
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        rows.append((step + 1, rate, norm, float(torch.nn.utils.get_total_norm(network.parameters()))))
    after = {name: value.detach().float().numpy() for name, value in network.state_dict().items() if name in start}
    return Outcome(start, _as_stored(after, chosen.stored), tuple(rows))


def _optimisers(tuning: Tuning, network: Any) -> list[Any]:
    import torch

    settings, parameters = tuning.settings, list(network.parameters())
    adam = {"lr": tuning.peak, "betas": settings.betas or (0.9, 0.999), "weight_decay": WEIGHT_DECAY}
    if settings.name == "sgd":
        return [torch.optim.SGD(parameters, lr=tuning.peak, momentum=settings.momentum or 0.0)]
    if settings.name == "lion":
        return [lion(parameters)]
    if settings.name == "adafactor":
        return [torch.optim.Adafactor(parameters, lr=tuning.peak)]
    if settings.name == "muon":
        hidden = [value for name, value in network.named_parameters() if value.ndim == 2 and ".layers." in name]
        others = [value for name, value in network.named_parameters() if value.ndim != 2 or ".layers." not in name]
        muon = torch.optim.Muon(hidden, lr=tuning.peak, weight_decay=WEIGHT_DECAY, adjust_lr_fn=tuning.rule)
        return [muon, torch.optim.AdamW(others, **adam)]
    return [torch.optim.AdamW(parameters, **adam)]


def lion(parameters: list[Any]) -> Any:
    """Lion (Chen et al. 2023): the sign of an interpolated momentum, with decoupled decay."""
    import torch

    class Lion(torch.optim.Optimizer):  # type: ignore[misc]
        @torch.no_grad()  # type: ignore[untyped-decorator]
        def step(self, closure: Callable[[], float] | None = None) -> None:
            for group in self.param_groups:
                for weight in group["params"]:
                    momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                    weight.mul_(1 - group["lr"] * WEIGHT_DECAY)
                    weight.add_(torch.sign(0.9 * momentum + 0.1 * weight.grad), alpha=-group["lr"])
                    momentum.mul_(0.99).add_(weight.grad, alpha=0.01)

    return Lion(parameters, {"lr": 1e-4})


def state(rows: Rows, interval: int = INTERVAL, *, weights: bool = False) -> bytes:
    """The trainer state of these steps, one row in `interval`; with the weights' norms where asked for."""
    history = []
    for step, rate, norm, *others in (row for row in rows if row[0] % interval == 0):
        history.append({"step": step, "epoch": step / 100, "loss": 3.0, "learning_rate": rate, "grad_norm": norm})
        history[-1] |= {"params_norm": others[0]} if weights else {}
    claims = {"global_step": rows[-1][0], "max_steps": rows[-1][0], "logging_steps": interval}
    return json.dumps({**claims, "log_history": history}).encode()


def log(rows: Rows, interval: int = INTERVAL, *, weights: bool = False) -> TrainingLog:
    """What our readers make of that state."""
    read = assemble({"trainer_state.json": state(rows, interval, weights=weights)})
    assert isinstance(read, TrainingLog)
    return read


def without(rows: Rows, part: str) -> Rows:
    """The rows with their head, middle or tail third gone and the rest renumbered, so that no gap shows."""
    third = len(rows) // 3
    kept = {"head": rows[third:], "middle": rows[:third] + rows[2 * third :], "tail": rows[: 2 * third], "nothing": rows}[part]
    return tuple((index, *row[1:]) for index, row in enumerate(kept, start=1))
