"""What is kept of a network's behaviour on the probes, so that a checkpoint is held against it without the network's weights."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationFingerprint:
    """What a network did on the probes, at a fixed choice of tokens, axes, units and heads of at most 40 of its layers.

    `method` encodes the probes' digest and every parameter; fingerprints of unequal methods never compare. Arrays are little-endian:
    `ids` (texts, length) uint32, empty for pictures; for each of the layers `which`, `states` (tokens, axes), `unit_values` (tokens,
    units), `patterns` (heads, columns) and `statistics` (heads, measures) in float16, and `gram`, the upper triangle of the cosines
    between the anchors' hidden states as 1/127 (int8). `next_ids` (anchors, top) uint32 and `next_logs` (anchors, top) float16 are the
    likeliest next tokens with their log-probabilities, empty where the network predicts none or was not run to its end. `control` has
    log10 p of axes, heads and units for the network's own copy rounded to 4 bits, held against this; zeros where none was made.
    """

    method: str
    architecture: str
    layers: int  # of the network
    depth: int  # how many of them were run
    which: tuple[int, ...]  # of those are held here, counted from 0
    texts: int
    length: int
    tokens: int  # whose states and units are held
    anchors: int  # tokens between whose states cosines are held, and behind which the next one is predicted
    axes: int
    units: int
    heads: int
    groups: int  # of heads that share keys and values
    columns: int
    measures: int
    top: int
    control: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ids: bytes = field(default=b"", repr=False)
    states: bytes = field(default=b"", repr=False)
    unit_values: bytes = field(default=b"", repr=False)
    patterns: bytes = field(default=b"", repr=False)
    statistics: bytes = field(default=b"", repr=False)
    gram: bytes = field(default=b"", repr=False)
    next_ids: bytes = field(default=b"", repr=False)
    next_logs: bytes = field(default=b"", repr=False)

    @property
    def kept(self) -> int:
        """How many layers are held."""
        return len(self.which)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many bytes each array takes by the numbers above: ids, states, units, patterns, statistics, gram, next ids, next logs."""
        rows = self.kept * self.tokens
        return (
            4 * self.texts * self.length,
            2 * rows * self.axes,
            2 * rows * self.units,
            2 * self.kept * self.heads * self.columns,
            2 * self.kept * self.heads * self.measures,
            self.kept * (self.anchors * (self.anchors - 1) // 2),
            4 * self.anchors * self.top,
            2 * self.anchors * self.top,
        )

    @property
    def arrays(self) -> tuple[bytes, ...]:
        """The arrays in the order of `sizes`."""
        return (
            *(self.ids, self.states, self.unit_values, self.patterns, self.statistics),
            *(self.gram, self.next_ids, self.next_logs),
        )

    @property
    def nbytes(self) -> int:
        """What it takes to store."""
        return sum(map(len, self.arrays))
