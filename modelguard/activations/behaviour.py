"""Whose predictions a model makes on held-out text: teacher evidence from weights, where networks can be run.

Log-probabilities of two models of one vocabulary agree because both learned language. What is left of them after a regression on those
of control models agrees where one learned from the other, or where both saw what the controls did not: so the controls must have been
trained on the same kind of data, and that is measured: a control counts where it predicts each kind of text about as well as the model
does. (The controls' mean alone is not enough: two models that learned less than the controls lie on the same side of it.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from modelguard.activations.held_out import Text
from modelguard.activations.predictions import Predictions
from modelguard.evals.likeness import by_document, correlation, correlation_terms, interval, ratio, unique_errors
from modelguard.evals.teacher import CONFOUND, MIN_CONTROLS, MIN_ERRORS
from modelguard.types.evals import Likeness, Measure, TeacherEvidence

TOP = 64  # tokens a position: those that the controls hold likeliest
MIN_DOCUMENTS = 10
NEAR = 0.15  # nats a token by which a control of the same kind of data may predict a kind of text better or worse
FLOOR_CORRELATION, FLOOR_ERRORS = 0.6, 0.2  # chosen on the zoo: models of the same data in the same order reach 0.50 and 0.28
SOURCE = "log-probabilities of next tokens on held-out text"

Held = Callable[[Predictions, Sequence[Predictions]], tuple[float, float, float] | None]  # a model beside the others


def behaviour(
    suspect: Predictions,
    candidates: Mapping[str, Predictions],
    controls: Mapping[str, Predictions],
    text: Text,
    *,
    source: str = SOURCE,
) -> TeacherEvidence:
    """The likeness of `suspect` to every candidate. A candidate that is among the controls is none for itself."""
    near = {name: control for name, control in sorted(controls.items()) if same_domain(suspect, control, text)}
    beyond = Beyond()
    return TeacherEvidence(
        source=source,
        controls=tuple(near),
        likenesses=tuple(
            _likeness(suspect, name, candidate, [near[one] for one in near if one != name and not same(near[one], candidate)], text, beyond)
            for name, candidate in sorted(candidates.items())
        ),
    )


def losses(model: Predictions, text: Text) -> NDArray[np.float64]:
    """Nats a token for each kind of text."""
    return np.array([-model.right[text.kinds == kind].astype(np.float64).mean() for kind in np.unique(text.kinds)])


def same(one: Predictions, other: Predictions) -> bool:
    """Whether two models predict the very same: then they are one model under two names, and not each other's control."""
    return one.kept.shape == other.kept.shape and bool(np.array_equal(one.kept, other.kept))


def same_domain(model: Predictions, control: Predictions, text: Text) -> bool:
    """Whether a control predicts every kind of text about as well as the model, and is another model."""
    if model.kept.shape != control.kept.shape or same(model, control):
        return False
    gaps = losses(model, text) - losses(control, text)
    return bool(np.all(np.isfinite(gaps)) and np.all(np.abs(gaps) <= NEAR))


def _likeness(
    suspect: Predictions, name: str, candidate: Predictions, controls: Sequence[Predictions], text: Text, beyond: Beyond
) -> Likeness:
    count = len(np.unique(text.documents))
    if len(controls) < MIN_CONTROLS:
        why = f"{len(controls)} controls predict each kind of text as well as this model does: {CONFOUND}"
        return Likeness(candidate=name, measures=(), documents=count, open=why)
    if count < MIN_DOCUMENTS or suspect.vocabulary != candidate.vocabulary or suspect.kept.shape != candidate.kept.shape:
        return Likeness(candidate=name, measures=(), documents=count, open="too few documents, or models of different vocabularies")
    if not all(np.isfinite(one.kept).all() for one in (suspect, candidate, *controls)):
        return Likeness(candidate=name, measures=(), documents=count, open="a model predicts what is no number")
    found = [_residual(suspect, candidate, controls, text, beyond), _mistakes(suspect, candidate, controls, text)]
    measures = tuple(one for one in found if one is not None)
    missing = "" if len(measures) == len(found) else "too few mistakes that only the two could share, or predictions without variation"
    return Likeness(candidate=name, measures=measures, documents=count, open=missing)


def _residual(suspect: Predictions, candidate: Predictions, controls: Sequence[Predictions], text: Text, beyond: Beyond) -> Measure | None:
    """Correlation of what the two say beyond the controls; each control takes the model's place beside the others."""

    def held(side: Predictions, others: Sequence[Predictions]) -> tuple[float, float, float] | None:
        ours, theirs = beyond.left(side, others), beyond.left(candidate, others)
        return interval(by_document(correlation_terms(ours, theirs), text.documents), correlation)

    return _measure("residual log-probability correlation", held, suspect, controls, len(suspect.kept), FLOOR_CORRELATION)


class Beyond:
    """What is left of log-probabilities after a regression on other models', each set of which is prepared once."""

    def __init__(self) -> None:
        self._prepared: dict[tuple[int, ...], tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]] = {}
        self._alive: list[Sequence[Predictions]] = []  # what an id names stays what it was

    def left(self, one: Predictions, others: Sequence[Predictions]) -> NDArray[np.float64]:
        """(positions, TOP) of the others' likeliest tokens, centred at each position, without what the others tell of them."""
        top, known, inverse = self._of(others)
        own = _centred(one, top)
        return np.asarray(own - ((inverse @ (known @ own.ravel())) @ known).reshape(own.shape))

    def _of(self, others: Sequence[Predictions]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        key = tuple(map(id, others))
        if key not in self._prepared:
            mean = np.mean([one.kept for one in others], axis=0)
            top = np.argpartition(-mean, min(TOP, mean.shape[1]) - 1, axis=1)[:, :TOP]
            known = np.stack([_centred(one, top).ravel() for one in others])  # (others, positions * TOP)
            self._prepared[key] = top, known, np.asarray(np.linalg.pinv(known @ known.T, hermitian=True), dtype=np.float64)
            self._alive.append(others)
        return self._prepared[key]


def _centred(one: Predictions, top: NDArray[np.int64]) -> NDArray[np.float64]:
    chosen = np.take_along_axis(one.kept, top, axis=1).astype(np.float64)
    return np.asarray(chosen - chosen.mean(axis=1, keepdims=True))


def _mistakes(suspect: Predictions, candidate: Predictions, controls: Sequence[Predictions], text: Text) -> Measure | None:
    """The share of the candidate's own mistakes that the model makes too."""

    def terms(side: Predictions, others: Sequence[Predictions]) -> NDArray[np.float64]:
        return unique_errors(side.said, candidate.said, text.following, [one.said for one in others])

    def held(side: Predictions, others: Sequence[Predictions]) -> tuple[float, float, float] | None:
        found = terms(side, others)
        return interval(by_document(found, text.documents), ratio) if found[:, 1].sum() >= MIN_ERRORS else None

    count = int(terms(suspect, controls)[:, 1].sum())
    return _measure("unique shared errors", held, suspect, controls, count, FLOOR_ERRORS)


def _measure(name: str, held: Held, suspect: Predictions, controls: Sequence[Predictions], count: int, floor: float) -> Measure | None:
    found = held(suspect, controls)
    band = [held(control, [other for other in controls if other is not control]) for control in controls]
    if found is None or any(one is None for one in band):
        return None
    values = tuple(one[0] for one in band if one is not None)
    return Measure(name=name, value=found[0], low=found[1], high=found[2], controls=values, n=count, floor=floor)
