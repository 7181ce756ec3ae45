"""What evaluation logs say: scores, the answers behind them, and how alike the mistakes of two models are."""

from __future__ import annotations

from dataclasses import dataclass

from modelguard.types.logs import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One headline number of a results file. `stderr` and `count` (questions) are None where the file does not say them."""

    task: str
    metric: str
    filter: str
    value: float
    stderr: float | None
    count: int | None
    source: str

    @property
    def name(self) -> str:
        return f"{self.task} {self.metric}" + (f" ({self.filter})" if self.filter not in ("", "none") else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One question and what the model answered. `doc` and `target` are hashes by which two models' logs are joined.

    `shares` are the probabilities of the choices (they sum to 1) for a multiple-choice question whose right choice is
    number `correct`, else () and -1.
    """

    doc: str
    target: str
    answer: str
    right: bool
    shares: tuple[float, ...] = ()
    correct: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers of one model to one task, under one filter, in file order. `metric` is the one that says which are right."""

    task: str
    filter: str
    metric: str
    answers: tuple[Answer, ...]
    source: str

    @property
    def accuracy(self) -> float:
        return sum(answer.right for answer in self.answers) / len(self.answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalLogs:
    """Everything that one model's evaluation logs say. `identities` hold scores against samples, and the card's claims against scores."""

    scores: tuple[Score, ...]
    answers: tuple[Answers, ...]
    identities: tuple[Identity, ...]
    model: str = ""  # what the harness calls the model that it ran
    unread: tuple[str, ...] = ()

    def judged(self, rule: str) -> tuple[Identity, ...]:
        """The identities that a rule speaks of."""
        return tuple(identity for identity in self.identities if identity.rule == rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measure of likeness with its interval (block bootstrap over documents) and the same of every control."""

    name: str
    value: float
    low: float
    high: float
    controls: tuple[float, ...]
    n: int  # questions, or positions in texts, that it rests on
    floor: float = 0.0  # below which it says nothing, however far apart the controls are

    @property
    def limit(self) -> float:
        """What must be exceeded: the largest control and once more the width of their band, and the floor."""
        return max(self.floor, max(self.controls) + (max(self.controls) - min(self.controls)))

    @property
    def beyond(self) -> bool:
        return self.low > self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How a model behaves like one candidate teacher; `open` says why that does not decide, "" where it does."""

    candidate: str
    measures: tuple[Measure, ...]
    documents: int
    open: str = ""

    @property
    def close(self) -> bool:
        """Whether every measure lies beyond its control band."""
        return not self.open and bool(self.measures) and all(measure.beyond for measure in self.measures)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherEvidence:
    """The behaviour of a model beside that of candidate teachers and of control models. `source` says what was compared.

    `drop` is the accuracy inside the named domain minus that outside it, `control_drop` the same as the controls' mean.
    """

    source: str
    controls: tuple[str, ...]
    likenesses: tuple[Likeness, ...]
    declared: tuple[str, ...] | None = None  # the models that the card names; None where no card was read
    drop: float | None = None
    control_drop: float | None = None
    notes: tuple[str, ...] = ()  # models that were left out, and why
