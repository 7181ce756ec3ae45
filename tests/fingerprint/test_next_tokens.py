"""The likeliest next tokens are those of transformers' own run, whatever the head is called, tied to, or capped at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelguard.activations.networks import Architecture
from modelguard.activations.next_tokens import TOP, NextTokens, agreement, head_of, next_tokens
from modelguard.activations.probes import encode, written
from modelguard.activations.stored import designed
from modelguard.activations.streaming import run
from modelguard.activations.traces import Trace
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.types.findings import Missing

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 40_000,  # more than one tile of the head
    "max_position_embeddings": 80,
    "initializer_range": 0.3,
}
OTHER: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 80},
    "gemma2": {"head_dim": 16, "num_key_value_heads": 2},
    "mistral": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
}
FAST = ("llama", "gpt2")
SLOW = ("mistral", "qwen2", "gemma2", "gpt_neox")


def saved(folder: Path, family: str, **more: Any) -> Any:
    config = transformers.AutoConfig.for_model(family, **(SIZES | OTHER.get(family, {}) | more), bos_token_id=None, eos_token_id=None)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    model.save_pretrained(folder)
    return model


def opened(path: Path) -> tuple[LocalFolder, Checkpoint, Architecture]:
    folder = LocalFolder(path, path.name)
    network = designed(folder)
    assert isinstance(network, Architecture), network
    return folder, open_safetensors(folder.open("model.safetensors")), network


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_they_are_those_of_transformers_own_run(family: str, tied: bool, tmp_path: Path) -> None:
    model = saved(tmp_path / "m", family, tie_word_embeddings=tied)
    folder, checkpoint, network = opened(tmp_path / "m")
    tokens = encode(folder, 40_000, 80)
    trace = run(checkpoint, network, written(tokens), depth=2, telling=True)
    assert isinstance(trace, Trace), trace
    assert trace.last is not None
    found = next_tokens(checkpoint, network, trace.last[::50])
    assert isinstance(found, NextTokens), found
    with torch.inference_mode():
        logits = model(input_ids=torch.from_numpy(tokens.ids)).logits.reshape(-1, 40_000)[::50]
    logs, ids = torch.log_softmax(logits, dim=-1).topk(TOP, dim=-1)
    assert np.allclose(found.logs, logs.numpy(), atol=2e-3)
    assert np.mean(found.ids[:, 0] == ids[:, 0].numpy()) == 1.0
    assert np.mean(found.ids == ids.numpy()) > 0.98  # two equally likely ones may change places


def test_what_has_no_head_says_so(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    saved(tmp_path / "m", "llama", tie_word_embeddings=False)
    weights = load_file(tmp_path / "m" / "model.safetensors")
    for changed, reason in (
        ({name: value for name, value in weights.items() if name != "lm_head.weight"}, "no output head"),
        (weights | {"lm_head.weight": weights["lm_head.weight"][:7]}, "of shape (7, 64)"),
        (weights | {"lm_head.weight": np.full_like(weights["lm_head.weight"], np.nan)}, "not finite"),
    ):
        save_file(changed, tmp_path / "m" / "model.safetensors")
        _, checkpoint, network = opened(tmp_path / "m")
        found = next_tokens(checkpoint, network, np.ones((3, 64), dtype=np.float32))
        assert isinstance(found, Missing)
        assert reason in found.why


def test_an_encoder_predicts_no_next_token(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("bert", **SIZES)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "m")
    _, checkpoint, network = opened(tmp_path / "m")
    found = head_of(network, checkpoint)
    assert isinstance(found, Missing)
    assert "predicts no next token" in found.why
    assert json.loads((tmp_path / "m" / "config.json").read_text())["model_type"] == "bert"


def test_agreement_of_equal_partly_equal_and_disjoint_lists() -> None:
    def lists(*ids: int) -> NextTokens:
        return NextTokens(ids=np.array([ids]), logs=np.log(np.array([[0.5, 0.25]], dtype=np.float32)))

    assert agreement(lists(1, 2), lists(1, 2)) == (1.0, pytest.approx(1.0))
    assert agreement(lists(1, 2), lists(2, 1)) == (0.0, pytest.approx(0.5 / 0.75))
    assert agreement(lists(1, 2), lists(1, 3)) == (1.0, pytest.approx(0.5 / 0.75))
    assert agreement(lists(1, 2), lists(3, 4)) == (0.0, 0.0)
