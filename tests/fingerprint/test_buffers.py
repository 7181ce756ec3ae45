"""What every model has says nothing; what looks like it and is not, does."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from modelguard.fingerprint.buffers import is_buffer, says_nothing
from tests.fingerprint.zoo import Arrays

NOTHING: dict[str, NDArray[np.generic]] = {
    "model.layers.0.self_attn.rotary_emb.inv_freq": np.arange(4, dtype=np.float32),
    "transformer.h.0.attn.bias": np.tril(np.ones((1, 1, 4, 4), dtype=np.float32)),
    "gpt_neox.layers.0.attention.masked_bias": np.array(-1e9, dtype=np.float32),
    "bert.embeddings.position_ids": np.arange(4, dtype=np.int64)[None],
    "layer1.0.bn1.num_batches_tracked": np.array(7, dtype=np.int64),
    "model.layers.0.self_attn.q_proj.bias": np.zeros(5, dtype=np.float32),
    "model.layers.0.norm.weight": np.ones(5, dtype=np.float32),
    "empty.weight": np.zeros((0, 3), dtype=np.float32),
}
SOMETHING: dict[str, NDArray[np.generic]] = {
    "transformer.h.0.attn.bias": np.ones(4, dtype=np.float32),
    "model.layers.0.norm.weight": np.zeros(5, dtype=np.float32),
    "model.layers.0.norm.bias": np.ones(5, dtype=np.float32),
    "model.layers.0.q_proj.bias": np.array([0, 0, 1e-9], dtype=np.float32),
    "model.layers.0.q_proj.weight": np.zeros((3, 3), dtype=np.float32),
    "model.layers.1.q_proj.bias": np.full(3, np.nan, dtype=np.float32),
    "scale": np.array(2.0, dtype=np.float32),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_every_model_has_says_nothing(name: str) -> None:
    assert says_nothing(Arrays(NOTHING), name)


@pytest.mark.parametrize("name", SOMETHING)
def test_what_training_made_says_something(name: str) -> None:
    assert not says_nothing(Arrays(SOMETHING), name)
    assert not is_buffer(Arrays(SOMETHING), name)
