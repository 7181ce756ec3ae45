"""The only thing that renderers and posters see."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from modelguard.types.findings import Finding, Verdict
from modelguard.types.weights import ActivationComparison, Comparison

LARGEST = 1e9  # values beyond it are drawn by nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A picture with one value a layer, each in [0, 1] or None where nothing was measured."""

    title: str
    labels: tuple[str, ...]
    values: tuple[float | None, ...]
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One more quantity over the same axis as the timeline's own: (place, value) points, and its unit ("" where it has none)."""

    name: str
    unit: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A picture of one run: (step, value) points, and the stretches of steps that are missing from the log.

    `axis` says what the places are: steps of the training, or minutes since a machine's log began.
    """

    title: str
    metric: str
    points: tuple[tuple[int, float], ...]
    gaps: tuple[tuple[int, int], ...]
    restarts: tuple[int, ...]
    caption: str
    panels: tuple[Panel, ...] = ()
    axis: str = "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One claim or finding of descent: the child is said, or shown, to come from the parent. `tone` is ok, found or unknown."""

    child: str
    parent: str
    label: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A picture of where a model comes from."""

    title: str
    edges: tuple[Edge, ...]
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A picture with one value for each pair of layers, each in [0, 1] or None where nothing was measured.

    `down` and `along` say what the rows and the columns are; `top` is the value that is drawn darkest.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    caption: str
    down: str = "layer of this model"
    along: str = "layer of the base"
    top: float = 1.0

    def darkness(self, value: float | None) -> float | None:
        """How dark a value is drawn, in [0, 1]; None where there is none."""
        if value is None or not isfinite(value):
            return None
        return max(0.0, min(1.0, value / self.darkest))

    @property
    def darkest(self) -> float:
        """The top, or 1 where it is no number that anything could be drawn against."""
        return self.top if 1e-9 < self.top < LARGEST else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A picture of one measure: where a model stands, with its interval, beside the band that the controls make.

    `limit` is what the interval's lower end must exceed to stand out.
    """

    title: str
    value: float
    low: float
    high: float
    controls: tuple[float, ...]
    limit: float
    caption: str


Exhibit = Strip | Timeline | Lineage | Matrix | Band


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
    walls: tuple[str, ...] = ()  # what held the process without secrets that looked at it; none where there was no such process


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
