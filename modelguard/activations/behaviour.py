"""Whose predictions a model makes on held-out text: teacher evidence from weights, where networks can be run.

Log-probabilities of two models of one vocabulary agree because both learned language. What is left after the mean of control models is
taken out agrees where one learned from the other, or where both saw what the controls did not: so the controls must have been trained
on the same kind of data, and that is measured: a control counts where it predicts each kind of text about as well as the model does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelguard.evals.likeness import by_document, correlation, correlation_terms, interval, ratio, unique_errors
from modelguard.evals.teacher import CONFOUND, MIN_CONTROLS, MIN_ERRORS
from modelguard.types.evals import Likeness, Measure, TeacherEvidence

TOP = 64  # tokens a position: those that the controls hold likeliest
MIN_DOCUMENTS = 10
NEAR = 0.15  # nats a token by which a control of the same kind of data may predict a kind of text better or worse
FLOOR_CORRELATION, FLOOR_ERRORS = 0.6, 0.2  # chosen on the zoo: models of the same data in the same order reach 0.50 and 0.28
SOURCE = "log-probabilities of next tokens on held-out text"

LogProbabilities = NDArray[np.float32]  # (positions, vocabulary)
Held = Callable[[LogProbabilities, Sequence[LogProbabilities]], tuple[float, float, float] | None]  # a model beside the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Held-out text: the token that follows each position, the number of its document (from 0), and the kind of text that it is."""

    following: NDArray[np.int64]
    documents: NDArray[np.int64]
    kinds: NDArray[np.int64]


def behaviour(
    suspect: LogProbabilities, candidates: Mapping[str, LogProbabilities], controls: Mapping[str, LogProbabilities], text: Text
) -> TeacherEvidence:
    """The likeness of `suspect` to every candidate. A candidate that is among the controls is none for itself."""
    near = {name: control for name, control in sorted(controls.items()) if same_domain(suspect, control, text)}
    return TeacherEvidence(
        source=SOURCE,
        controls=tuple(near),
        likenesses=tuple(
            _likeness(suspect, name, candidate, [near[one] for one in near if one != name], text)
            for name, candidate in sorted(candidates.items())
        ),
    )


def losses(model: LogProbabilities, text: Text) -> NDArray[np.float64]:
    """Nats a token for each kind of text."""
    own = -model[np.arange(len(model)), text.following].astype(np.float64)
    return np.array([own[text.kinds == kind].mean() for kind in np.unique(text.kinds)])


def same_domain(model: LogProbabilities, control: LogProbabilities, text: Text) -> bool:
    """Whether a control predicts every kind of text about as well as the model."""
    gaps = losses(model, text) - losses(control, text)
    return bool(np.all(np.isfinite(gaps)) and np.all(np.abs(gaps) <= NEAR))


def _likeness(
    suspect: LogProbabilities, name: str, candidate: LogProbabilities, controls: Sequence[LogProbabilities], text: Text
) -> Likeness:
    count = len(np.unique(text.documents))
    if len(controls) < MIN_CONTROLS:
        why = f"{len(controls)} controls predict each kind of text as well as this model does: {CONFOUND}"
        return Likeness(candidate=name, measures=(), documents=count, open=why)
    if count < MIN_DOCUMENTS or suspect.shape != candidate.shape or any(one.shape != suspect.shape for one in controls):
        return Likeness(candidate=name, measures=(), documents=count, open="too few documents, or models of different vocabularies")
    if not all(np.isfinite(one).all() for one in (suspect, candidate, *controls)):
        return Likeness(candidate=name, measures=(), documents=count, open="a model predicts what is no number")
    found = [_residual(suspect, candidate, controls, text), _mistakes(suspect, candidate, controls, text)]
    measures = tuple(one for one in found if one is not None)
    missing = "" if len(measures) == len(found) else "too few mistakes that only the two could share, or predictions without variation"
    return Likeness(candidate=name, measures=measures, documents=count, open=missing)


def _residual(suspect: LogProbabilities, candidate: LogProbabilities, controls: Sequence[LogProbabilities], text: Text) -> Measure | None:
    """Correlation of what the two say beyond the controls' mean; each control takes the model's place beside the others."""

    def held(side: LogProbabilities, others: Sequence[LogProbabilities]) -> tuple[float, float, float] | None:
        mean = np.mean(others, axis=0)
        top = np.argpartition(-mean, min(TOP, mean.shape[1] - 1), axis=1)[:, :TOP]  # (positions, TOP)
        ours, theirs = (np.take_along_axis(one - mean, top, axis=1).astype(np.float64) for one in (side, candidate))
        return interval(by_document(correlation_terms(ours, theirs), text.documents), correlation)

    return _measure("residual log-probability correlation", held, suspect, controls, len(suspect), FLOOR_CORRELATION)


def _mistakes(suspect: LogProbabilities, candidate: LogProbabilities, controls: Sequence[LogProbabilities], text: Text) -> Measure | None:
    """The share of the candidate's own mistakes that the model makes too."""
    said = {id(one): one.argmax(axis=1) for one in (suspect, candidate, *controls)}

    def terms(side: LogProbabilities, others: Sequence[LogProbabilities]) -> NDArray[np.float64]:
        return unique_errors(said[id(side)], said[id(candidate)], text.following, [said[id(one)] for one in others])

    def held(side: LogProbabilities, others: Sequence[LogProbabilities]) -> tuple[float, float, float] | None:
        found = terms(side, others)
        return interval(by_document(found, text.documents), ratio) if found[:, 1].sum() >= MIN_ERRORS else None

    count = int(terms(suspect, controls)[:, 1].sum())
    return _measure("unique shared errors", held, suspect, controls, count, FLOOR_ERRORS)


def _measure(
    name: str, held: Held, suspect: LogProbabilities, controls: Sequence[LogProbabilities], count: int, floor: float
) -> Measure | None:
    found = held(suspect, controls)
    band = [held(control, [other for other in controls if other is not control]) for control in controls]
    if found is None or any(one is None for one in band):
        return None
    values = tuple(one[0] for one in band if one is not None)
    return Measure(name=name, value=found[0], low=found[1], high=found[2], controls=values, n=count, floor=floor)
