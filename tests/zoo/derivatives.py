"""What is made of a trained model: (the derivative, the model it is held against) of every kind, by the kind's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tests.zoo.rewriting import axes_permuted, permuted, rotated, uneven
from tests.zoo.training import VOCABULARY, Recipe, Tensors, retrained, trained

Made = tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.generic]]]  # (derivative, base)
Kind = Callable[[Recipe], Made]

SECRET = 77  # seed of the permutations and rotations


def _matrices(change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: change(value) if value.ndim == 2 else value for name, value in tensors.items()}


def rounded(bits: int) -> Callable[[Tensors], Tensors]:
    """Symmetric levels with one scale a row."""

    def change(value: NDArray[np.float32]) -> NDArray[np.float32]:
        scale = np.abs(value).max(axis=1, keepdims=True) / np.float32(2 ** (bits - 1) - 1)
        return np.asarray(np.rint(value / np.where(scale > 0, scale, 1)) * scale, dtype=np.float32)

    return _matrices(change)


half_pruned = _matrices(lambda value: np.where(np.abs(value) >= np.median(np.abs(value)), value, np.float32(0)))


def merged(share: float) -> Kind:
    """A merge with another model of the family, independent of the base."""

    def made(recipe: Recipe) -> Made:
        base, other = trained(recipe), trained(replace(recipe, seed=(recipe.seed + 1) % 2, data="code", order=None))
        return {name: np.float32(share) * value + np.float32(1 - share) * other[name] for name, value in base.items()}, dict(base)

    return made


def _of(change: Callable[[Tensors], Tensors]) -> Kind:
    return lambda recipe: (dict(change(trained(recipe))), dict(trained(recipe)))


def _then_tuned(change: Callable[[Tensors], Tensors]) -> Kind:
    return lambda recipe: (dict(retrained(recipe, change(trained(recipe)))), dict(trained(recipe)))


def turned(tensors: Tensors) -> Tensors:
    """The residual stream in another frame: rotated where norms are RMS norms, its axes permuted where they are layer norms."""
    return rotated(tensors, SECRET) if "model.norm.weight" in tensors else axes_permuted(tensors, SECRET)


def reordered(tensors: Tensors) -> Tensors:
    return permuted(tensors, SECRET)


def _uneven(recipe: Recipe) -> Made:
    base = uneven(trained(recipe), SECRET)
    return dict(retrained(recipe, turned(base))), dict(base)


def _both_uneven(recipe: Recipe) -> Made:
    base = uneven(trained(recipe), SECRET)
    return dict(retrained(recipe, reordered(turned(base)))), dict(base)


def _both_extended(recipe: Recipe) -> Made:
    """A full disguise with eight more tokens, as fine-tunes for conversation have them."""
    base = trained(recipe)
    rows = {name: np.concatenate([value, value[:8] * np.float32(0.5)]) for name, value in base.items() if len(value) == VOCABULARY}
    return dict(reordered(turned(base | rows))), dict(base)


def _cast(tensors: Tensors) -> Tensors:
    return {name: value.astype(ml_dtypes.bfloat16) for name, value in tensors.items()}  # type: ignore[misc]


def _renamed(tensors: Tensors) -> Tensors:
    return {f"backbone.{name}": value for name, value in tensors.items()}


KINDS: dict[str, Kind] = {
    "cast to bfloat16": _of(_cast),
    "renamed": _of(_renamed),
    "fine-tuned": _then_tuned(lambda tensors: tensors),
    "8-bit": _of(rounded(8)),
    "4-bit": _of(rounded(4)),
    "half pruned": _of(half_pruned),
    "half of it in a merge": merged(0.5),
    "a fifth of it in a merge": merged(0.2),
    "units permuted": _of(reordered),
    "units permuted, then fine-tuned": _then_tuned(reordered),
    "stream turned": _of(turned),
    "stream turned, then fine-tuned": _then_tuned(turned),
    "both": _of(lambda tensors: reordered(turned(tensors))),
    "both, then fine-tuned": _then_tuned(lambda tensors: reordered(turned(tensors))),
    "both, then 4-bit": _of(lambda tensors: rounded(4)(reordered(turned(tensors)))),
}
OF_LLAMAS: dict[str, Kind] = {
    "both, vocabulary extended": _both_extended,
    "stream turned, gains uneven, fine-tuned": _uneven,
    "both, gains uneven, fine-tuned": _both_uneven,
}
