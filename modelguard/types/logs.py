"""What a training log says: records, runs, and the geometry of their steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

UNSTEPPED = "unstepped"  # the claim of a log whose rows name no step and were numbered instead


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One row, in file order. `kind` is train, eval or summary; `time` is unix seconds where the format records it.

    `session` counts the processes that wrote the log; a change from one record to the next is a restart.
    """

    step: int
    kind: str
    values: Mapping[str, float]
    epoch: float | None = None
    time: float | None = None
    position: int = 0  # line or record number in its file
    session: int = 0


class Jump(StrEnum):
    """Classes of discontinuity between two training records, or at the ends of a log."""

    RESUME = "resume"
    ROLLBACK = "rollback"
    REWIND_SKIP = "rewind-skip"
    COUNTER_RESET = "counter-reset"
    MISSING = "missing"
    HEAD = "head"
    TAIL = "tail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discontinuity:
    """One place where steps do not follow one another: the last step before it, the first after it, and the steps between."""

    kind: Jump
    before: int
    after: int
    missing: int
    note: str
    excused: str = ""  # what in the log explains it; empty when nothing does


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of records whose steps only grow."""

    first: int
    last: int
    count: int


class Standing(StrEnum):
    """What the values of a log make of a relation that an unedited log keeps."""

    HOLDS = "holds"
    BROKEN = "broken"
    OPEN = "open"  # the log has too little, or something that the relation does not cover


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One relation between the values of a log, as arithmetic finds it. `rule` is the rule that judges it, `name` the relation."""

    rule: str
    name: str
    standing: Standing
    text: str
    numbers: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training run as one log tells it. `claimed` holds what the log says about itself (global_step, max_steps, …)."""

    source: str
    format: str
    records: tuple[LogRecord, ...]
    claimed: Mapping[str, float] = field(default_factory=dict)
    cadence: int = 0  # the usual number of steps between training records; 0 when there are too few to tell
    segments: tuple[Segment, ...] = ()
    discontinuities: tuple[Discontinuity, ...] = ()
    notes: tuple[str, ...] = ()
    run_id: str = ""  # the identity that the log itself records; logs of one format and identity tell of one run
    identities: tuple[Identity, ...] = ()  # relations between the values, judged by the rules that they name

    training: tuple[LogRecord, ...] = field(init=False, repr=False, compare=False)  # the records of training, picked out once

    def __post_init__(self) -> None:
        object.__setattr__(self, "training", tuple(record for record in self.records if record.kind == "train"))

    @property
    def last_step(self) -> int:
        """The highest training step in the log; 0 without one."""
        return max((record.step for record in self.training), default=0)

    @property
    def length(self) -> int:
        """Training steps that the run took, as far as the log or its own claim tells; at least 1."""
        return max(self.last_step, int(self.claimed.get("global_step", 0)), 1)

    @property
    def brief(self) -> bool:
        """Whether there are too few training records to tell how they follow one another."""
        return not self.cadence and len({record.step for record in self.training}) < 3

    @property
    def undecidable(self) -> str:
        """Why the order of steps cannot be judged; empty when it can."""
        if self.cadence:
            return ""
        if self.claimed.get(UNSTEPPED):
            return "the rows name no step"
        if self.brief:
            return "fewer than 3 training records"
        return "the training records have no regular cadence"

    def unexplained(self, *kinds: Jump) -> tuple[Discontinuity, ...]:
        """The discontinuities of these kinds that nothing in the log explains."""
        return tuple(jump for jump in self.discontinuities if jump.kind in kinds and not jump.excused)

    def explained(self, *kinds: Jump) -> tuple[Discontinuity, ...]:
        """The discontinuities of these kinds that the log itself explains."""
        return tuple(jump for jump in self.discontinuities if jump.kind in kinds and jump.excused)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at one GPU: unix seconds, utilisation in percent, power in watts; None where the log does not say."""

    time: float
    device: str
    utilisation: float | None = None
    power: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What a scheduler gave a job, in unix seconds. `end` is None while it runs; `gpus` where the log does not say."""

    job: str
    start: float
    end: float | None
    state: str
    gpus: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU that a machine's log names: its own mark, its model, and the operations a second that it can do at most (None: unknown)."""

    device: str
    model: str
    peak: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one log of a machine says about its GPUs. Its clock may be in another time zone than the training log's."""

    source: str
    format: str
    samples: tuple[Sample, ...] = ()
    allocations: tuple[Allocation, ...] = ()
    notes: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()  # those that it names


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLog:
    """Every run that the logs beside a model tell of; never empty."""

    runs: tuple[Run, ...]
    unread: tuple[str, ...] = ()  # logs that are there but could not be read, each with its reason
    usage: tuple[Usage, ...] = ()  # what the machines' own logs say about the GPUs

    @property
    def judged(self) -> tuple[Run, ...]:
        """The runs that the rules on steps judge: not those that were abandoned after a record or two beside one that can be."""
        trained = tuple(run for run in self.runs if run.training)
        return tuple(run for run in trained if not run.brief) if any(run.cadence for run in trained) else trained

    def identities(self, rule: str) -> tuple[tuple[Run, Identity], ...]:
        """The relations that a rule judges, each with its run."""
        return tuple((run, identity) for run in self.runs for identity in run.identities if identity.rule == rule)

    @property
    def set_aside(self) -> tuple[Run, ...]:
        """The runs that hold too little training to be judged, beside others that can be."""
        judged = {run.source for run in self.judged}
        return tuple(run for run in self.runs if run.source not in judged)
