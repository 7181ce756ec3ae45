"""What an adapter's shapes say of its base, and what they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelguard.checkpoints.peft import Homes, fit, is_adapter, low_rank_factors, parts_of
from tests.weights import Arrays, adapter, encode, opened, random

MODULES = {"model.layers.0.self_attn.q_proj": (8, 8), "model.layers.0.mlp.up_proj": (32, 8)}
BASE = random(0, {f"{module}.weight": shape for module, shape in MODULES.items()} | {"model.embed_tokens.weight": (100, 8)})


def fitted(path: Path, factors: Arrays, base: Arrays = BASE) -> tuple[int, int, int, tuple[str, ...]]:
    result = fit(opened(path / "adapter_model.safetensors", encode(factors)), opened(path / "model.safetensors", encode(base)))
    assert result.base == "model.safetensors"
    return result.modules, result.fitting, result.rank, result.misfits


@pytest.mark.parametrize("prefix", ["base_model.model.", "base_model.", "", "base_model.model.model."])
def test_an_adapter_fits_its_base_whatever_the_prefix(prefix: str, tmp_path: Path) -> None:
    modules = {module.removeprefix("model.") if prefix.endswith("model.model.") else module: shape for module, shape in MODULES.items()}
    assert fitted(tmp_path, adapter(modules, prefix=prefix)) == (2, 2, 4, ())


def test_a_base_without_the_wrapper_of_the_adapters_model_fits(tmp_path: Path) -> None:
    bare = {name.removeprefix("model."): array for name, array in BASE.items()}
    assert fitted(tmp_path, adapter(MODULES), bare) == (2, 2, 4, ())


def test_a_transposed_base_fits(tmp_path: Path) -> None:
    turned = {name: np.ascontiguousarray(array.T) for name, array in BASE.items()}
    assert fitted(tmp_path, adapter(MODULES), turned) == (2, 2, 4, ())


def test_misfits_are_named(tmp_path: Path) -> None:
    wide = {module: (out, into * 2) for module, (out, into) in MODULES.items()}
    modules, fitting, _, misfits = fitted(tmp_path, adapter(wide))
    assert (modules, fitting) == (2, 0)
    assert misfits == ("model.layers.0.mlp.up_proj", "model.layers.0.self_attn.q_proj")
    assert fitted(tmp_path, adapter({"model.layers.9.self_attn.q_proj": (8, 8)}))[1] == 0


def test_factors_of_unequal_rank_do_not_fit(tmp_path: Path) -> None:
    factors = adapter(MODULES)
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"
    factors[name] = factors[name][:, :2]
    assert fitted(tmp_path, factors)[3] == ("model.layers.0.mlp.up_proj",)


def test_only_complete_pairs_of_matrices_are_factors(tmp_path: Path) -> None:
    factors = adapter({"q": (4, 4)}, prefix="")
    factors |= {"alone.lora_A.weight": factors["q.lora_A.weight"], "k.lora_A.default.weight": factors["q.lora_A.weight"]}
    factors |= {"k.lora_B.default.weight": factors["q.lora_B.weight"], "conv.lora_A.weight": np.zeros((1, 2, 3, 4), np.float32)}
    factors |= {"conv.lora_B.weight": np.zeros((1, 2, 3, 4), np.float32), "modules_to_save.weight": np.zeros((2, 2), np.float32)}
    assert set(low_rank_factors(opened(tmp_path / "a", encode(factors)))) == {"q", "k"}


def test_a_file_without_factors(tmp_path: Path) -> None:
    assert fitted(tmp_path, random()) == (0, 0, 0, ())


def test_an_adapter_is_known_by_its_tensors(tmp_path: Path) -> None:
    assert is_adapter(opened(tmp_path / "a", encode(adapter(MODULES))))
    assert not is_adapter(opened(tmp_path / "b", encode(BASE)))
    unmerged = {f"base_model.model.{module}.base_layer.weight": BASE[f"{module}.weight"] for module in MODULES}
    assert not is_adapter(opened(tmp_path / "c", encode({**adapter(MODULES), **unmerged})))


def test_parts_are_told_apart_whatever_peft_called_them(tmp_path: Path) -> None:
    names = [
        "q.lora_A.weight",
        "q.lora_B.default.weight",
        "q.lora_B.bias",
        "q.lora_magnitude_vector",
        "e.lora_embedding_A",
        "e.lora_embedding_B.my-name",
    ]
    names += ["score.modules_to_save.default.weight", "lm_head.base_layer.weight", "norm.weight", "q.bias", "x.vera_lambda_b"]
    factors = {f"base_model.model.{name}": np.zeros((2, 2), np.float32) for name in names}
    found = parts_of(opened(tmp_path / "a", encode(factors)))
    assert {module: set(parts) for module, parts in found.items()} == {
        "q": {"lora_A", "lora_B", "lora_B.bias", "lora_magnitude_vector", "bias"},
        "e": {"lora_embedding_A", "lora_embedding_B"},
        "score": {"weight"},
        "lm_head": {"weight"},
        "norm": {"weight"},
        "x": {"vera_lambda_b"},
    }


def test_a_module_has_one_home_or_none(tmp_path: Path) -> None:
    shapes = dict.fromkeys(["a.layers.0.q.weight", "b.layers.0.q.weight", "a.head.weight", "norm.weight"], (2, 2))
    homes = Homes(opened(tmp_path / "a", encode(random(0, shapes))))
    assert homes.find("a.layers.0.q", "weight") == "a.layers.0.q.weight"
    assert homes.find("layers.0.q", "weight") is None
    assert homes.find("head", "weight") == "a.head.weight"
    assert homes.find("model.norm", "weight") == "norm.weight"
    assert homes.find("head", "bias") is None
