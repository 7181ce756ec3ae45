"""Whose mistakes a model makes, from evaluation logs alone: every reference is a candidate teacher, held against control models.

Models that learned from the same data make the same mistakes, and strong models agree anyway (Kim et al. 2025: 60 % of joint errors).
So likeness to one model says nothing; only likeness beyond what control models show, which were trained on the same kind of data,
hints at a teacher. Models are joined on the question's hash: numbers of questions differ between versions of the harness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from modelguard.evals.likeness import capa, capa_terms, interval, ratio, unique_errors
from modelguard.types.evals import Answer, EvalLogs, Likeness, Measure, TeacherEvidence

MIN_CONTROLS = 2
MIN_QUESTIONS = 100
MIN_ERRORS = 30  # questions on which a mistake of the candidate's own can be shared
FLOOR_ERRORS, FLOOR_CAPA = 0.4, 0.3  # less is no likeness worth a word, however narrow the controls' band
CONFOUND = (
    "models that learned from the same data make the same mistakes, so without at least two control models trained on the same kind of "
    "data a likeness says nothing about a teacher"
)
SOURCE = "evaluation logs, joined on doc_hash"

Key = tuple[str, str, str]  # task, question, target
Table = Mapping[Key, Answer]
Codes = NDArray[np.int64]


def teacher_evidence(
    suspect: EvalLogs,
    candidates: Mapping[str, EvalLogs],
    controls: Mapping[str, EvalLogs],
    inside: Sequence[str] = (),
    *,
    declared: tuple[str, ...] | None = None,
) -> TeacherEvidence:
    """The likeness of `suspect` to every candidate, beside that of the controls. `inside` names the tasks of the domain in question."""
    ours, others = table(suspect), {name: table(logs) for name, logs in sorted(controls.items())}
    drops = [drop for logs in controls.values() if (drop := _drop(logs, inside)) is not None]
    return TeacherEvidence(
        source=SOURCE,
        controls=tuple(others),
        likenesses=tuple(_likeness(ours, name, table(logs), list(others.values())) for name, logs in sorted(candidates.items())),
        declared=declared,
        drop=_drop(suspect, inside),
        control_drop=sum(drops) / len(drops) if drops else None,
    )


def table(logs: EvalLogs) -> Table:
    """A model's answers by question: of a task with several filters the first by name, of a repeated question the first answer."""
    answers: dict[Key, Answer] = {}
    chosen: dict[str, str] = {}
    for group in sorted(logs.answers, key=lambda group: (group.task, group.filter, group.source)):
        if chosen.setdefault(group.task, group.filter) == group.filter:
            for answer in group.answers:
                answers.setdefault((group.task, answer.doc, answer.target), answer)
    return answers


def _likeness(ours: Table, name: str, theirs: Table, controls: list[Table]) -> Likeness:
    keys = sorted(set(ours).intersection(theirs, *controls))
    if len(controls) < MIN_CONTROLS:
        return Likeness(candidate=name, measures=(), documents=len(keys), open=f"{len(controls)} control models are given: {CONFOUND}")
    if len(keys) < MIN_QUESTIONS:
        why = f"{len(keys)} questions are in all logs, fewer than {MIN_QUESTIONS}"
        return Likeness(candidate=name, measures=(), documents=len(keys), open=why)
    columns = [[side[key] for key in keys] for side in (ours, theirs, *controls)]
    measures = [_shared_errors(columns), _capa(columns)]
    found = tuple(measure for measure in measures if isinstance(measure, Measure))
    return Likeness(candidate=name, measures=found, documents=len(keys), open="; ".join(one for one in measures if isinstance(one, str)))


def _shared_errors(columns: list[list[Answer]]) -> Measure | str:
    """The share of the candidate's own mistakes that the model makes too, and that each control makes beside the other controls."""
    suspect, candidate, *controls = _codes(columns)
    right = np.zeros_like(suspect)

    def rate(side: Codes, others: list[Codes]) -> tuple[tuple[float, float, float] | None, int]:
        terms = unique_errors(side, candidate, right, others)
        return interval(terms, ratio), int(terms[:, 1].sum())

    found, count = rate(suspect, controls)
    band = [rate(control, [other for other in controls if other is not control]) for control in controls]
    if found is None or count < MIN_ERRORS or any(one is None or number < MIN_ERRORS for one, number in band):
        return f"{count} questions show a mistake that only the candidate and the model could share, fewer than {MIN_ERRORS}"
    values = tuple(one[0] for one, _ in band if one is not None)
    return Measure(name="unique shared errors", value=found[0], low=found[1], high=found[2], controls=values, n=count, floor=FLOOR_ERRORS)


def _codes(columns: list[list[Answer]]) -> list[Codes]:
    """Answers as numbers, question by question: 0 is right, equal wrong answers have equal numbers."""
    codes = np.zeros((len(columns), len(columns[0])), dtype=np.int64)
    for place, answers in enumerate(zip(*columns, strict=True)):
        names = {name: number for number, name in enumerate(sorted({one.answer for one in answers if not one.right}), start=1)}
        codes[:, place] = [0 if one.right else names[one.answer] for one in answers]
    return list(codes)


def _capa(columns: list[list[Answer]]) -> Measure | str:
    suspect, candidate, *controls = columns
    found = _agreement(suspect, candidate)
    band = [_agreement(control, candidate) for control in controls]
    if found is None or any(one is None for one in band):
        return "the agreement beyond chance is not defined: a model answers everything alike"
    values = tuple(one[0] for one in band if one is not None)
    return Measure(
        name="agreement beyond chance (CAPA)",
        value=found[0],
        low=found[1],
        high=found[2],
        controls=values,
        n=len(suspect),
        floor=FLOOR_CAPA,
    )


def _agreement(ours: list[Answer], theirs: list[Answer]) -> tuple[float, float, float] | None:
    terms = np.array([_pair(a, b) for a, b in zip(ours, theirs, strict=True)])  # (questions, 4)
    return interval(capa_terms(terms[:, 0], terms[:, 1], terms[:, 2], terms[:, 3]), capa)


def _pair(a: Answer, b: Answer) -> tuple[float, float, float, float]:
    """Agreement, both probabilities of the right answer, and the number of choices; free answers agree wholly or not at all."""
    if a.shares and len(a.shares) == len(b.shares) and a.correct == b.correct:
        same = sum(x * y for x, y in zip(a.shares, b.shares, strict=True))
        return same, a.shares[a.correct], b.shares[b.correct], float(len(a.shares))
    return float(a.answer == b.answer), float(a.right), float(b.right), 1e9  # two wrong free answers hardly agree by chance


def _drop(logs: EvalLogs, inside: Sequence[str]) -> float | None:
    """Mean accuracy over the tasks of the domain minus that over the others; None without both."""
    parts: dict[bool, list[float]] = {True: [], False: []}
    for group in logs.answers:
        parts[any(group.task == name or group.task.startswith(f"{name}_") for name in inside)].append(group.accuracy)
    if not inside or not parts[True] or not parts[False]:
        return None
    return sum(parts[True]) / len(parts[True]) - sum(parts[False]) / len(parts[False])
