"""Other layouts of the same weights, on the architectures that use them: each is explained, and one changed value is not."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file

from modelguard.correspondence.alignment import align
from modelguard.correspondence.layouts import Made, Part, View
from modelguard.correspondence.orders import fusings, inverse, rotary
from modelguard.correspondence.rearrangement import Rearranged, rearranged
from modelguard.fingerprint.difference import difference
from tests.fingerprint.zoo import Arrays

Array = NDArray[np.float32]
Tensors = dict[str, Array]
HEADS, HEAD, WIDTH = 4, 8, 32


@cache
def architecture(name: str) -> Tensors:
    """A small model of a real architecture, as transformers saves it, with every tensor filled at random (biases start at zero)."""
    pytest.importorskip("torch", reason="real architectures are made with torch")
    import torch
    import transformers

    sizes = {"hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": HEADS, "vocab_size": 100}
    llama = sizes | {"num_key_value_heads": 2, "head_dim": HEAD}
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    makers: dict[str, Callable[[], Any]] = {
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**llama)),
        "phi3": lambda: transformers.Phi3ForCausalLM(transformers.Phi3Config(**sizes, num_key_value_heads=2, **special)),
        "neox": lambda: transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**sizes, **special)),
        "gpt2": lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(n_embd=WIDTH, n_layer=2, n_head=HEADS, n_positions=16, vocab_size=100, **special)
        ),
        "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**sizes, max_position_embeddings=16)),
    }
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        makers[name]().save_pretrained(folder)
        saved = load_file(Path(folder) / "model.safetensors")
    return {key: rng.standard_normal(saved[key].shape).astype(np.float32) for key in sorted(saved)}


def split_phi3(tensors: Tensors) -> Tensors:
    """Llama's layout of a Phi-3: rows of q, k, v, and of gate and up, one after the other."""
    made: Tensors = {}
    for name, value in tensors.items():
        if "qkv_proj" in name:
            cuts = np.split(value, [WIDTH, WIDTH + 2 * HEAD])
            made |= {name.replace("qkv_proj", f"{part}_proj"): cut for part, cut in zip("qkv", cuts, strict=True)}
        elif "gate_up" in name:
            made |= {name.replace("gate_up", part): cut for part, cut in zip(("gate", "up"), np.split(value, 2), strict=True)}
        else:
            made[name] = value
    return made


def split_neox(tensors: Tensors) -> Tensors:
    """GPT-NeoX with one matrix each for q, k and v: its own stores, head by head, the three of a head."""
    made: Tensors = {}
    for name, value in tensors.items():
        if "query_key_value" in name:
            cuts = value.reshape(HEADS, 3, HEAD, -1)
            for part, word in enumerate("qkv"):
                shape = (WIDTH, *value.shape[1:])
                made[name.replace("query_key_value", f"{word}_proj")] = np.ascontiguousarray(cuts[:, part]).reshape(shape)
        else:
            made[name] = value
    return made


def megatron(tensors: Tensors) -> Tensors:
    """A Llama with q, k and v in one matrix by groups: the queries of a group, its key head, its value head."""
    made = {name: value for name, value in tensors.items() if not re.search(r"self_attn\.[qkv]_proj", name)}
    for name in [name for name in tensors if "q_proj" in name]:
        q, k, v = (tensors[name.replace("q_proj", f"{part}_proj")].reshape(2, -1, WIDTH) for part in "qkv")
        made[name.replace("q_proj", "qkv_proj")] = np.concatenate([q, k, v], axis=1).reshape(-1, WIDTH)
    return made


def linear(tensors: Tensors) -> Tensors:
    """GPT-2 with plain linear layers instead of transposed ones."""
    turns = re.compile(r"c_attn\.weight|c_proj\.weight|c_fc\.weight")
    return {name: np.ascontiguousarray(value.T) if turns.search(name) else value for name, value in tensors.items()}


def linear_split(tensors: Tensors) -> Tensors:
    made: Tensors = {}
    for name, value in linear(tensors).items():
        cuts = np.split(value, 3) if "c_attn" in name else []
        made |= {name.replace("c_attn", f"{part}_proj"): cut for part, cut in zip("qkv", cuts, strict=True)} if cuts else {name: value}
    return made


def untied(tensors: Tensors) -> Tensors:
    return tensors | {"lm_head.weight": tensors["transformer.wte.weight"]}


def gguf(tensors: Tensors) -> Tensors:
    """A Llama with the rows of q and k as llama.cpp stores them: the two halves of every head line by line in turn."""
    made = dict(tensors)
    for name, value in tensors.items():
        if re.search(r"[qk]_proj", name):
            heads = len(value) // HEAD
            made[name] = value.reshape(heads, 2, HEAD // 2, WIDTH).swapaxes(1, 2).reshape(value.shape)
    return made


def other_names(tensors: Tensors) -> Tensors:
    """A Llama under GPT-NeoX-like names."""
    words = {
        "model.embed_tokens": "net.embed_in",
        "lm_head": "embed_out",
        "model.layers": "net.h",
        "self_attn.o_proj": "attention.dense",
        "mlp.up_proj": "mlp.fc1",
        "mlp.down_proj": "mlp.fc2",
        "model.norm": "net.ln_f",
        "input_layernorm": "ln_1",
        "post_attention_layernorm": "ln_2",
        "self_attn": "attention",
    }
    made: Tensors = {}
    for name, value in tensors.items():
        for old, new in words.items():
            name = name.replace(old, new)
        made[name] = value
    return made


def nameless(tensors: Tensors) -> Tensors:
    """A Llama whose names tell nothing but the layer."""
    made: Tensors = {}
    letters: dict[str, str] = {}
    for name, value in tensors.items():
        match = re.match(r"model\.layers\.(\d+)\.(.*)", name)
        letter = letters.setdefault(match[2] if match else name, f"t{len(letters) * 7 % 31}")
        made[f"blocks.{match[1]}.{letter}" if match else letter] = value
    return made


LOSSLESS: dict[str, tuple[str, Callable[[Tensors], Tensors]]] = {
    "phi3 split": ("phi3", split_phi3),
    "neox split": ("neox", split_neox),
    "megatron": ("llama", megatron),
    "gpt2 linear": ("gpt2", linear),
    "gpt2 linear, split": ("gpt2", linear_split),
    "gpt2 untied": ("gpt2", untied),
    "rotary pairs": ("llama", gguf),
    "other names": ("llama", other_names),
    "other names, fused": ("llama", lambda tensors: other_names(megatron(tensors))),
    "no names": ("llama", nameless),
}


def unexplained(left: Tensors, right: Tensors) -> tuple[list[str], Rearranged]:
    """What is not equal once the left side is in the right one's layout."""
    ours, theirs = Arrays(left), Arrays(right)
    found = rearranged(ours, theirs)
    alignment = align(found.view, theirs, by_content=True)
    changed = [item.name for item in difference(found.view, theirs, alignment) if item.explanation == "changed"]
    return [*changed, *alignment.only_left, *alignment.only_right], found


@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
@pytest.mark.parametrize("name", LOSSLESS)
def test_a_layout_is_explained(name: str, back: bool) -> None:
    base, change = LOSSLESS[name]
    left, right = change(architecture(base)), architecture(base)
    rest, found = unexplained(right, left) if back else unexplained(left, right)
    assert rest == []
    assert found.steps


@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
@pytest.mark.parametrize("name", LOSSLESS)
def test_one_changed_value_is_not(name: str, back: bool) -> None:
    base, change = LOSSLESS[name]
    left, right = change(architecture(base)), architecture(base)
    left, right = (right, left) if back else (left, right)
    for number, key in enumerate(sorted(left)):
        if number % 5 == 0:
            value = left[key].copy()
            value.reshape(-1)[value.size // 2] += np.float32(0.5)
            assert len(unexplained(left | {key: value}, right)[0]) >= 1, key


@pytest.mark.parametrize("name", LOSSLESS)
def test_independent_weights_stay_different(name: str) -> None:
    base, change = LOSSLESS[name]
    rng = np.random.default_rng(9)
    other = {key: rng.standard_normal(value.shape).astype(np.float32) for key, value in architecture(base).items()}
    rest, _ = unexplained(change(other), architecture(base))
    assert len(rest) >= 0.9 * len(architecture(base))


@pytest.mark.parametrize("name", ["llama", "phi3", "neox", "gpt2", "bert"])
def test_equal_layouts_are_left_alone(name: str) -> None:
    checkpoint = Arrays(architecture(name))
    found = rearranged(checkpoint, Arrays(architecture(name)))
    assert found.view is checkpoint
    assert found.steps == ()


def test_a_fine_tune_in_another_layout_takes_the_right_order() -> None:
    rng = np.random.default_rng(1)
    base = architecture("neox")
    tuned = {name: value + 0.3 * rng.standard_normal(value.shape).astype(np.float32) for name, value in base.items()}
    found = rearranged(Arrays(split_neox(tuned)), Arrays(base))
    assert any("interleaved by heads of 8" in step for step in found.steps)


def test_queries_alone_in_another_order_are_another_function() -> None:
    base = architecture("llama")
    broken = base | {name: value for name, value in gguf(base).items() if "q_proj" in name}
    assert {name.split(".")[-2] for name in unexplained(broken, base)[0]} == {"q_proj"}


def test_bytes_of_a_view_are_the_bytes_of_the_plain_rearrangement() -> None:
    rng = np.random.default_rng(0)
    source = rng.standard_normal((6, 10)).astype(np.float16)
    places = rng.permutation(10)
    view = View(Arrays({"x": source}), {}, {"y": Made(parts=(Part(source="x", places=places, turned=True),), shape=(10, 6))})
    wanted = np.ascontiguousarray(source.T[places]).view(np.uint8).reshape(-1)
    for start in range(0, 120, 7):
        for length in (0, 1, 5, 12, 120 - start):
            buffer = bytearray(min(length, 120 - start))
            view.readinto("y", start, memoryview(buffer))
            assert bytes(buffer) == wanted[start : start + len(buffer)].tobytes()


@given(seed=st.integers(0, 10_000), groups=st.integers(1, 4), head=st.integers(1, 6), share=st.integers(1, 3), turned=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_random_fusing_is_found_again(seed: int, groups: int, head: int, share: int, turned: bool) -> None:
    rng = np.random.default_rng(seed)
    sizes, width = (groups * head * share, groups * head, groups * head), 17
    parts = [rng.standard_normal((size, width)).astype(np.float32) for size in sizes]
    order = fusings(sizes)[seed % len(fusings(sizes))]
    whole = np.concatenate(parts)[inverse(order.places)]
    fused = {"m.layers.0.attn.qkv.weight": np.ascontiguousarray(whole.T) if turned else whole}
    split = {f"m.layers.0.attn.{part}_proj.weight": value for part, value in zip("qkv", parts, strict=True)}
    assert unexplained(fused, split)[0] == unexplained(split, fused)[0] == []
    shuffled = {name: value[rng.permutation(len(value))] for name, value in split.items()}
    if min(sizes) > 5:
        assert unexplained(fused, shuffled)[0]


@given(sizes=st.sampled_from([(6, 6), (8, 4, 4), (12, 6, 6), (1, 1), (5, 3, 3), (0, 0)]))
def test_every_order_is_a_permutation(sizes: tuple[int, ...]) -> None:
    for order in (*fusings(sizes), *rotary(sizes[0])):
        assert sorted(order.places.tolist()) == list(range(len(order.places)))


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan"), float("inf"), 3e38])
def test_weights_without_content_end_in_no_error(value: float) -> None:
    base = {name: np.full_like(tensor, value) for name, tensor in architecture("phi3").items()}
    rest, _ = unexplained(split_phi3(base), base)
    assert isinstance(rest, list)
    assert unexplained(architecture("llama"), base)[0]


def test_absurd_shapes_end_in_no_error() -> None:
    odd = {
        "m.layers.0.qkv.weight": np.zeros((0, 4), dtype=np.float32),
        "m.layers.0.q_proj.weight": np.zeros((3,), dtype=np.float32),
        "m.layers.0.up_proj.weight": np.zeros((), dtype=np.float32),
        "m.layers.0.o_proj.weight": np.zeros((1, 0, 3), dtype=np.float32),
    }
    assert unexplained(odd, architecture("llama"))[0]
    assert unexplained(architecture("llama"), odd)[0]
