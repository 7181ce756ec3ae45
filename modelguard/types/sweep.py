"""What an organisation's repositories come to, on their default branches: under one policy, and under a change of it."""

from __future__ import annotations

from dataclasses import dataclass

from modelguard.types.findings import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptModel:
    """One model of a repository: its path, its verdict, and the rules that found something or left something open."""

    subject: str
    verdict: Verdict
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """One repository. `why` says what kept it from being looked at; `history` are its verdicts in the sweeps before, the oldest first,
    "" where it was not among them.
    """

    repository: str
    commit: str
    verdict: Verdict
    models: tuple[SweptModel, ...]
    found: int
    undecided: int
    notes: tuple[str, ...] = ()
    why: str = ""
    history: tuple[str, ...] = ()

    @property
    def before(self) -> str:
        """Its verdict in the sweep before this one, "" where it was not in it."""
        return self.history[-1] if self.history else ""

    @property
    def trend(self) -> str:
        """How the verdict moved since the sweep before."""
        if not self.before:
            return "new"
        return "unchanged" if self.before == self.verdict.value else f"was {self.before}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A repository of the organisation that there was nothing to look at in, and why."""

    repository: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What one sweep came to in all; `at` is when it was made (ISO 8601, UTC), `policy` the digest that it stood under."""

    at: str
    inconsistent: int
    open: int
    consistent: int
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """All of them. `gone` are those that the sweep before had and this one does not, `earlier` the sweeps before, the oldest first."""

    rows: tuple[Swept, ...]
    gone: tuple[str, ...]
    policy: str
    version: str
    left_out: tuple[LeftOut, ...] = ()
    earlier: tuple[Totals, ...] = ()
    at: str = ""

    def count(self, verdict: Verdict) -> int:
        return sum(row.verdict is verdict for row in self.rows)

    @property
    def totals(self) -> Totals:
        counts = (self.count(verdict) for verdict in (Verdict.INCONSISTENT, Verdict.CANNOT_DETERMINE, Verdict.CONSISTENT))
        inconsistent, undecided, consistent = counts
        return Totals(at=self.at, inconsistent=inconsistent, open=undecided, consistent=consistent, policy=self.policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleMove:
    """What a rule does to a verdict under two policies: off, silent, passes, warns, waived, leaves open, or blocks."""

    rule: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedModel:
    """One model under the policy as it is and as it is proposed, judged on the same evidence.

    `collected` is 2 where the two policies ask for different evidence (another pinned base, alpha, controls or registry), else 1.
    """

    subject: str
    before: Verdict
    after: Verdict
    moves: tuple[RuleMove, ...]
    collected: int = 1

    @property
    def stopped(self) -> bool:
        """Whether the change of policy stops what passes today."""
        return self.after is not Verdict.CONSISTENT and self.after is not self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One repository under a proposed policy: what becomes of its settings, and of its models where they were audited.

    `answer` is refused, changed, unchanged, unread or not understood; `why` says what kept the models from being looked at.
    """

    repository: str
    answer: str
    details: tuple[str, ...] = ()
    digest: str = ""
    models: tuple[TriedModel, ...] = ()
    why: str = ""
