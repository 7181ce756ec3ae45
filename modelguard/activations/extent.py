"""How much of two networks is run: all layers, the first few, or as many as a budget allows; and how far that has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from modelguard.activations.networks import Architecture
from modelguard.checkpoints.base import Checkpoint

AUTOMATIC_BYTES = 4 << 30  # of weights in float32: about a minute on two cores

Progress = Callable[[str, int, int], None]


def _silent(_what: str, _done: int, _total: int) -> None:
    """Shows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The first `layers` layers (0: all), and no more of them than `budget` bytes of float32 hold (0: no limit), but at least one."""

    layers: int = 0
    budget: int = 0
    progress: Progress = _silent

    def depth(self, architecture: Architecture) -> int:
        """How many layers are run."""
        wanted = min(self.layers or architecture.layers, architecture.layers)
        while self.budget and wanted > 1 and _weights(architecture, wanted) > self.budget:
            wanted -= 1
        return wanted

    def notes(self, architecture: Architecture) -> tuple[str, ...]:
        """What was left out, in words."""
        depth = self.depth(architecture)
        return () if depth == architecture.layers else (f"the first {depth} of {architecture.layers} layers were run",)

    def counting(self, runs: Sequence[tuple[Architecture, Checkpoint]], depth: int) -> Callable[[int], None]:
        """A function that takes how many bytes were read and shows how far those runs have come."""
        total = sum(_stored(architecture, checkpoint, depth) for architecture, checkpoint in runs)
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self.progress("running both models on the probes", min(done, total), total)

        return advance


def _weights(architecture: Architecture, depth: int) -> int:
    """Bytes in float32 of what that many layers need, without the tables, of which rows are read."""
    return sum(4 * prod(shape) for name, shape in architecture.needed(depth).items() if name not in architecture.tables)


def _stored(architecture: Architecture, checkpoint: Checkpoint, depth: int) -> int:
    """About how many bytes those layers have in the checkpoint, by its own width of an entry."""
    infos = checkpoint.tensors.values()
    entries = max(1, sum(info.entries for info in infos))
    return _weights(architecture, depth) // 4 * sum(info.nbytes for info in infos) // entries


WHOLE = Extent()
