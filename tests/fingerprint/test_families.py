"""Every family that is run, layer by layer against transformers' own whole forward pass of the same files: that is the truth.

Each is built with settings that are not its defaults, so that a setting that is not carried over shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelguard.activations.comparison import compare_activations
from modelguard.activations.network_settings import FAMILIES, read_settings
from modelguard.activations.networks import Architecture, design
from modelguard.activations.probes import drawn, encode, written
from modelguard.activations.streaming import run
from modelguard.activations.traces import Trace, content, states
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison
from tests.fingerprint.test_streaming import Counting, designed

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

Array = np.ndarray[Any, Any]
DEPTH = 3
COMMON = {"hidden_size": 64, "num_hidden_layers": DEPTH, "num_attention_heads": 8, "vocab_size": 300, "max_position_embeddings": 80}
DENSE = COMMON | {"intermediate_size": 96}
GROUPED = DENSE | {"num_key_value_heads": 2}
ROTARY = {"rope_theta": 500.0}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
SPARSE = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 24}
T5 = {"d_model": 64, "d_kv": 12, "d_ff": 96, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 8, "vocab_size": 300}
NEO = {"hidden_size": 64, "num_layers": 2, "num_heads": 8, "vocab_size": 300, "max_position_embeddings": 80}
GPT2 = {"n_embd": 64, "n_layer": DEPTH, "n_head": 8, "n_positions": 80, "vocab_size": 300}
CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "bert": ("bert", DENSE | {"hidden_act": "gelu_new", "layer_norm_eps": 0.01}),
    "roberta": ("roberta", DENSE),
    "xlm-roberta": ("xlm-roberta", DENSE),
    "distilbert": (
        "distilbert",
        {"dim": 64, "n_layers": DEPTH, "n_heads": 8, "hidden_dim": 96, "max_position_embeddings": 80, "vocab_size": 300},
    ),
    "mpnet": ("mpnet", DENSE),
    "electra": ("electra", DENSE | {"embedding_size": 32}),
    "gpt2": ("gpt2", GPT2 | {"n_inner": 80, "activation_function": "relu"}),
    "gpt2, scaled by layers": ("gpt2", GPT2 | {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False}),
    "gpt_neo": ("gpt_neo", NEO | {"attention_types": [[["global", "local"], 1]], "window_size": 5}),
    "gpt_neox": ("gpt_neox", DENSE | ROTARY | {"hidden_act": "gelu_new"}),
    "gpt_neox, in a row": ("gpt_neox", DENSE | {"use_parallel_residual": False, "attention_bias": False}),
    "llama": ("llama", GROUPED | ROTARY | {"rms_norm_eps": 0.01, "attention_bias": True, "mlp_bias": True}),
    "llama, stretched": ("llama", DENSE | {"head_dim": 12}),
    "mistral": ("mistral", GROUPED | {"head_dim": 12, "sliding_window": 7}),
    "mixtral": ("mixtral", GROUPED | ROTARY | {"num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": 7}),
    "qwen2": ("qwen2", GROUPED | {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
    "qwen2_moe": ("qwen2_moe", GROUPED | SPARSE | {"shared_expert_intermediate_size": 40, "qkv_bias": False, "norm_topk_prob": True}),
    "qwen2_moe, partly dense": ("qwen2_moe", GROUPED | SPARSE | {"shared_expert_intermediate_size": 40, "mlp_only_layers": [1]}),
    "qwen3": ("qwen3", GROUPED | {"head_dim": 12}),
    "qwen3_moe": ("qwen3_moe", GROUPED | SPARSE | {"head_dim": 12, "norm_topk_prob": True}),
    "qwen3_moe, every other": ("qwen3_moe", GROUPED | SPARSE | {"decoder_sparse_step": 2}),
    "gemma": ("gemma", GROUPED | {"head_dim": 12, "hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": ("gemma2", GROUPED | {"head_dim": 12, "query_pre_attn_scalar": 30, "attn_logit_softcapping": 2.0, "sliding_window": 7}),
    "gemma3_text": ("gemma3_text", GROUPED | {"head_dim": 12, "query_pre_attn_scalar": 30, "sliding_window": 7}),
    "t5": ("t5", T5 | {"feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20}),
    "t5, first version": ("t5", T5 | {"layer_norm_epsilon": 0.01}),
    "mt5": ("mt5", T5),
    "vit": ("vit", {**DENSE, "image_size": 32, "patch_size": 8, "num_channels": 3, "qkv_bias": False}),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def saved(family: str, settings: Mapping[str, Any], folder: Path, kind: Any = transformers.AutoModel) -> Path:
    """A network of these settings with random weights, wide enough that attention is no mean."""
    wide = {"initializer_factor": 5.0} if family in ("t5", "mt5") else {"initializer_range": 0.2}
    config = transformers.AutoConfig.for_model(family, **settings, **wide, pad_token_id=1, bos_token_id=None, eos_token_id=None)
    torch.manual_seed(0)
    (kind.from_config if hasattr(kind, "from_config") else kind)(config).save_pretrained(folder)
    return folder


def told(folder: Path, depth: int = 0) -> Trace | Missing:
    """What our own run says of a folder."""
    place = LocalFolder(folder, folder.name)
    settings = read_settings(place)
    assert not isinstance(settings, Missing), settings
    checkpoint = open_safetensors(place.open("model.safetensors"))
    architecture = design(settings, place.ref)
    assert isinstance(architecture, Architecture), architecture
    if architecture.vocabulary:
        probes = written(encode(place, architecture.vocabulary, architecture.positions))
    else:
        probes = drawn(architecture.config.num_channels, architecture.config.image_size)
    return run(checkpoint, architecture, probes, depth=depth or architecture.layers)


def truth(folder: Path, kind: Any = transformers.AutoModel) -> tuple[list[Array], list[Array]]:
    """What came out of each layer in transformers' own pass (texts, tokens, width), and the attention in it (texts, heads, from, to)."""
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    found: list[Array] = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and re.fullmatch(r"layers|h|(\w+\.)?(encoder|decoder|transformer)\.(layer|block)", name):
            for layer in module:
                layer.register_forward_hook(lambda _m, _g, out: found.append((out[0] if isinstance(out, tuple) else out).detach().numpy()))
    with torch.inference_mode():
        if model.main_input_name == "pixel_values":
            out = model(**{name: torch.from_numpy(array) for name, array in drawn(3, 32).inputs.items()}, output_attentions=True)
        else:
            ids = torch.from_numpy(encode(LocalFolder(folder, ""), 300, getattr(model.config, "max_position_embeddings", None) or 512).ids)
            both = {"decoder_input_ids": ids} if model.config.is_encoder_decoder and kind is transformers.AutoModel else {}
            out = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True, **both)
    attentions = (*out.encoder_attentions, *out.cross_attentions) if "encoder_attentions" in out else out.attentions
    return found, [attention.numpy() for attention in attentions]


def agree(trace: Trace | Missing, layers: list[Array], attentions: list[Array]) -> None:
    assert isinstance(trace, Trace), trace
    assert len(trace.states) == len(layers) == len(attentions)
    for index, (ours, theirs) in enumerate(zip(trace.states, layers, strict=True)):
        assert np.allclose(ours, states(theirs), atol=3e-3), f"layer {index}"
    for ours, theirs in zip(trace.patterns, attentions, strict=True):
        assert np.allclose(ours, content(theirs), atol=3e-3)
        assert ours.astype(np.float32).std(axis=1).min() > 0


def test_every_family_is_here() -> None:
    assert {family for family, _ in CASES.values()} == FAMILIES


@pytest.mark.parametrize("name", CASES)
def test_layers_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    family, settings = CASES[name]
    folder = saved(family, settings, tmp_path / "m")
    agree(told(folder), *truth(folder))


AS_ON_THE_HUB: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama 3": ("llama", {"rope_theta": 500.0, "rope_scaling": {**LLAMA3, "rope_type": "llama3"}}),
    "stretched evenly": ("llama", {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 4.0}}),
    "mixtral": ("mixtral", {"rope_theta": 500.0}),
    "gpt_neox": ("gpt_neox", {"rotary_pct": 0.5, "rotary_emb_base": 500}),
    "gemma 3": ("gemma3_text", {"rope_theta": 900.0, "rope_local_base_freq": 30.0, "sliding_window_pattern": 2}),
    "gemma 3, stretched": ("gemma3_text", {"sliding_window_pattern": 2, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
}


@pytest.mark.parametrize("name", AS_ON_THE_HUB)
def test_older_spellings_of_settings(name: str, tmp_path: Path) -> None:
    """Configurations on the hub have the keys of earlier versions of transformers; it reads them still, and so must we."""
    family, values = AS_ON_THE_HUB[name]
    folder = saved(family, CASES[family][1], tmp_path / "m")
    path = folder / "config.json"
    kept = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("rope_parameters", "layer_types")}
    path.write_text(json.dumps({key: value for key, value in kept.items() if key != "_sliding_window_pattern"}))
    before = told(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    agree(told(folder), *truth(folder))
    assert isinstance(before, Trace)
    assert not np.array_equal(before.states, told(folder).states)  # type: ignore[union-attr]


@pytest.mark.parametrize("family", ["t5", "mt5"])
def test_an_encoder_alone_is_run_and_held_against_the_whole(family: str, tmp_path: Path) -> None:
    kind = getattr(transformers, "T5EncoderModel" if family == "t5" else "MT5EncoderModel")
    whole, half = saved(family, T5, tmp_path / "whole"), saved(family, T5, tmp_path / "half", kind)
    agree(told(half), *truth(half, kind))
    assert isinstance(alone := told(whole, depth=2), Trace)
    assert alone.states.shape[0] == 2
    for left, right in ((half, whole), (whole, half), (whole, whole)):
        result = held(left, right)
        assert isinstance(result, ActivationComparison), result
        assert len(result.layers) == (3 if left == right else 2)
    assert isinstance(refused := held(saved(family, {**T5, "num_layers": 1, "num_decoder_layers": 2}, tmp_path / "other"), whole), Missing)
    assert "1+2 layers" in refused.why


def test_only_the_encoder_is_read_where_no_more_is_wanted(tmp_path: Path) -> None:
    folder = saved("t5", T5, tmp_path / "m")
    change(folder, lambda weights: {name: array for name, array in weights.items() if "decoder.block" not in name})
    assert isinstance(told(folder, depth=2), Trace)
    assert "decoder.block" in str(told(folder, depth=3))


def held(left: Path, right: Path) -> ActivationComparison | Missing:
    places = LocalFolder(left, left.name), LocalFolder(right, right.name)
    ours, theirs = (open_safetensors(place.open("model.safetensors")) for place in places)
    return compare_activations(ours, theirs, *places)


def change(folder: Path, action: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    from safetensors.torch import load_file, save_file

    save_file(action(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    return folder


EXPERT = "layers.1.mlp.experts.5.down_proj.weight"


@pytest.mark.parametrize(
    "action",
    [
        lambda weights: {name: array for name, array in weights.items() if name != EXPERT},
        lambda weights: weights | {EXPERT: weights[EXPERT][:, :8].clone()},
        lambda weights: weights | {EXPERT: weights[EXPERT].flatten()},
        lambda weights: weights | {EXPERT: weights[EXPERT].to(torch.int8)},
        lambda weights: weights | {EXPERT.replace(".5.", ".9999."): weights[EXPERT].clone()},
    ],
    ids=["missing", "narrow", "flat", "integers", "one too far"],
)
def test_experts_that_make_no_whole_layer_are_said(action: Any, tmp_path: Path) -> None:
    folder = saved(*CASES["qwen3_moe"], tmp_path / "m")
    assert isinstance(told(folder), Trace)
    result = told(change(folder, action))
    assert isinstance(result, Missing)
    assert re.search(r"layers\.1\.mlp\.experts\.(down|gate_up)_proj", result.why)


def test_experts_in_one_tensor_are_read_as_they_are(tmp_path: Path) -> None:
    """Some files hold them as networks want them."""
    folder = saved(*CASES["mixtral"], tmp_path / "m")
    apart = told(folder)
    architecture = transformers.AutoModel.from_pretrained(folder)
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in architecture.state_dict().items()}, folder / "model.safetensors")
    together = told(folder)
    assert isinstance(apart, Trace)
    assert isinstance(together, Trace)
    assert np.array_equal(apart.states, together.states)


def test_experts_of_a_layer_that_is_not_wanted_are_not_read(tmp_path: Path) -> None:
    folder = saved(*CASES["qwen3_moe"], tmp_path / "m")
    place = LocalFolder(folder, "m")
    counting = Counting(open_safetensors(place.open("model.safetensors")))
    architecture = designed(place)
    assert isinstance(run(counting, architecture, written(encode(place, 300, 80)), depth=1), Trace)
    read = {name for name in counting.read if ".experts." in name}
    assert read
    assert all(name.startswith("layers.0.") for name in read)
    assert all(counting.read[name] == counting.tensors[name].nbytes for name in read)


@pytest.mark.parametrize("family", ["falcon", "olmoe", "deepseek_v3", "gpt_oss", "bart", "whisper", "mamba", "resnet", "gemma3", "clip"])
def test_other_families_are_unknown_by_name(family: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    result = read_settings(LocalFolder(tmp_path, "m"))
    assert isinstance(result, Missing)
    assert f"not compared for the architecture '{family}'" in result.why


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("mixtral", {"num_local_experts": 1024, "num_hidden_layers": 256}, "more than 32768 experts"),
        ("qwen3_moe", {"num_experts": 10**9}, "not a setting that a network is run with: .*num_experts"),
        ("qwen3_moe", {"num_local_experts": -6}, "num_local_experts"),
        ("qwen2_moe", {"mlp_only_layers": [10**9]}, "mlp_only_layers"),
        ("qwen2_moe", {"mlp_only_layers": list(range(256)) * 2}, "mlp_only_layers"),
        ("gpt_neo", {"max_position_embeddings": 1 << 15}, "masks of 2 GiB"),
        ("gemma3_text", {"layer_types": ["full_attention", "evil"]}, "layer_types"),
        ("gemma3_text", {"layer_types": ["full_attention"]}, "builds no network|could not be run|not a setting"),
        ("gemma3_text", {"rope_parameters": {"full_attention": {"rope_type": "../x"}}}, "rope_parameters"),
        ("t5", {"num_decoder_layers": 10**9}, "num_decoder_layers"),
        ("t5", {"num_decoder_layers": 0}, "num_decoder_layers"),
        ("t5", {"d_kv": 99}, "has shape"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_made(name: str, values: dict[str, Any], reason: str, tmp_path: Path) -> None:
    folder = saved(*CASES[name], tmp_path / "m")
    assert isinstance(held(folder, folder), ActivationComparison)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    result = held(folder, folder)
    assert isinstance(result, Missing)
    assert re.search(reason, result.why), result.why
    assert "\n" not in result.why


def test_weights_whose_activations_overflow_are_unknown(tmp_path: Path) -> None:
    """Finite weights, infinite sums."""
    folder = saved(*CASES["llama"], tmp_path / "m")
    assert isinstance(told(folder), Trace)
    change(folder, lambda weights: {name: array * 1e30 if "mlp" in name else array for name, array in weights.items()})
    assert "not finite" in str(told(folder))
