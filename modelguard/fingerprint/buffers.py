"""Tensors that say nothing of where weights come from: every model of a kind has them, whoever trained it."""

from __future__ import annotations

from modelguard.checkpoints.base import Checkpoint
from modelguard.correspondence.tiles import rows

BUFFERS = (
    "position_ids",
    "token_type_ids",
    "inv_freq",
    "cos_cached",
    "sin_cached",
    "rotary_emb.cos",
    "rotary_emb.sin",
    "attn.bias",
    "attn.masked_bias",
    "attention.masked_bias",
    "attention.bias",
    "attn.mask",
    "causal_mask",
    "relative_position_index",
    "num_batches_tracked",
    "alibi",
    "slopes",
)
MASKS = ("attn.bias", "attention.bias")  # a causal mask where it has more than one axis, and somebody's weights where it has one
GAINS = ("weight", "gamma", "scale", "running_var")
LONGEST = 1 << 20  # entries of a vector that is looked at for being constant


def is_buffer(checkpoint: Checkpoint, name: str) -> bool:
    """Whether a tensor's name and number of axes are those of a buffer that no training moves."""
    return name.endswith(BUFFERS) and (len(checkpoint.tensors[name].shape) > 1 or not name.endswith(MASKS))


def says_nothing(checkpoint: Checkpoint, name: str) -> bool:
    """Whether a tensor is a buffer, empty, or a vector that is as good as absent: a bias of zeros, a gain of ones."""
    info = checkpoint.tensors[name]
    if is_buffer(checkpoint, name) or not info.entries:
        return True
    if len(info.shape) != 1 or info.entries > LONGEST:
        return False
    values = rows(checkpoint, name, 0, info.shape[0])[:, 0]
    return bool((values == (1.0 if name.endswith(GAINS) else 0.0)).all())
