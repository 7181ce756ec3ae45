"""Predictions held against controls: a student stands out, shared data alone does not, and strangers to the domain decide nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelguard.activations.behaviour import Beyond, behaviour, same, same_domain
from modelguard.activations.held_out import Text
from modelguard.activations.predictions import Predictions, predictions_of
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


def model(seed: int, *, teacher: int | None = None, share: float = 0.8, shift: float = 0.0) -> Predictions:
    own = tastes(seed) if teacher is None else np.sqrt(1 - share) * tastes(seed) + np.sqrt(share) * tastes(teacher)
    scores = LANGUAGE + own
    scores[np.arange(len(scores)), TEXT.following] += 1.0 - shift
    return predictions_of(np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)), dtype=np.float32), TEXT.following)


CANDIDATES = {f"m{seed}": model(seed) for seed in range(6)}
CONTROLS = {f"c{seed}": model(seed) for seed in range(10, 14)}


def likenesses(suspect: Predictions, controls: dict[str, Predictions] = CONTROLS) -> dict[str, Likeness]:
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
    suspect.kept[7, 7] = value
    assert all(one.open for one in likenesses(suspect).values())


def test_constant_and_misshapen_predictions_decide_nothing() -> None:
    flat = predictions_of(np.full((len(LANGUAGE), WORDS), -np.log(WORDS), np.float32), TEXT.following)
    nearly = [replace(flat, kept=flat.kept + np.float32(shift)) for shift in (0.01, 0.02)]
    assert all(one.open for one in behaviour(flat, CANDIDATES, {"a": nearly[0], "b": nearly[1]}, TEXT).likenesses)
    narrow = {"m0": replace(CANDIDATES["m0"], kept=CANDIDATES["m0"].kept[:, :50])}
    (only,) = behaviour(model(50), narrow, CONTROLS, TEXT).likenesses
    assert only.open


def test_a_model_under_two_names_is_no_control() -> None:
    """A copy of the model, or of the candidate, among the controls would raise the bar for itself."""
    student = model(50, teacher=3)
    copies = {"the model again": student, "the teacher again": CANDIDATES["m3"]}
    assert same(copies["the teacher again"], CANDIDATES["m3"])
    assert likenesses(student, CONTROLS | copies)["m3"].measures == likenesses(student)["m3"].measures
    assert [name for name, one in likenesses(student, CONTROLS | copies).items() if one.close] == ["m3"]


def test_two_models_that_learned_less_are_not_alike_for_that() -> None:
    """Whoever learned less than the controls lies on the same side of their mean; a regression on them takes that out."""

    def weaker(seed: int) -> Predictions:
        scores = 0.4 * LANGUAGE + 0.4 * tastes(seed)
        scores[np.arange(len(scores)), TEXT.following] += 0.9
        return predictions_of(np.asarray(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)), dtype=np.float32), TEXT.following)

    controls = list(CONTROLS.values())
    beyond = Beyond()
    ours, theirs = (beyond.left(weaker(seed), controls) for seed in (70, 71))
    held = np.mean([one.kept for one in controls], axis=0)
    alone = [(one.kept - held).ravel() for one in (weaker(70), weaker(71))]
    assert np.corrcoef(*alone)[0, 1] > 0.7  # what the mean alone leaves
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] < 0.3


def test_a_candidate_is_no_control_for_itself() -> None:
    both = behaviour(model(52, teacher=10), {"c10": CONTROLS["c10"]}, CONTROLS, TEXT).likenesses
    assert both[0].close
    assert len(both[0].measures[0].controls) == 3
