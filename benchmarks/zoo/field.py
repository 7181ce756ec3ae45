"""What the field uses instead, each in a few lines of its own, on the same pairs. None where a statistic is not defined for a pair.

raw cosine       all parameters of equal name and shape as one vector (the "PCS" baseline of Zeng et al. 2024, arXiv 2312.04828)
norm cosine      the same over the norms' gains: what accused Solar-Open of GLM-4.5-Air in 2026, without centring
sigma profile    Pearson correlation of the standard deviation of q, k, v, o over layers (Yoon et al. 2025, arXiv 2507.03014)
UCKA             q and k after an assignment of embedding columns, unbiased CKA over residual axes (AWM, arXiv 2510.06738), names in order
CKA              linear CKA of the last hidden states on probe texts (REEF, Zhang et al. 2025, arXiv 2410.14273)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.zoo.families import FAMILIES, LLAMA, OTHER_TOKENS, PHI3
from benchmarks.zoo.making import Made
from benchmarks.zoo.text import CONTEXT, SIZES, tokens
from benchmarks.zoo.training import Tensors, loaded, saved

Vector = NDArray[np.float64]
COLUMNS = ("raw cosine", "norm cosine", "sigma profile", "UCKA", "CKA")
NORM = re.compile(r"norm[^.]*\.weight$|ln_\w+\.weight$|normalization\.weight$", re.IGNORECASE)
PROJECTION = re.compile(
    r"\.(\d+)\.(?:.*\.)?(q_proj|k_proj|v_proj|o_proj|query|key|value|c_attn|qkv_proj|attention\.output\.dense)\.weight$"
)
RUNNING = (LLAMA, OTHER_TOKENS, "gpt2", "bert", PHI3)
PROBES = 8  # texts of the usual length


def columns(family: str, left: Made, right: Made) -> dict[str, float | None]:
    """All columns for one pair."""
    ours, theirs = _floats(left), _floats(right)
    shared = sorted(name for name in ours if name in theirs and ours[name].shape == theirs[name].shape)
    gains = [name for name in shared if NORM.search(name)]
    return {
        "raw cosine": _cosine(ours, theirs, shared),
        "norm cosine": _cosine(ours, theirs, gains),
        "sigma profile": _profiles(ours, theirs),
        "UCKA": _aligned(ours, theirs),
        "CKA": _hidden(family, ours, theirs),
    }


def _cosine(ours: Tensors, theirs: Tensors, names: list[str]) -> float | None:
    products = np.array([[np.vdot(a, b), np.vdot(a, a), np.vdot(b, b)] for a, b in ((ours[name], theirs[name]) for name in names)])
    if not len(products):
        return None
    product, left, right = products.astype(np.float64).sum(axis=0)
    return float(product / np.sqrt(left * right)) if left * right > 0 else None


def _profiles(ours: Tensors, theirs: Tensors) -> float | None:
    """Mean over projections of the correlation over layers; of different depth, the shallower is interpolated."""
    left, right = _spreads(ours), _spreads(theirs)
    found = [_correlation(left[part], right[part]) for part in sorted(left) if part in right and min(len(left[part]), len(right[part])) > 2]
    return float(np.mean(found)) if found else None


def _spreads(tensors: Tensors) -> dict[str, Vector]:
    spreads: dict[str, dict[int, float]] = {}
    for name, value in tensors.items():
        if match := PROJECTION.search(name):
            spreads.setdefault(match[2], {})[int(match[1])] = float(value.std())
    return {part: np.array([by_layer[layer] for layer in sorted(by_layer)]) for part, by_layer in spreads.items()}


def _correlation(left: Vector, right: Vector) -> float:
    count = max(len(left), len(right))
    a, b = (np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(side)), side) for side in (left, right))
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b))) if (a @ a) * (b @ b) > 0 else 0.0


def _aligned(ours: Tensors, theirs: Tensors) -> float | None:
    tables = [next((side[name] for name in sorted(side) if name.endswith("embed_tokens.weight")), None) for side in (ours, theirs)]
    names = [name for name in sorted(ours) if re.search(r"self_attn\.[qk]_proj\.weight$", name) and name in theirs]
    if tables[0] is None or tables[1] is None or not names or tables[0].shape[1] != tables[1].shape[1]:
        return None
    from scipy.optimize import linear_sum_assignment

    tokens = min(len(tables[0]), len(tables[1]))
    cosines = _unit(tables[0][:tokens].T) @ _unit(tables[1][:tokens].T).T  # (width, width)
    _, partner = linear_sum_assignment(-np.abs(cosines))
    sign = np.sign(cosines[np.arange(len(partner)), partner])
    values = [_unbiased_cka(ours[name].T, theirs[name].T[partner] * sign[:, None]) for name in names]
    return float(np.mean(values))


def _unit(rows: NDArray[np.float32]) -> Vector:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float64)


def _unbiased_cka(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """CKA of two (n, p) and (n, q) with U-centred products (Song et al. 2012): diagonals are left out."""
    a, b = (_centred(side.astype(np.float64) @ side.astype(np.float64).T) for side in (left, right))
    scale = float(np.vdot(a, a) * np.vdot(b, b))
    return float(np.vdot(a, b) / np.sqrt(scale)) if scale > 0 else 0.0


def _centred(product: Vector) -> Vector:
    n = len(product)
    np.fill_diagonal(product, 0.0)
    means = product.sum(axis=1) / (n - 2)
    means -= means.sum() / (2 * (n - 1))
    product = product - means[:, None] - means[None, :]
    np.fill_diagonal(product, 0.0)
    return np.asarray(product)


def _hidden(family: str, ours: Tensors, theirs: Tensors) -> float | None:
    left, right = _states(family, ours), _states(family, theirs)
    if left is None or right is None:
        return None
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    scale = float(np.linalg.norm(left.T @ left) * np.linalg.norm(right.T @ right))
    return float(np.linalg.norm(left.T @ right) ** 2 / scale) if scale > 0 else None


def _states(family: str, tensors: Tensors) -> Vector | None:
    """The last hidden states (texts x tokens, width) of a model whose tensors are those of the family; None for another layout."""
    if family not in RUNNING or _places(tensors) != _own(family):
        return None
    import torch

    words = tokens("other") % SIZES["pairs"]  # below every vocabulary
    ids = torch.from_numpy(words[: PROBES * CONTEXT].reshape(PROBES, CONTEXT))
    with torch.inference_mode():
        states = loaded(family, tensors)(input_ids=ids, output_hidden_states=True).hidden_states[-1]
    return np.asarray(states.reshape(-1, states.shape[-1]).numpy(), dtype=np.float64)


@cache
def _own(family: str) -> set[str]:
    return _places(saved(FAMILIES[family]()))


def _places(tensors: Mapping[str, object]) -> set[str]:
    return {re.sub(r"\.\d+\.", ".#.", name) for name in tensors}


def _floats(made: Made) -> Tensors:
    return {name: np.asarray(value, dtype=np.float32) for name, value in made.items()}
