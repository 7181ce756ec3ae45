"""Real training of a small transformer, with the log that it would leave, and logs that leave part of it out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelguard.logs.base import assemble
from modelguard.types.displacement import OptimizerSettings
from modelguard.types.logs import TrainingLog
from tests.zoo.training import FAMILIES, Recipe, _batch, trained

FAMILY = "llama, 64 wide, 256 units"
INTERVAL = 5  # steps between rows
WEIGHT_DECAY = 0.01
Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Tuning:
    """One way of fine-tuning: what the papers would state, and the peak rate."""

    settings: OptimizerSettings
    peak: float


def _adam(second: float) -> Tuning:
    return Tuning(OptimizerSettings(name="adamw", betas=(0.9, second), weight_decay=WEIGHT_DECAY, source="card"), 1e-3)


TUNINGS = {
    "AdamW .9/.999": _adam(0.999),
    "AdamW .9/.95": _adam(0.95),
    "Lion": Tuning(OptimizerSettings(name="lion", weight_decay=WEIGHT_DECAY, source="card"), 3e-4),
    "SGD, clipped": Tuning(OptimizerSettings(name="sgd", momentum=0.9, weight_decay=0.0, clip=1.0, source="card"), 2e-2),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A base, the same weights after training, and (step, rate, gradient norm) of every step."""

    base: Tensors
    after: Tensors
    rows: tuple[tuple[int, float, float], ...]


def base(seed: int) -> Tensors:
    """A model that was trained for a while."""
    return trained(Recipe(FAMILY, seed, steps=40))


@cache
def tuned(tuning: str, seed: int, steps: int) -> Outcome:
    """A real fine-tune on other data, with a warmup of a tenth and linear decay, as the Hugging Face Trainer schedules it."""
    import torch

    chosen, start, rng = TUNINGS[tuning], base(seed), np.random.default_rng(seed + 100)
    network = FAMILIES[FAMILY]()
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in start.items()})
    optimiser = _optimiser(chosen, list(network.parameters()))
    torch.set_num_threads(1)
    network.train()
    rows = []
    for step in range(steps):
        rate = chosen.peak * min(step / max(1, steps // 10), (steps - step) / (steps - steps // 10))
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad()
        network(**_batch(Recipe(FAMILY, seed, "chain"), rng)).loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0))
        optimiser.step()
        rows.append((step + 1, rate, norm))
    after = {name: value.detach().numpy().copy() for name, value in network.state_dict().items() if name in start}
    return Outcome(start, after, tuple(rows))


def _optimiser(tuning: Tuning, parameters: list[Any]) -> Any:
    import torch

    if tuning.settings.name == "sgd":
        return torch.optim.SGD(parameters, lr=tuning.peak, momentum=0.9)
    if tuning.settings.name == "lion":
        return lion(parameters)
    return torch.optim.AdamW(parameters, lr=tuning.peak, betas=tuning.settings.betas, weight_decay=WEIGHT_DECAY)


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


def state(rows: tuple[tuple[int, float, float], ...]) -> bytes:
    """The trainer state of these steps, one row in INTERVAL."""
    kept = [row for row in rows if row[0] % INTERVAL == 0]
    history = [{"step": s, "epoch": s / 100, "loss": 3.0, "learning_rate": rate, "grad_norm": norm} for s, rate, norm in kept]
    claims = {"global_step": rows[-1][0], "max_steps": rows[-1][0], "logging_steps": INTERVAL}
    return json.dumps({**claims, "log_history": history}).encode()


def log(rows: tuple[tuple[int, float, float], ...]) -> TrainingLog:
    """What our readers make of that state."""
    read = assemble({"trainer_state.json": state(rows)})
    assert isinstance(read, TrainingLog)
    return read


def without(rows: tuple[tuple[int, float, float], ...], part: str) -> tuple[tuple[int, float, float], ...]:
    """The rows with their head, middle or tail third gone and the rest renumbered, so that no gap shows."""
    third = len(rows) // 3
    kept = {"head": rows[third:], "middle": rows[:third] + rows[2 * third :], "tail": rows[: 2 * third], "nothing": rows}[part]
    return tuple((index, rate, norm) for index, (_, rate, norm) in enumerate(kept, start=1))
