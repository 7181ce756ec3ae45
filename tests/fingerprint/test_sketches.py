"""Fingerprints: what they read, what they find, what they do not, and what hostile weights make of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelguard.blobs.local import LocalBlob
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.errors import BadRequest
from modelguard.fingerprint.blocks import Block
from modelguard.fingerprint.meter import Metered
from modelguard.fingerprint.weight_tests import window
from modelguard.sketches.comparison import compare_sketches
from modelguard.sketches.search import search
from modelguard.sketches.sketch import anchor_tokens, fingerprint, method_of, reveals, signs, values_of
from modelguard.types.registry import Entry, Fingerprint, Search
from modelguard.types.weights import Relation
from tests.fingerprint.zoo import UNITS, Arrays, Tensors, model, permuted, rotated, tuned

ALPHA = 1e-9
BASE = model(0)
FIRST_SIGNS = [1, -1, -1, 1, 1, -1, 1, 1]
WINDOW_START = 5552
SECRET = b"0123456789abcdef0123456789abcdef"


def made(tensors: Tensors, secret: bytes = b"") -> Fingerprint:
    return fingerprint(Arrays(tensors), secret)


KNOWN = tuple(Entry(name=f"m{seed}", fingerprint=made(model(seed))) for seed in range(6))


def found(tensors: Tensors, entries: tuple[Entry, ...] = KNOWN, secret: bytes = b"") -> Search:
    return search(made(tensors, secret), entries, alpha=ALPHA, registry="known", known=len(entries))


def names(result: Search) -> list[str]:
    return [hit.name for hit in result.hits]


def pruned(tensors: Tensors) -> Tensors:
    return {name: np.where(np.abs(value) >= np.median(np.abs(value)), value, np.float32(0)) for name, value in tensors.items()}


def four_bit(tensors: Tensors) -> Tensors:
    top = {name: np.abs(value).max() / 7 for name, value in tensors.items()}
    return {name: np.asarray(np.rint(value / top[name]) * top[name], dtype=np.float32) for name, value in tensors.items()}


def without_layer(tensors: Tensors, gone: int) -> Tensors:
    kept = {name: value for name, value in tensors.items() if f".layers.{gone}." not in name}
    for layer in range(gone + 1, 4):
        kept = {name.replace(f".layers.{layer}.", f".layers.{layer - 1}."): value for name, value in kept.items()}
    return kept


UNDISGUISED = {
    "the same": BASE,
    "fine-tuned": tuned(BASE),
    "renamed": {name.replace("model.", "backbone."): value for name, value in BASE.items()},
    "4-bit": four_bit(BASE),
    "half pruned": pruned(BASE),
    "half of it in a merge": {name: np.float32(0.5) * (value + model(9)[name]) for name, value in BASE.items()},
    "a layer removed": without_layer(BASE, 1),
    "more tokens": BASE | {"model.embed_tokens.weight": np.concatenate([BASE["model.embed_tokens.weight"]] * 2)[:700]},
}


@pytest.mark.parametrize("kind", UNDISGUISED)
def test_an_undisguised_parent_is_found_without_its_weights(kind: str) -> None:
    assert names(found(UNDISGUISED[kind])) == ["m0"]


def test_a_fifth_in_a_merge_is_found_beside_the_rest() -> None:
    merged = {name: np.float32(0.2) * value + np.float32(0.8) * KNOWN_ONE[name] for name, value in BASE.items()}
    assert names(found(merged)) == ["m1", "m0"]


KNOWN_ONE = model(1)
DISGUISED = {"permuted": permuted(BASE), "rotated": rotated(BASE), "both": rotated(permuted(BASE))}


@pytest.mark.parametrize("kind", DISGUISED)
def test_a_disguised_parent_is_a_candidate_and_no_hit(kind: str) -> None:
    result = found(DISGUISED[kind])
    assert names(result) == []
    assert [item.name for item in result.candidates] == ["m0"]
    assert result.candidates[0].gram > 0.99


@pytest.mark.parametrize("seed", range(20, 26))
def test_a_stranger_is_neither(seed: int) -> None:
    result = found(model(seed))
    assert (result.searched, result.hits, result.candidates) == (6, (), ())


def test_the_p_values_of_strangers_are_bounds() -> None:
    """Fixed points over 72 independent pairs of layers: about one in 64 is expected, many are not."""
    from modelguard.sketches.search import score

    fixed = np.concatenate([item.fixed for seed in (30, 31, 32) for item in score(made(model(seed)), KNOWN)])
    assert len(fixed) == 72
    assert fixed.max() <= 7  # 72 / 7! is 0.014, and pairs that are not worth a look count as 0


def test_a_fingerprint_is_the_same_every_time() -> None:
    assert made(BASE) == made(dict(reversed(BASE.items()))) == KNOWN[0].fingerprint


def test_the_map_and_the_window_are_frozen() -> None:
    """Fingerprints outlive versions: what these pin may change only with the method's name."""
    assert np.rint(signs(4096)[0, :8] * 8).astype(int).tolist() == FIRST_SIGNS
    block = Block(layer="", matched="", left="", right="", units=11_008, width=4096)
    assert window(block)[0] == WINDOW_START
    assert method_of() == (
        "weights-1:t1-unit-fixed-points-v1-m64-b6-w2048-e8388608-g256-signs-shake256-d64-f16:t0-a64-n512-f16:gram-k256-i8"
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-4, 4))
def test_sketches_are_linear(seed: int, factor: float) -> None:
    first, second = model(0, layers=1), model(seed % 1000 + 1, layers=1)
    mixed = {name: value + np.float32(factor) * second[name] for name, value in first.items()}
    parts = [values_of(made(tensors).blocks[0]) for tensors in (first, second, mixed)]
    assert np.abs(parts[0] + factor * parts[1] - parts[2]).max() <= 4e-3 * np.abs(parts[1]).max() * (1 + abs(factor))


def test_a_secret_makes_sketches_that_compare_with_nothing_else() -> None:
    private = Entry(name="m0", alias="project", fingerprint=made(BASE, SECRET))
    assert private.fingerprint.method != method_of(SECRET[::-1]) != method_of()
    assert SECRET.decode() not in private.fingerprint.method
    assert (private.fingerprint.gains, private.fingerprint.gram) == (b"", b"")
    assert found(BASE, (private,)).searched == 0
    assert found(BASE, (private,), SECRET[::-1]).searched == 0
    assert names(found(tuned(BASE), (private,), SECRET)) == ["project"]
    assert names(found(model(7), (private,), SECRET)) == []
    with pytest.raises(BadRequest, match="bytes"):
        method_of(b"short")


def test_a_sketch_says_what_it_reveals() -> None:
    assert "256 rows of 4 layers in 64 directions" in reveals(made(BASE))
    narrow = {name: value[..., :64] if value.ndim == 2 and value.shape[-1] == 128 else value for name, value in BASE.items()}
    narrow = {name: value[:64] if value.shape[0] == 128 else value for name, value in narrow.items()}
    assert "give these rows away whole" in reveals(made(narrow))


def by_row(values: Callable[[int], NDArray[np.floating | np.integer]]) -> Tensors:
    """Every tensor with a factor for each of its rows."""
    factors = {name: np.asarray(values(len(value)), dtype=np.float32) for name, value in BASE.items()}
    return {name: value * factors[name].reshape(-1, *[1] * (value.ndim - 1)) for name, value in BASE.items()}


HOSTILE = {
    "not a number": {name: np.full_like(value, np.nan) for name, value in BASE.items()},
    "infinite": {name: np.where(value > 0, np.float32(np.inf), value) for name, value in BASE.items()},
    "zero": {name: np.zeros_like(value) for name, value in BASE.items()},
    "constant": {name: np.full_like(value, 3) for name, value in BASE.items()},
    "two levels": {name: np.sign(value) for name, value in BASE.items()},
    "half not a number": by_row(lambda count: np.where(np.arange(count) % 2, 1, np.nan)),
    "half zero": by_row(lambda count: np.arange(count) % 2),
    "nearly overflowing": {name: np.clip(value * np.float32(1e38), -3e38, 3e38) for name, value in model(11).items()},
    "nearly nothing": {name: value * np.float32(1e-40) for name, value in model(11).items()},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_weights_show_nothing_that_is_not_there(kind: str) -> None:
    result = found(HOSTILE[kind], (*KNOWN[1:], Entry(name="itself", fingerprint=made(HOSTILE[kind]))))
    allowed = {"itself"} if kind in ("two levels", "half not a number", "half zero", "nearly overflowing", "nearly nothing") else set()
    assert set(names(result)) <= allowed


def test_layers_of_unequal_shapes() -> None:
    """Only layers of the commonest shape are sketched, here of 1,280 units."""
    odd = {name: value[:48] if ".0.mlp.gate" in name or ".0.mlp.up" in name else value for name, value in BASE.items()}
    odd = {name: value[:, :48] if ".0.mlp.down" in name else value for name, value in odd.items()}
    assert (made(odd).layers, made(odd).shape) == (3, "1280x128")
    assert names(found(odd)) == ["m0"]


def test_nothing_to_sketch() -> None:
    bare = made({"a": np.ones((4, 4), dtype=np.float32)})
    assert (bare.blocks, bare.shape, bare.layers) == ((), "", 0)
    assert search(bare, KNOWN, alpha=ALPHA, registry="known", known=6).skipped == 6
    assert "0 rows of 0 layers" in reveals(bare)


@pytest.mark.parametrize(
    ("vocabulary", "expected"), [(32_000, (4096, 256)), (32_064, (4096, 256)), (640, (128, 256)), (3, (0, 1)), (1, (0, 0))]
)
def test_anchors_stay_where_tokens_are_added(vocabulary: int, expected: tuple[int, int]) -> None:
    assert anchor_tokens(vocabulary) == expected


def test_compare_by_sketch_shows_and_never_denies() -> None:
    child, parent, stranger = made(tuned(BASE)), made(BASE), made(model(1))
    shown = compare_sketches(child, parent, ("child", "registry:parent"), alpha=ALPHA)
    assert (shown.relation, shown.basis.value, len(shown.layers)) == (Relation.DERIVED, "exact", 4)
    assert shown.log10_p < -80
    denied = compare_sketches(child, stranger, ("child", "registry:stranger"), alpha=ALPHA)
    assert denied.relation is Relation.INCONCLUSIVE
    assert "deny none" in denied.unknown[0].why
    secret = compare_sketches(child, made(BASE, SECRET), ("child", "registry:secret"), alpha=ALPHA)
    assert secret.relation is Relation.INCONCLUSIVE
    assert "secrets" in secret.unknown[0].why


WIDE_UNITS, WIDE, LAYERS, TOKENS = 11_008, 4096, 32, 32_000


def wide_header() -> dict[str, dict[str, object]]:
    """Shapes of a model of 7 billion parameters, in bfloat16."""
    shapes: dict[str, tuple[int, ...]] = {
        "lm_head.weight": (TOKENS, WIDE),
        "model.embed_tokens.weight": (TOKENS, WIDE),
        "model.norm.weight": (WIDE,),
    }
    for layer in range(LAYERS):
        place = f"model.layers.{layer}."
        shapes |= {f"{place}self_attn.{part}_proj.weight": (WIDE, WIDE) for part in "qkvo"}
        shapes |= {f"{place}mlp.{part}_proj.weight": (WIDE_UNITS, WIDE) for part in ("gate", "up")}
        shapes |= {f"{place}mlp.down_proj.weight": (WIDE, WIDE_UNITS)}
        shapes |= {f"{place}{part}_layernorm.weight": (WIDE,) for part in ("input", "post_attention")}
    header: dict[str, dict[str, object]] = {}
    end = 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    return header


def wide_file(path: Path, units: np.ndarray[tuple[int, int], np.dtype[np.uint16]]) -> Path:
    """A sparse file of a 7B model's shapes; the rows that are sketched hold `units` in the first and the last layer."""
    header = wide_header()
    text = json.dumps(header).encode()
    start = window(Block(layer="", matched="", left="", right="", units=WIDE_UNITS, width=WIDE))[0]
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for layer in (0, LAYERS - 1):
            begin = header[f"model.layers.{layer}.mlp.up_proj.weight"]["data_offsets"][0]  # type: ignore[index]
            file.seek(8 + len(text) + begin + start * WIDE * 2)
            file.write((units + np.uint16(layer)).tobytes())
        file.truncate(8 + len(text) + max(entry["data_offsets"][1] for entry in header.values()))  # type: ignore[index]
    return path


def bfloat16(values: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def test_a_model_of_seven_billion_parameters_is_sketched_from_ten_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    units = rng.standard_normal((64, WIDE), dtype=np.float32) * np.float32(0.02)
    drift = rng.standard_normal((64, WIDE), dtype=np.float32) * np.float32(0.01)
    results = []
    for name, values in {"base": units, "tuned": units + drift, "stranger": units[::-1].copy()}.items():
        checkpoint = Metered(open_safetensors(LocalBlob(wide_file(tmp_path / f"{name}.safetensors", bfloat16(values)))))
        results.append(fingerprint(checkpoint))
        assert checkpoint.bytes_read <= 10_000_000
    base, child, stranger = results
    assert base.parameters == 6_738_415_616
    assert base.shape == "11008x4096"
    assert len(base.gram) + len(base.gains) + sum(len(block.values) for block in base.blocks) < 100_000
    entries = (Entry(name="base", fingerprint=base),)
    hits = search(child, entries, alpha=ALPHA, registry="known", known=1).hits
    assert [(hit.name, hit.fired, hit.fixed) for hit in hits] == [("base", 2, 128)]
    assert search(stranger, entries, alpha=ALPHA, registry="known", known=1).hits == ()


def test_a_permuted_layer_of_real_width_is_not_seen_by_sampled_rows() -> None:
    """Two samples of 64 rows of 11,008 share 0.4 of them: so a disguised parent is a candidate at best, and its layer must be read."""
    rng = np.random.default_rng(1)
    start = window(Block(layer="", matched="", left="", right="", units=WIDE_UNITS, width=WIDE))[0]
    shared = [np.isin(rng.permutation(WIDE_UNITS)[start : start + 64], np.arange(start, start + 64)).sum() for _ in range(200)]
    assert 0.2 < float(np.mean(shared)) < 0.6
    assert UNITS < WIDE_UNITS
