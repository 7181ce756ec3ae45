"""A checkpoint that is damaged, or that two readers could read differently."""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, ok
from modelguard.types.weights import CheckpointFacts


def check(checkpoint: CheckpointFacts) -> Iterator[Claim]:
    """Says what was read; a file that the strict reader refuses is no checkpoint here, and the runner says why."""
    notes = f"; {'; '.join(checkpoint.notes[:3])}" if checkpoint.notes else ""
    if checkpoint.vouched:
        notes += "; its content was held against its sha256"
    if not checkpoint.verified:
        notes += "; only parts were read, so its content was not held against its sha256"
    yield ok(
        f"{checkpoint.format}: {checkpoint.tensors} tensors, {checkpoint.parameters:,} parameters, {', '.join(checkpoint.dtypes)}{notes}",
        numbers={"tensors": checkpoint.tensors, "parameters": checkpoint.parameters, "bytes": checkpoint.nbytes},
        where=checkpoint.ref,
    )
