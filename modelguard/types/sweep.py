"""What an organisation's repositories come to, on their default branches."""

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
    """One repository: `why` says what kept it from being looked at, `before` its verdict in the sweep before, "" where there was none."""

    repository: str
    commit: str
    verdict: Verdict
    models: tuple[SweptModel, ...]
    found: int
    undecided: int
    notes: tuple[str, ...] = ()
    why: str = ""
    before: str = ""

    @property
    def trend(self) -> str:
        """How the verdict moved since the sweep before."""
        if not self.before:
            return "new"
        return "unchanged" if self.before == self.verdict.value else f"was {self.before}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """All of them; `gone` are those that the sweep before had and this one does not."""

    rows: tuple[Swept, ...]
    gone: tuple[str, ...]
    policy: str
    version: str

    def count(self, verdict: Verdict) -> int:
        return sum(row.verdict is verdict for row in self.rows)
