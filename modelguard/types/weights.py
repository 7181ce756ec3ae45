"""What the comparison of two checkpoints says: the frozen side of the `modelguard.compare/1` contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Relation(StrEnum):
    """How the left checkpoint stands to the right one (the alleged parent)."""

    IDENTICAL = "identical"
    SAME_WEIGHTS = "same-weights"
    DERIVED = "derived"
    SHARED_INITIALISATION = "shared-initialisation"
    UNRELATED = "unrelated"
    INCONCLUSIVE = "inconclusive"


class Basis(StrEnum):
    """What the relation rests on."""

    BYTES = "bytes"
    EXACT = "exact"
    CONFORMAL = "conformal"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two checkpoints. `digest` is null unless the bytes were hashed or Git LFS vouches for them."""

    ref: str
    digest: str | None
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NullTest:
    """One statistic with its null. `log10_p` bounds the p-value; `block` names what was tested ("" when it is the whole model).

    The statistic counts things out of `n`; where `share` is set it is a share, and `n` the number of controls or matrices behind it.
    """

    method: str
    block: str
    statistic: float
    n: int
    log10_p: float
    log10_p_adjusted: float
    null: str
    note: str = ""
    share: bool = False

    @property
    def told(self) -> str:
        """The statistic in words."""
        return f"{self.statistic:.3f}" if self.share else f"{int(self.statistic)} of {self.n}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerResult:
    """One layer of the left checkpoint: which layer it was held against, and what came out."""

    name: str
    matched: str
    relation: str
    score: float
    log10_p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What the tests could have seen: one transformation of the declared base, and whether it would have been detected."""

    transformation: str
    detectable: bool
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KindDetail:
    """One kind of the `compare` contract that the weights show, with the numbers that show it."""

    kind: str
    text: str
    numbers: Mapping[str, float | int | str] = field(default_factory=dict)


FINGERPRINT_ALONE = "weights of the declared base"  # what is open where a fingerprint had to do in their place


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """Something that could not be looked at, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDifference:
    """The exact difference of one tensor pair: entries, bit-equal entries, largest and relative change (L2, in float64)."""

    name: str
    matched: str
    dtype: str
    shape: tuple[int, ...]
    entries: int
    equal: int
    max_abs: float
    relative: float
    cosine: float
    energy: float  # sum of squares of the left tensor over that of the right one
    nonfinite: int
    explanation: str  # identical, cast, permuted or changed


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceSummary:
    """The exact difference of two checkpoints, counted over tensors and parameters."""

    tensors: int
    identical: int
    explained: int
    changed: int
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]
    largest: tuple[TensorDifference, ...]
    parameters: int
    parameters_equal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What it took. The only part of a document that may differ from run to run."""

    bytes_read: int
    bytes_total: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that comparing two checkpoints gave (design, section 3)."""

    left: Side
    right: Side
    relation: Relation
    kinds: tuple[str, ...]
    details: tuple[KindDetail, ...] = ()  # the numbers behind the kinds
    direction: str
    basis: Basis
    log10_p: float
    score: float
    share_explained: float
    power: tuple[Power, ...]
    layers: tuple[LayerResult, ...]
    evidence: tuple[NullTest, ...]
    unknown: tuple[Undecided, ...]
    difference: DifferenceSummary | None
    cost: Cost = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFacts:
    """What a header says, before any weight is read."""

    ref: str
    format: str
    tensors: int
    parameters: int
    nbytes: int
    dtypes: tuple[str, ...]
    notes: tuple[str, ...]
    verified: bool
    vouched: bool = False  # every byte was held against a sha256 that Git LFS or the hub names


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFit:
    """How an adapter's shapes fit its declared base: all that an adapter alone can show."""

    base: str
    rank: int
    modules: int
    fitting: int
    misfits: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationLayer:
    """One layer of two models on the same probes. Cosines are means over tokens, after removing the token mean."""

    name: str
    hidden_cosine: float
    attention_cosine: float | None
    hidden_fixed: int
    hidden_n: int
    heads_fixed: int
    heads_n: int
    log10_p: float
    best_head_cosine: float | None = None  # of each head with any head of the other side's same layer
    units_fixed: int = 0  # of the MLP's units that were looked at, `units_n`
    units_n: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationComparison:
    """Two models of one architecture run on the same public probe texts."""

    method: str
    layers: tuple[ActivationLayer, ...]
    log10_p_hidden: float
    log10_p_heads: float
    control: str
    control_fires: bool
    best_head_match: float
    tokens: int
    control_log10_p_hidden: float = 0.0  # the same tests on the control
    control_log10_p_heads: float = 0.0
    log10_p_units: float = 0.0  # of the units of MLPs; 0 where no layer has exactly one
    control_log10_p_units: float = 0.0
    notes: tuple[str, ...] = ()
