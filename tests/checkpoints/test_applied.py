"""Effective weights of an adapter on its base, against PEFT's own merge, and adapters that cannot be applied."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.applied import applied
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.opening import open_checkpoint
from modelguard.checkpoints.peft import read_config
from modelguard.errors import CannotRead, Malformed
from tests.checkpoints.packing import Array, piecewise, whole
from tests.requirement import require
from tests.weights import adapter, encode, opened, random, write

MODULES = {"model.layers.0.self_attn.q_proj": (8, 8), "model.layers.0.mlp.up_proj": (32, 8)}
SHAPES = {f"{module}.weight": shape for module, shape in MODULES.items()}
BASE = random(0, SHAPES | {"model.layers.0.mlp.up_proj.bias": (32,), "lm_head.weight": (50, 8)})
UP = "model.layers.0.mlp.up_proj"
WRAPPED = f"base_model.model.{UP}"
PLAIN = {"peft_type": "LORA", "r": 4, "lora_alpha": 16}


def trained(seed: int = 5) -> dict[str, Array]:
    """Factors for both modules whose B is not zero."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=array.shape).astype(np.float32) for name, array in adapter(MODULES).items()}


def on_base(path: Path, factors: Mapping[str, Array], config: Mapping[str, Any] = PLAIN, base: Mapping[str, Array] = BASE) -> Checkpoint:
    """The view of an adapter on a base."""
    left = opened(path / "adapter_model.safetensors", encode(factors))
    return applied(left, opened(path / "model.safetensors", encode(base)), config)


def product(factors: Mapping[str, Array], module: str = WRAPPED) -> Array:
    return factors[f"{module}.lora_B.weight"].astype(np.float64) @ factors[f"{module}.lora_A.weight"]


def close(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        (PLAIN, 4),
        (PLAIN | {"use_rslora": True}, 8),
        (PLAIN | {"alpha_pattern": {"up_proj": 2}}, 0.5),
        (PLAIN | {"alpha_pattern": {"p_proj": 2, "mlp.up_proj": 8}}, 2),
        (PLAIN | {"alpha_pattern": {f"^{UP}": 2}}, 0.5),
        (PLAIN | {"r": 8, "rank_pattern": {"q_proj": 4, "up_proj": 4}}, 4),
    ],
)
def test_the_scale_is_the_configurations(config: dict[str, Any], scale: float, tmp_path: Path) -> None:
    factors = trained()
    view = on_base(tmp_path, factors, config)
    close(whole(view, f"{UP}.weight"), BASE[f"{UP}.weight"] + scale * product(factors))
    np.testing.assert_array_equal(piecewise(view, f"{UP}.weight", (3, 50)), whole(view, f"{UP}.weight"))
    assert view.tensors.keys() == BASE.keys()
    assert view.tensors["lm_head.weight"].dtype == "F32"
    assert view.notes == ("the adapter adapter_model.safetensors is applied to 2 tensors",)


def test_a_base_that_stores_inputs_first(tmp_path: Path) -> None:
    """A wide matrix shows it by its shape; a square one only in the configuration."""
    factors = trained()
    turned = {name: np.ascontiguousarray(array.T) if array.ndim == 2 else array for name, array in BASE.items()}
    view = on_base(tmp_path, factors, PLAIN | {"fan_in_fan_out": True}, turned)
    for module in MODULES:
        close(whole(view, f"{module}.weight"), turned[f"{module}.weight"] + 4 * product(factors, f"base_model.model.{module}").T)
    square = "model.layers.0.self_attn.q_proj"
    plain = on_base(tmp_path, factors, PLAIN, turned)
    close(whole(plain, f"{square}.weight"), turned[f"{square}.weight"] + 4 * product(factors, f"base_model.model.{square}"))


def test_embeddings_biases_and_whole_modules(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(4, 50)).astype(np.float32), rng.normal(size=(8, 4)).astype(np.float32)
    bias, score = rng.normal(size=32).astype(np.float32), rng.normal(size=(3, 8)).astype(np.float16)
    base = {**BASE, "model.embed_tokens.weight": rng.normal(size=(50, 8)).astype(np.float32)}
    factors = {
        **trained(),
        "base_model.model.model.embed_tokens.lora_embedding_A": a,
        "base_model.model.model.embed_tokens.lora_embedding_B": b,
        f"{WRAPPED}.lora_B.bias": bias,
        "base_model.model.lm_head.modules_to_save.default.weight": np.full((50, 8), 7, np.float32),
        "base_model.model.score.weight": score,
    }
    view = on_base(tmp_path, factors, PLAIN, base)
    close(whole(view, "model.embed_tokens.weight"), base["model.embed_tokens.weight"] + 4 * (b @ a).T)
    close(whole(view, f"{UP}.bias"), BASE[f"{UP}.bias"] + 4 * bias)
    assert (whole(view, "lm_head.weight") == 7).all()
    np.testing.assert_array_equal(whole(view, "score.weight"), score.astype(np.float32))


def test_dora_gives_rows_their_length(tmp_path: Path) -> None:
    factors = trained()
    length = np.arange(1, 33, dtype=np.float32)
    view = on_base(tmp_path, factors | {f"{WRAPPED}.lora_magnitude_vector": length})
    made = BASE[f"{UP}.weight"] + 4 * product(factors)
    close(whole(view, f"{UP}.weight"), made * (length / np.linalg.norm(made, axis=1))[:, None])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "r is no positive number"),
        (PLAIN | {"r": 0}, "r is no positive number"),
        (PLAIN | {"r": True}, "r is no positive number"),
        (PLAIN | {"lora_alpha": "16"}, "lora_alpha is no positive number"),
        (PLAIN | {"lora_alpha": 10**400}, "lora_alpha is no positive number"),
        (PLAIN | {"lora_alpha": -1}, "lora_alpha is no positive number"),
        (PLAIN | {"r": 8}, "rank 4, the configuration says 8"),
        (PLAIN | {"alpha_pattern": {"(a+)+$": 1}}, "which is not run"),
        (PLAIN | {"alpha_pattern": []}, None),
        (PLAIN | {"rank_pattern": [1]}, "is not a map"),
        (PLAIN | {"peft_type": "IA3"}, "'IA3' are not applied"),
        (PLAIN | {"init_lora_weights": "pissa"}, "'pissa'"),
        (PLAIN | {"layer_replication": [[0, 1]]}, "layer_replication"),
    ],
)
def test_configurations_that_are_not_applied(config: dict[str, Any], said: str | None, tmp_path: Path) -> None:
    if said is None:
        assert on_base(tmp_path, trained(), config).tensors
        return
    with pytest.raises(CannotRead, match=said) as caught:
        on_base(tmp_path, trained(), config)
    assert caught.value.advice
    assert "\n" not in str(caught.value)


def strange() -> dict[str, tuple[dict[str, Array], str]]:
    """Adapters that cannot be applied to the base."""
    plain, zeros = trained(), np.zeros((4, 8), np.float32)
    a, b = f"{WRAPPED}.lora_A.weight", f"{WRAPPED}.lora_B.weight"
    return {
        "empty": ({}, "changes no tensor"),
        "one-factor": ({a: plain[a]}, "factors is missing"),
        "only-a-magnitude": ({f"{WRAPPED}.lora_magnitude_vector": zeros[0]}, "factors is missing"),
        "another-base": (adapter({"model.layers.7.mlp.up_proj": (32, 8)}), "no one matrix of that name"),
        "too-wide": (adapter({UP: (32, 16)}), "do not fit"),
        "unequal-ranks": ({**plain, b: plain[b][:, :2]}, "do not fit"),
        "convolution": ({**plain, a: np.zeros((4, 8, 1, 1), np.float32)}, "are not applied"),
        "integers": ({**plain, a: np.zeros((4, 8), np.int32)}, "are not applied"),
        "vera": ({**plain, f"{WRAPPED}.vera_lambda_b": zeros}, "of a kind that is not applied"),
        "two-kinds": ({**plain, f"{WRAPPED}.lora_embedding_A": zeros}, "of a kind that is not applied"),
        "tokens": ({**plain, "base_model.model.model.embed.token_adapter.trainable_tokens_delta": zeros}, "not applied"),
        "bias-without-a-place": ({**plain, "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias": zeros[0]}, "bias has none"),
        "dora-of-a-wrong-length": ({**plain, f"{WRAPPED}.lora_magnitude_vector": zeros[0]}, "DoRA"),
    }


@pytest.mark.parametrize("case", strange())
def test_adapters_that_are_not_applied(case: str, tmp_path: Path) -> None:
    factors, said = strange()[case]
    with pytest.raises(CannotRead, match=said) as caught:
        on_base(tmp_path, factors)
    assert caught.value.advice
    assert "\n" not in str(caught.value)


def test_numbers_that_are_none_stay_in_the_weights(tmp_path: Path) -> None:
    factors = trained()
    factors[f"{WRAPPED}.lora_A.weight"][0, 0] = np.inf
    factors[f"{WRAPPED}.lora_B.weight"][0, 1] = np.nan
    found = whole(on_base(tmp_path, factors), f"{UP}.weight")
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:, 1:]).all()


def test_names_of_hostile_depth_cost_nothing(tmp_path: Path) -> None:
    deep = "a." * 200_000
    factors = {f"{deep}lora_A.weight": np.zeros((4, 8), np.float32), f"{deep}lora_B.weight": np.zeros((8, 4), np.float32)}
    with pytest.raises(CannotRead, match="no one matrix"):
        on_base(tmp_path, factors)


def test_a_folder_without_the_configuration_says_so(tmp_path: Path) -> None:
    write(tmp_path, {"adapter_model.safetensors": encode(trained())})
    with pytest.raises(CannotRead, match="holds no adapter_config"):
        read_config(LocalFolder(tmp_path, ref="here"))
    write(tmp_path, {"adapter_config.json": b"{"})
    with pytest.raises(Malformed, match="not JSON"):
        read_config(LocalFolder(tmp_path, ref="here"))


REAL: dict[str, dict[str, Any]] = {
    "llama": {"target_modules": ["q_proj", "up_proj"]},
    "patterns": {"target_modules": ["q_proj", "up_proj"], "alpha_pattern": {"up_proj": 3}, "rank_pattern": {"layers.1.mlp.up_proj": 2}},
    "rslora": {"target_modules": "all-linear", "use_rslora": True},
    "dora": {"target_modules": ["v_proj", "down_proj"], "use_dora": True},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "saved": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "gpt2": {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True},
    "gpt2-biases": {"target_modules": ["c_attn"], "bias": "lora_only"},
    "gpt2-lora-bias": {"target_modules": ["c_attn"], "lora_bias": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REAL)
def test_the_view_is_what_peft_merges(case: str, tmp_path: Path) -> None:
    require("peft", importlib.util.find_spec("peft"), "install it to hold adapters against its own merge")
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    if case.startswith("gpt2"):
        model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=2, n_head=2))
    else:
        model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False))
    model.save_pretrained(tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own, about layouts that it corrects
        merged = _merged(model, REAL[case], tmp_path / "adapter")
    folder = LocalFolder(tmp_path / "adapter", ref="adapter")
    base = open_checkpoint(LocalFolder(tmp_path / "base", ref="base"), "model.safetensors")
    view = applied(open_checkpoint(folder, "adapter_model.safetensors"), base, read_config(folder))
    assert view.tensors.keys() == base.tensors.keys()
    for name in view.tensors:
        np.testing.assert_allclose(whole(view, name), merged[name], rtol=1e-5, atol=1e-6, err_msg=name)
    changed = [name for name in base.tensors if not np.array_equal(whole(base, name), merged[name])]
    assert len(changed) >= 2


def _merged(model: Any, options: Mapping[str, Any], path: Path) -> Mapping[str, Array]:
    """Random factors on a model, saved as an adapter; and PEFT's own merge of them."""
    import torch

    peft = importlib.import_module("peft")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=10, **options))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape) * (1 if "magnitude" not in name else math.sqrt(0.1))
    wrapped.save_pretrained(path)
    assert json.loads((path / "adapter_config.json").read_text())["lora_alpha"] == 10
    return {name: tensor.detach().numpy().copy() for name, tensor in wrapped.merge_and_unload().state_dict().items()}
