"""LoRA merged: every matrix of a layer that changed did so by a matrix of low rank, down to the rounding of the stored values."""

from __future__ import annotations

from modelguard.fingerprint.kinds.pair import Seen
from modelguard.fingerprint.kinds.spectra import EDGE, ROUNDING
from modelguard.types.weights import KindDetail

MIN_MATRICES = 2
YIELDS_TO = ("merged",)


def shown(seen: Seen) -> KindDetail | None:
    """Low rank in all changed matrices of layers; tables of tokens and vectors may have been trained whole beside them."""
    spectra = [trait.spectrum for trait in seen.moved if trait.spectrum is not None and not trait.coded]
    low = [spectrum for spectrum in spectra if spectrum.low]
    if len(low) < MIN_MATRICES or not all(spectrum.low or spectrum.negligible for spectrum in spectra):
        return None
    ranks, remainder = [spectrum.rank for spectrum in low], max(spectrum.remainder for spectrum in low)
    text = f"{len(low)} matrices changed by rank {max(ranks)} or less, what is left is rounding"
    return KindDetail(
        kind="lora-merged",
        text=text,
        numbers={
            "matrices": len(low),
            "rank": max(ranks),
            "smallest_rank": min(ranks),
            "largest_remainder": remainder,
            "remainder_limit": ROUNDING,
            "signal_above_rounding_edge": EDGE,
        },
    )
