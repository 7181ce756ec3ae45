"""How far an optimizer can move weights at given learning rates, whatever the gradients are.

Adam: with m = (1-b1) sum b1^(t-i) g_i and v = (1-b2) sum b2^(t-i) g_i^2, Cauchy-Schwarz on (b1/sqrt b2)^(t-i) and sqrt(b2)^(t-i) g_i gives
|m/(1-b1^t)| / sqrt(v/(1-b2^t)) <= R_t = (1-b1)/sqrt(1-b2) sqrt((1-c^t)/(1-c)) sqrt(1-b2^t)/(1-b1^t), c = b1^2/b2 < 1, with equality for
g_i ~ (b1/b2)^(t-i). Epsilon, AMSGrad, clipping, loss scaling and accumulation only shrink the quotient.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, expm1, log1p

import numpy as np
from numpy.typing import NDArray

from modelguard.errors import CannotRead
from modelguard.types.displacement import OptimizerSettings

Rates = NDArray[np.float64]

ADAM = ("adam", "adamw", "adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_hf", "adamw_apex_fused", "fusedadam")
LION = ("lion", "lion_32bit")
SGD = ("sgd",)
MUON = ("muon",)
ADAFACTOR = ("adafactor",)
LOOSEST = (0.9, 0.999)  # of the settings in common use, the pair with the largest R
UNDECLARED_DECAY = 1.0  # ten times the largest decay in common use: it costs little where the rates sum to little
NEWTON_SCHULZ = 1.2024  # largest singular value that Muon's five steps (3.4445, -4.775, 2.0315) leave
SETTLE = "write the optimizer, its betas and its weight decay into the card's training hyperparameters or a training_config.json"


class NoBound(CannotRead):
    """What is declared or logged does not limit how far the weights may move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What one optimizer allows. `reach`: largest movement of an entry ("entry"), largest root mean square movement of a tensor
    ("tensor") or largest L2 movement of all weights together ("model"); `drift`: share of a weight that decay may take away.
    """

    norm: str
    reach: float
    drift: float
    matrix_reach: float | None = None  # Muon: for an (A, B) matrix, times its own factor
    scaled: bool = False  # Adafactor: times the tensor's own root mean square
    assumptions: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def adam_factor(betas: tuple[float, float], steps: int) -> Rates:
    """R_1 … R_steps, each the largest so far: the largest update of step t in units of its learning rate. Needs b1^2 < b2 < 1."""
    first, second = betas
    c = first**2 / second
    t = np.arange(1, steps + 1, dtype=np.float64)
    spread = np.sqrt(-np.expm1(t * np.log(c)) / (1 - c)) if c > 0 else np.ones_like(t)
    correction = np.sqrt(-np.expm1(t * np.log(second))) / (-np.expm1(t * np.log(first)) if first > 0 else 1.0)
    factors: Rates = np.maximum.accumulate((1 - first) / np.sqrt(1 - second) * spread * correction)
    return factors


def bound(settings: OptimizerSettings, rates: Rates, warm: int = 0, norms: Rates | None = None) -> Bound:
    """The bound for learning rates (T,) of T steps; `warm` steps came before them.

    `norms` (T,) are the gradients' norms, NaN where none is logged.

    Raises NoBound, with the reason, for an optimizer whose movement has no useful bound.
    """
    if settings.obstacles:
        raise NoBound(f"{settings.source}: {settings.obstacles[0]}: no bound holds on how far the weights may move")
    name = settings.name
    if not name or name in ADAM:
        return _adam(settings, rates, warm)
    if name in LION:
        return Bound(norm="entry", reach=float(rates.sum()), drift=_drift(settings, rates), assumptions=_decay_note(settings))
    if name in SGD:
        return _sgd(settings, rates, warm, norms)
    if name in ADAFACTOR:
        return _adafactor(settings, rates)
    if name in MUON:
        return _muon(settings, rates, warm)
    raise NoBound(f"{settings.source}: no bound is known for the optimizer {name[:40]!a}")


def _adam(settings: OptimizerSettings, rates: Rates, warm: int) -> Bound:
    betas = settings.betas or LOOSEST
    if not (0 <= betas[0] < 1 and 0 < betas[1] < 1):
        raise NoBound(f"{settings.source}: betas {betas} are none", advice=SETTLE)
    if betas[0] ** 2 >= betas[1]:
        raise NoBound(f"{settings.source}: with betas {betas} (the first squared not below the second) an update has no bound")
    factors = adam_factor(betas, warm + len(rates))[warm:]
    unsaid = () if settings.betas else (f"betas of {betas[0]} and {betas[1]}, which nobody states",)
    return Bound(norm="entry", reach=float(rates @ factors), drift=_drift(settings, rates), assumptions=(*unsaid, *_decay_note(settings)))


def _adafactor(settings: OptimizerSettings, rates: Rates) -> Bound:
    """Root mean square: sum a_t, or sum a_t s_t with s_(t+1) <= s_t (1 + a_t) where rates are in units of a tensor's own size s."""
    notes = ("Adafactor clips the root mean square of its updates at 1", *_decay_note(settings))
    reach = expm1(min(float(np.log1p(rates).sum()), 50.0)) if settings.scaled else float(rates.sum())
    return Bound(norm="tensor", reach=reach, drift=_drift(settings, rates), scaled=settings.scaled, assumptions=notes)


def _sgd(settings: OptimizerSettings, rates: Rates, warm: int, norms: Rates | None) -> Bound:
    """L2 over all weights: sum w_i n_i with w_i = sum_{t>=i} a_t mu^(t-i), n_i a gradient's norm, clipped at C, or C where none is logged.

    Nesterov's step i counts a_i + mu w_i instead, the larger of both is taken; dampening shrinks. A norm is given the least weight of
    its step and its neighbours, as logs may name it by either. Coupled decay enters by Groenwall's inequality.
    """
    mu = _momentum(settings)
    known = np.full(len(rates), np.nan) if norms is None else norms
    logged = np.isfinite(known)
    limits = [settings.clip] if settings.clip else [float(known[logged].max())] if logged[:-1].all() and logged.any() else []
    if not limits:
        raise NoBound(f"{settings.source}: SGD without clipping, and the log does not hold every step's gradient norm", advice=SETTLE)
    weights = _weights(rates, mu)
    padded = np.pad(weights, 1, mode="edge")
    least = np.minimum(np.minimum(padded[:-2], padded[2:]), weights)
    spared = float((least * np.maximum(limits[0] - np.where(logged, known, np.inf), 0.0)).sum())
    before = mu * float(weights[0]) / (1 - mu) if warm else 0.0  # what momentum carries on from earlier steps
    growth = min((settings.weight_decay or 0.0) * (float(weights.sum()) + before), 50.0)
    reach = max((float(weights.sum()) + before) * limits[0] - spared, float(np.finfo(np.float64).tiny))
    return Bound(norm="model", reach=reach * exp(growth), drift=growth * exp(growth))


def _momentum(settings: OptimizerSettings) -> float:
    if settings.momentum is None or settings.weight_decay is None:
        raise NoBound(f"{settings.source}: momentum and weight decay of SGD are not stated", advice=SETTLE)
    if not 0 <= settings.momentum < 1:
        raise NoBound(f"{settings.source}: a momentum of {settings.momentum:g} leaves movement without a bound")
    return settings.momentum


def _weights(rates: Rates, mu: float) -> Rates:
    """How far one unit of gradient at each step moves the weights by the end, with Nesterov's momentum or without."""
    weights, carried = np.empty_like(rates), 0.0
    for index in range(len(rates) - 1, -1, -1):
        carried = float(rates[index]) + mu * carried
        weights[index] = carried
    larger: Rates = np.maximum(weights, rates + mu * weights)
    return larger


def _muon(settings: OptimizerSettings, rates: Rates, warm: int) -> Bound:
    others = _adam(settings, rates, warm)
    doubt = "a run with Muon has a second group of weights under another optimizer, whose rate the log need not hold"
    return Bound(
        norm="tensor",
        reach=others.reach,
        matrix_reach=NEWTON_SCHULZ * float(rates.sum()),
        drift=others.drift,
        assumptions=others.assumptions,
        doubts=(doubt,),
    )


def muon_factor(shape: tuple[int, ...]) -> float:
    """Root mean square of an (A, B) matrix's update over rate and largest singular value, for the loosest of the usual scalings."""
    tall, wide = shape[0], int(np.prod(shape[1:]))
    scale = max(max(1.0, tall / wide) ** 0.5, 0.2 * max(tall, wide) ** 0.5)
    return float(scale * (min(tall, wide) / (tall * wide)) ** 0.5)


def _drift(settings: OptimizerSettings, rates: Rates) -> float:
    """1 - prod (1 - a_t l): the share of a weight that decoupled decay takes away."""
    decay = UNDECLARED_DECAY if settings.weight_decay is None else settings.weight_decay
    shrunk = np.minimum(rates * decay, 1 - 1e-12)
    return float(-expm1(np.log1p(-shrunk).sum())) if len(rates) else -expm1(log1p(0.0))


def _decay_note(settings: OptimizerSettings) -> tuple[str, ...]:
    return () if settings.weight_decay is not None else (f"a weight decay of at most {UNDECLARED_DECAY:g}, which nobody states",)
