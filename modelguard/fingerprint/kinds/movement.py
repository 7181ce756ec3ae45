"""How far training moved a model: the one number that tells a fine-tune from continued pretraining."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from modelguard.fingerprint.kinds.pair import Seen

BOUNDARY = 0.44  # of the median relative movement; a convention, see `Movement`


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """|D| / |R| over the tensors that training moved: matrices of layers, or whatever there is without any.

    Where a fine-tune ends and continued pretraining begins is a convention: BOUNDARY lies between what short training at a lower rate
    does to the zoo's models (medians of 0.2 to 0.36) and what training of equal length at the full rate does (0.46 to 1.1).
    """

    median: float
    smallest: float
    largest: float
    tensors: int

    @property
    def far(self) -> bool:
        return self.median >= BOUNDARY

    @property
    def numbers(self) -> Mapping[str, float | int | str]:
        values = {"median_movement": self.median, "smallest_movement": self.smallest, "largest_movement": self.largest}
        return {**values, "tensors": self.tensors, "boundary": BOUNDARY}


def movement(seen: Seen) -> Movement | None:
    """How far training moved a pair's tensors, or None where nothing is left for training to explain."""
    trained = seen.trained
    layered = [trait for trait in trained if trait.matrix and trait.layered]
    chosen = [trait for trait in layered if not trait.coded] or layered or list(trained)
    values = [trait.movement for trait in chosen]
    if not values:
        return None
    return Movement(median=median(values), smallest=min(values), largest=max(values), tensors=len(values))
