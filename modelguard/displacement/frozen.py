"""What the settings of a training say did not move, or moved only in few directions, against what did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from modelguard.displacement.measure import Movement, Sides, beyond_rank

MAX_RANKED = 64  # matrices whose rank is looked at: the largest movements first
EMBEDDINGS = ("embed", "wte", "wpe", "lm_head", "word_embeddings", "shared", "score", "classifier", "norm", "bias")


def thawed(moved: Iterable[Movement], frozen: Sequence[str]) -> tuple[str, ...]:
    """Tensors of the parts that are stated as frozen which moved by more than rounding, in name order."""
    return tuple(sorted(item.name for item in moved if item.squares > item.rounding and any(_within(item.name, part) for part in frozen)))


def _within(name: str, part: str) -> bool:
    """Whether `part` is a run of components of a tensor's name: `encoder.layer.0` of `bert.encoder.layer.0.output.dense.weight`."""
    return f".{part}." in f".{name}."


def above_rank(
    moved: Iterable[Movement], partners: Mapping[str, str], sides: Sides, rank: int, whole: Sequence[str]
) -> tuple[tuple[str, ...], int]:
    """(matrices whose movement has a higher rank than the adapter's, matrices looked at): not those that an adapter leaves whole."""
    matrices = [item for item in moved if len(item.shape) == 2 and item.squares > item.rounding and not _whole(item.name, whole)]
    matrices.sort(key=lambda item: (-item.squares, item.name))
    chosen = matrices[:MAX_RANKED]
    return tuple(sorted(item.name for item in chosen if beyond_rank(sides, (item.name, partners[item.name]), rank))), len(chosen)


def _whole(name: str, whole: Sequence[str]) -> bool:
    return any(part in name for part in EMBEDDINGS) or any(_within(name, part) for part in whole)
