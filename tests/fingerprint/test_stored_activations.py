"""A base's activation fingerprint stands in for the base: what was made from it is paired, what was not is not, and it stays small."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelguard.activations.against_stored import compare_with_stored, held
from modelguard.activations.comparison import hold
from modelguard.activations.extent import WHOLE, Extent
from modelguard.activations.heads import MEASURES
from modelguard.activations.network_settings import FAMILIES
from modelguard.activations.networks import Architecture
from modelguard.activations.next_tokens import TOP
from modelguard.activations.stored import (
    LAYERS,
    designed,
    fingerprint_activations,
    kept_layers,
    kept_tokens,
    method_of,
    reduced,
    reveals,
    told,
)
from modelguard.activations.support import ANCHORS, gram_cosine
from modelguard.activations.traces import MOST_AXES, MOST_ENTRIES, MOST_UNITS, Trace
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.registry.activation_codec import MAX_ACTIVATIONS, pack_activations
from modelguard.types.activations import ActivationFingerprint
from modelguard.types.findings import Missing, Status
from modelguard.types.weights import ActivationComparison
from tests.fingerprint.test_activations import FAST, change, disguised, edit_config, network, noise, saved, status, trace

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fingerprint(path: Path, extent: Extent = WHOLE) -> ActivationFingerprint:
    folder = LocalFolder(path, path.name)
    made = fingerprint_activations(open_safetensors(folder.open("model.safetensors")), folder, extent)
    assert isinstance(made, ActivationFingerprint), made
    return made


def against(path: Path, stored: ActivationFingerprint, extent: Extent = WHOLE) -> ActivationComparison | Missing:
    folder = LocalFolder(path, path.name)
    return compare_with_stored(open_safetensors(folder.open("model.safetensors")), folder, stored, extent)


def compared(path: Path, stored: ActivationFingerprint, extent: Extent = WHOLE) -> ActivationComparison:
    result = against(path, stored, extent)
    assert isinstance(result, ActivationComparison), result
    return result


def missing(path: Path, stored: ActivationFingerprint) -> str:
    result = against(path, stored)
    assert isinstance(result, Missing), result
    assert "\n" not in result.why
    return result.why


@pytest.mark.parametrize("family", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(FAMILIES - set(FAST)))])
def test_a_changed_self_is_paired_with_what_is_stored_and_another_seed_is_not(family: str, tmp_path: Path) -> None:
    base = fingerprint(saved(network(family, 0), tmp_path / "base"))
    derived = compared(saved(noise(network(family, 0), 0.02), tmp_path / "derived"), base)
    units = [derived.log10_p_units] if any(layer.units_n for layer in derived.layers) else []  # of experts none are kept
    assert max(derived.log10_p_hidden, derived.log10_p_heads, *units) < -9
    assert status(derived) is Status.OK
    seen = derived.layers[:1] if family in ("t5", "mt5") else derived.layers  # noise adds up over two untrained stacks
    assert min(layer.gram_cosine or 0 for layer in seen) > 0.7
    other = compared(saved(network(family, 1), tmp_path / "other"), base)
    assert min(other.log10_p_hidden, other.log10_p_heads, other.log10_p_units) > -3
    assert other.best_head_match < derived.best_head_match
    assert status(other) is not Status.OK


@pytest.mark.parametrize("family", FAST)
def test_another_seed_is_found_where_the_stored_control_fires(family: str, tmp_path: Path) -> None:
    base = fingerprint(saved(network(family, 0), tmp_path / "base"))
    assert max(base.control[:2]) < -9
    other = saved(network(family, 1), tmp_path / "other")
    assert status(compared(other, base)) is Status.FOUND
    assert status(compared(other, replace(base, control=(0.0, 0.0, 0.0)))) is Status.UNKNOWN


def test_the_same_network_is_its_own_fingerprint_byte_for_byte(tmp_path: Path) -> None:
    path = saved(network("gpt2", 0), tmp_path / "base")
    made, again = fingerprint(path), fingerprint(path)
    assert made == again
    assert made.nbytes == sum(made.sizes)
    result = compared(path, made)
    assert [layer.hidden_cosine for layer in result.layers] == pytest.approx([1.0] * 4, abs=1e-3)
    assert [layer.gram_cosine for layer in result.layers] == pytest.approx([1.0] * 4)
    assert [layer.statistics_cosine for layer in result.layers] == pytest.approx([1.0] * 4)
    assert (result.next_token_agreement, result.next_token_overlap) == (1.0, pytest.approx(1.0))
    assert "the base's own weights were not read" in result.notes[0]


@pytest.mark.parametrize("seed", range(2))
def test_a_disguise_that_keeps_the_function_is_never_found(seed: int, tmp_path: Path) -> None:
    result = compared(
        saved(disguised(network("llama", 0), seed), tmp_path / "hidden"), fingerprint(saved(network("llama", 0), tmp_path / "b"))
    )
    assert min(result.log10_p_hidden, result.log10_p_heads) > -3
    assert result.best_head_match > 0.95
    assert min(layer.gram_cosine or 0 for layer in result.layers) > 0.95
    assert status(result) is Status.UNKNOWN


def test_permuted_units_are_paired_by_their_axes_alone(tmp_path: Path) -> None:
    units = torch.roll(torch.arange(96), 1)

    def permute(name: str, tensor: Any) -> None:
        if ".intermediate." in name:
            tensor.copy_(tensor[units].clone())
        elif name.endswith("output.dense.weight") and "attention" not in name:
            tensor.copy_(tensor[:, units].clone())

    base = fingerprint(saved(network("bert", 0), tmp_path / "base"))
    result = compared(saved(change(network("bert", 0), permute), tmp_path / "permuted"), base)
    assert result.log10_p_units > -3
    assert max(result.log10_p_hidden, result.log10_p_heads) < -9
    assert status(result) is Status.OK


@pytest.mark.parametrize(("heads", "groups"), [(8, 8), (8, 2), (1, 1)])
def test_p_values_of_reduced_traces_are_valid_for_independent_networks(heads: int, groups: int) -> None:
    random = np.random.default_rng(heads * 10 + groups)
    every = np.arange(3)
    pairs = [hold(*(reduced(trace(random, heads, groups), every, 40) for _ in range(2))) for _ in range(200)]
    for bar in (-1.0, -2.0):
        for test in ("hidden", "heads", "units"):
            allowed = 200 * 10**bar
            assert sum(getattr(pair, f"log10_p_{test}") <= bar for pair in pairs) <= allowed + 4 * math.sqrt(allowed)


@pytest.mark.parametrize(
    ("layers", "heads", "groups"), [(256, 512, 8), (256, 512, 1), (80, 64, 64), (21, 64, 8), (20, 64, 8), (5, 64, 64), (1, 1, 1)]
)
def test_no_network_makes_more_than_four_megabytes(layers: int, heads: int, groups: int, tmp_path: Path) -> None:
    """The largest trace that there can be, without its memory: the same number everywhere."""

    def flat(*shape: int) -> Any:
        return np.broadcast_to(np.float16(0.01), shape)

    folder = LocalFolder(saved(network("bert", 0), tmp_path / "m"), "m")
    architecture = designed(folder)
    assert isinstance(architecture, Architecture)
    from modelguard.activations.stored import own_probes

    huge = Trace(
        states=flat(layers, 768, MOST_AXES),
        patterns=flat(layers, heads, MOST_ENTRIES),
        units=flat(layers, 768, MOST_UNITS),
        groups=groups,
        statistics=flat(layers, heads, MEASURES),
    )
    checkpoint = open_safetensors(folder.open("model.safetensors"))
    made = told(checkpoint, architecture, own_probes(folder, architecture), huge, kept_layers(layers), tokens=kept_tokens(layers))
    assert made.nbytes + 6 * ANCHORS * TOP <= MAX_ACTIVATIONS
    assert made.kept == min(layers, LAYERS)
    assert made.heads <= 64
    assert made.heads % made.groups == 0
    assert len(pack_activations("m", replace(made, layers=layers)).payload) == made.nbytes


def test_the_statement_of_what_it_reveals_names_every_part(tmp_path: Path) -> None:
    made = fingerprint(saved(network("gpt2", 0), tmp_path / "base"))
    assert reveals(made).startswith("reveals in 4 of 4 layers what 64 axes of the hidden states and 128 MLP units hold at 768 tokens")
    assert "8 attention heads" in reveals(made)
    assert "32 likeliest next tokens" in reveals(made)


def test_fewer_layers_leave_the_control_out(tmp_path: Path) -> None:
    base = fingerprint(saved(network("bert", 0), tmp_path / "base"))
    other = saved(network("bert", 1), tmp_path / "other")
    result = compared(other, base, Extent(layers=2))
    assert len(result.layers) == 2
    assert not result.control_fires
    assert "the first 2 of 4 layers were run" in result.notes
    assert status(result) is Status.UNKNOWN
    assert status(compared(saved(noise(network("bert", 0), 0.02), tmp_path / "d"), base, Extent(layers=2))) is Status.OK
    short = fingerprint(saved(network("bert", 0), tmp_path / "again"), Extent(layers=3))
    assert (short.depth, short.which, short.top) == (3, (0, 1, 2), 0)
    assert len(compared(other, short).layers) == 3
    assert status(compared(other, short)) is Status.FOUND


def test_what_does_not_compare_says_why(tmp_path: Path) -> None:
    base = fingerprint(saved(network("gpt2", 0), tmp_path / "base"))
    own = saved(network("gpt2", 1), tmp_path / "own")
    assert "different architecture" in missing(saved(network("gpt2", 0, num_hidden_layers=3), tmp_path / "short"), base)
    assert "different architecture" in missing(saved(network("gpt2", 0, n_inner=128), tmp_path / "narrow"), base)
    assert "by another method" in missing(own, replace(base, method=base.method.replace("-t96-", "-t95-")))
    assert "vocabulary" in missing(own, replace(base, ids=np.full((12, 64), 300, "<u4").tobytes()))
    assert "longer texts" in missing(own, replace(base, length=128, ids=bytes(4 * 12 * 128)))
    assert "more or" in missing(own, replace(base, texts=24, ids=bytes(4 * 24 * 64)))
    assert "differ in" in missing(own, replace(base, axes=32, states=base.states[: len(base.states) // 2]))
    assert "different architecture" in missing(own, replace(base, depth=5))
    assert method_of("probes-v1-257bb4ea:random-ids:64") == base.method
    two = held(base, replace(base, ids=np.zeros((12, 64), "<u4").tobytes()))
    assert isinstance(two, Missing)


def test_code_that_a_config_names_is_ignored_and_said(tmp_path: Path) -> None:
    base = fingerprint(saved(network("gpt2", 0), tmp_path / "base"))
    left = edit_config(saved(network("gpt2", 0), tmp_path / "left"), auto_map={"AutoModel": "evil.Model"})
    (left / "evil.py").write_text("raise SystemExit('run')")
    result = compared(left, base)
    assert "auto_map" in result.notes[0]
    assert any("blind to permuted units" in note for note in result.notes)
    (left / "config.json").write_text('{"model_type": "gpt2", "n_layer": 1000000000}')
    assert "not a setting" in missing(left, base)


def test_a_larger_vocabulary_still_compares(tmp_path: Path) -> None:
    """A fine-tune that added tokens is held against the stored base; one that lost some of the probes' tokens cannot be."""
    base = fingerprint(saved(network("bert", 0), tmp_path / "base"))

    def grown(count: int) -> Any:
        model = network("bert", 0)
        model.resize_token_embeddings(count, mean_resizing=False)
        return model

    assert status(compared(saved(grown(308), tmp_path / "grown"), base)) is Status.OK
    assert "vocabulary" in missing(saved(grown(200), tmp_path / "less"), base)


def test_the_gram_cosine_is_debiased_and_does_not_see_a_rotation() -> None:
    random = np.random.default_rng(0)

    def gram(points: Any) -> Any:
        made = points @ points.T
        np.fill_diagonal(made, 0)
        return made

    one, turn = random.normal(size=(96, 500)), np.linalg.qr(random.normal(size=(500, 500)))[0]
    assert gram_cosine(gram(one), gram(one @ turn)) == pytest.approx(1.0)
    strangers = [gram_cosine(gram(random.normal(size=(96, 500))), gram(random.normal(size=(96, 500)))) or 0 for _ in range(30)]
    assert abs(np.mean(strangers)) < 0.02  # plain CKA of so few points in so many dimensions is above 0.8
    assert gram_cosine(np.zeros((96, 96)), gram(one)) is None
    assert gram_cosine(np.zeros((2, 2)), np.zeros((2, 2))) is None
