"""What a registry of known models holds, and what looking a checkpoint up in it gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from modelguard.types.activations import ActivationFingerprint
from modelguard.types.weights import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSketch:
    """Projected rows of one layer: (rows, columns) float16, little-endian, times 2 ** `exponent`.

    `units` and `width` are the matrix's own shape; only layers of equal shape are comparable.
    """

    layer: str
    units: int
    width: int
    rows: int
    columns: int
    exponent: int
    values: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What is kept of a checkpoint's weights. `method` encodes every parameter; fingerprints of unequal methods never compare.

    `gains` (axes, norms) are centred norm gains as float16; `gram` is the upper triangle of the cosines between the embeddings of
    `anchors` tokens, as 1/127 (int8). Either is empty where the checkpoint has none, or where a secret keeps it out.
    """

    method: str
    parameters: int
    tensors: int
    layers: int
    vocabulary: int
    shapes: str  # digest of all shapes
    digest: str | None  # of the whole content, where the transport vouches for it
    blocks: tuple[BlockSketch, ...]
    axes: int = 0
    norms: int = 0
    gains: bytes = field(default=b"", repr=False)
    anchors: int = 0
    anchored: int = 0  # the anchors are counted from this token
    gram: bytes = field(default=b"", repr=False)

    @property
    def shape(self) -> str:
        """The shape of the sketched matrices, `units x width`; "" where none was found."""
        return f"{self.blocks[0].units}x{self.blocks[0].width}" if self.blocks else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A known model. Where an alias is set the entry is private, and every output names it by the alias.

    `reference` says where its weights can be had ("" where they cannot); `independent` marks a model that is known to be
    independent of those under audit, so that it may serve as a control. `activations` is what its network does on the probes: it is
    given when an entry is added, and read by name only, because a search reads thousands of entries.
    """

    name: str
    fingerprint: Fingerprint
    alias: str = ""
    reference: str = ""
    independent: bool = False
    activations: ActivationFingerprint | None = field(default=None, repr=False)

    @property
    def private(self) -> bool:
        return bool(self.alias)

    @property
    def shown(self) -> str:
        return self.alias or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """An entry against which independence is refuted exactly.

    `fired` of `blocks` layers refute it, `fixed` of `rows` tested units are at their own place. `distance` is the relative distance
    of the sketches (L2, of the shared layers), `gram` the correlation of the token embeddings' cosines where both have them.
    """

    name: str
    log10_p: float  # the best single test, after correction over entries, layers and candidates (Holm)
    fired: int
    blocks: int
    fixed: int
    rows: int
    log10_p_gains: float  # T0, after the same correction
    distance: float
    gram: float | None = None
    reference: str = ""
    standing: str = ""  # how it stands to the declared base; "" where nobody asked
    explained: float | None = None  # share of the way from the base to the checkpoint that the way from the base to the entry explains
    carried: float | None = None  # how much of the entry's own detail, its way from the base but for what stands out in it, is there
    band: float | None = None  # the largest such amount among other entries that descend from the base
    controls: int = 0  # how many those are
    share: float | None = None  # the entry's coefficient in the merge that explains the checkpoint best
    confirmed: str = ""  # what comparing with the entry's own weights says


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An entry that may be the parent of a disguised checkpoint: a reason to read a layer of it, never a finding."""

    name: str
    gram: float
    log10_p_gains: float  # T0, exact, after correction; unlike T1 it sees through permuted units
    reference: str = ""
    confirmed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What looking one fingerprint up gave: hits and candidates, the closest first."""

    method: str
    registry: str
    searched: int  # entries of equal method and shape
    skipped: int  # entries of other methods or shapes, which say nothing
    hits: tuple[Hit, ...]
    candidates: tuple[Candidate, ...]
    cost: Cost = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinship:
    """A checkpoint among the known models, and its declared bases among them.

    `declared` counts the declared bases that could be sketched, `carried` those of them that the sketch shows.
    """

    search: Search
    declared: int
    carried: int
    bases: tuple[str, ...]  # what the declared bases are called
    why: str = ""  # why declared bases could not be held against the sketches
