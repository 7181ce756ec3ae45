"""Noised: every matrix changed by something without any structure, as independent random numbers are."""

from __future__ import annotations

from statistics import median

from modelguard.fingerprint.kinds.pair import Seen
from modelguard.types.weights import KindDetail

FLAT = 1.1  # largest singular value over that of noise; the zoo's training never stays below 1.5, noise never leaves 0.9 to 1.05
TAILS = 6.0  # kurtosis; few changed entries, as of training in a narrow type, have heavier tails
MIN_MATRICES = 2
SHARE = 0.9
YIELDS_TO = ("lora-merged", "merged")


def shown(seen: Seen) -> KindDetail | None:
    """Flat spectra in nine tenths of the changed matrices."""
    moved = [trait for trait in seen.moved if trait.spectrum is not None and not trait.coded and not trait.scaling]
    flat = [(trait, trait.spectrum) for trait in moved if trait.spectrum and trait.spectrum.flatness <= FLAT and trait.kurtosis <= TAILS]
    if len(flat) < max(MIN_MATRICES, SHARE * len(moved)) or any(spectrum.negligible for _, spectrum in flat):
        return None
    sizes = [trait.noise for trait, _ in flat]
    text = f"the change of {len(flat)} matrices is as flat as noise, of {median(sizes):.2g} of their standard deviation"
    return KindDetail(
        kind="noised",
        text=text,
        numbers={
            "matrices": len(flat),
            "median_size": median(sizes),
            "smallest_size": min(sizes),
            "largest_size": max(sizes),
            "largest_flatness": max(spectrum.flatness for _, spectrum in flat),
            "flatness_limit": FLAT,
            "median_kurtosis": median(trait.kurtosis for trait, _ in flat),
        },
    )
