"""Predictions held against controls: a student stands out, shared data alone does not, and strangers to the domain decide nothing."""

from __future__ import annotations

import numpy as np
import pytest

from modelguard.activations.behaviour import LogProbabilities, Text, behaviour, same_domain
from modelguard.types.evals import Likeness

DOCUMENTS, EACH, WORDS = 20, 40, 100
RNG = np.random.default_rng(5)
TEXT = Text(
    following=RNG.integers(0, WORDS, DOCUMENTS * EACH),
    documents=np.repeat(np.arange(DOCUMENTS), EACH),
    kinds=np.repeat(np.array([0, 1]), DOCUMENTS * EACH // 2),
)
LANGUAGE = RNG.normal(size=(DOCUMENTS * EACH, WORDS)) * 1.5  # what every model of the domain learns


def tastes(seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(size=LANGUAGE.shape)


def model(seed: int, *, teacher: int | None = None, share: float = 0.8, shift: float = 0.0) -> LogProbabilities:
    own = tastes(seed) if teacher is None else np.sqrt(1 - share) * tastes(seed) + np.sqrt(share) * tastes(teacher)
    scores = LANGUAGE + own
    scores[np.arange(len(scores)), TEXT.following] += 1.0 - shift
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)), dtype=np.float32)


CANDIDATES = {f"m{seed}": model(seed) for seed in range(6)}
CONTROLS = {f"c{seed}": model(seed) for seed in range(10, 14)}


def likenesses(suspect: LogProbabilities, controls: dict[str, LogProbabilities] = CONTROLS) -> dict[str, Likeness]:
    return {one.candidate: one for one in behaviour(suspect, CANDIDATES, controls, TEXT).likenesses}


def test_the_teacher_stands_out_alone() -> None:
    found = likenesses(model(50, teacher=3))
    assert [name for name, one in found.items() if one.close] == ["m3"]
    values = {name: one.measures[0].value for name, one in found.items()}
    assert max(values, key=lambda name: values[name]) == "m3"
    assert all(measure.low <= measure.value <= measure.high for one in found.values() for measure in one.measures)


def test_independent_models_are_not_close() -> None:
    assert not [one for seed in range(60, 66) for one in likenesses(model(seed)).values() if one.close]


def test_a_little_in_common_is_not_enough() -> None:
    assert not [one for one in likenesses(model(50, teacher=3, share=0.2)).values() if one.close]


def test_controls_of_another_domain_do_not_count() -> None:
    shifted = model(50, teacher=3, shift=2.0)
    assert not same_domain(shifted, CONTROLS["c10"], TEXT)
    found = likenesses(shifted)
    assert all(one.open and "learned from the same data" in one.open for one in found.values())
    assert not any(one.close for one in found.values())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_decides_nothing(value: float) -> None:
    suspect = model(50, teacher=3)
    suspect[7, 7] = value
    assert all(one.open for one in likenesses(suspect).values())


def test_constant_and_misshapen_predictions_decide_nothing() -> None:
    flat = np.full_like(CONTROLS["c10"], -np.log(WORDS))
    alike = {"a": flat, "b": flat.copy()}
    assert all(one.open for one in behaviour(flat, CANDIDATES, alike, TEXT).likenesses)
    narrow = {"m0": CANDIDATES["m0"][:, :50]}
    (only,) = behaviour(model(50), narrow, CONTROLS, TEXT).likenesses
    assert only.open


def test_a_candidate_is_no_control_for_itself() -> None:
    both = behaviour(model(52, teacher=10), {"c10": CONTROLS["c10"]}, CONTROLS, TEXT).likenesses
    assert both[0].close
    assert len(both[0].measures[0].controls) == 3
