"""What a checkpoint's header says, before any weight is read."""

from __future__ import annotations

from modelguard.checkpoints.base import Checkpoint, nbytes, parameters
from modelguard.checkpoints.sharded import Sharded
from modelguard.errors import CannotRead
from modelguard.types.weights import CheckpointFacts


def facts(checkpoint: Checkpoint) -> CheckpointFacts:
    """What a header says. Raises CannotRead for a file without tensors: nothing to audit is not a pass."""
    if not checkpoint.tensors:
        raise CannotRead(f"{checkpoint.ref}: holds no tensors, so there is nothing to audit", advice="save the model again")
    return CheckpointFacts(
        ref=checkpoint.ref,
        format=checkpoint.format,
        tensors=len(checkpoint.tensors),
        parameters=parameters(checkpoint),
        nbytes=nbytes(checkpoint),
        dtypes=tuple(sorted({info.dtype for info in checkpoint.tensors.values()})),
        notes=checkpoint.notes,
        verified=checkpoint.verified,
        vouched=_vouched(checkpoint),
    )


def _vouched(checkpoint: Checkpoint) -> bool:
    """Whether every byte was held against a sha256 that the transport names: a Git LFS pointer's oid, or the hub's listing."""
    shards = checkpoint.shards.values() if isinstance(checkpoint, Sharded) else (checkpoint,)
    return checkpoint.verified and all(shard.digest is not None for shard in shards)
