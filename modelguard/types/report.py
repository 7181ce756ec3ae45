"""The only thing that renderers and posters see."""

from __future__ import annotations

from dataclasses import dataclass

from modelguard.types.findings import Finding, Verdict
from modelguard.types.weights import ActivationComparison, Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A picture with one value a layer, each in [0, 1] or None where nothing was measured."""

    title: str
    labels: tuple[str, ...]
    values: tuple[float | None, ...]
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A picture of one run: (step, value) points, and the stretches of steps that are missing from the log."""

    title: str
    metric: str
    points: tuple[tuple[int, float], ...]
    gaps: tuple[tuple[int, int], ...]
    restarts: tuple[int, ...]
    caption: str


Exhibit = Strip | Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One effective policy setting and where it comes from."""

    key: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """What came out for one model."""

    subject: str
    kind: str
    files: tuple[str, ...]
    declared: tuple[str, ...]
    resolved_base: str
    findings: tuple[Finding, ...]
    exhibits: tuple[Exhibit, ...]
    weights: Comparison | None
    previous: Comparison | None
    activations: ActivationComparison | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A verdict with everything behind it."""

    verdict: Verdict
    headline: str
    base: str
    head: str
    models: tuple[ModelReport, ...]
    notes: tuple[str, ...]
    policy_digest: str
    settings: tuple[Setting, ...]
    version: str
    reproduce: str
    seconds: float

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for model in self.models for finding in model.findings)
