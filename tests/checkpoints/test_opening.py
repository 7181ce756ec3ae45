"""Which file of a folder opens its model, and when nobody can say."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.opening import find_entry, open_checkpoint
from modelguard.errors import CannotRead, Malformed, ModelguardError
from tests.checkpoints.packing import Array, view, whole
from tests.weights import DTYPES, encode, random, sharded, write

SINGLE = encode(random())
SHARDS = sharded([random(1, {"a": (2,)}), random(2, {"b": (2,)})])
FOUND = {
    "model.safetensors": {"model.safetensors": SINGLE, "other.safetensors": SINGLE, "README.md": b""},
    "model.safetensors.index.json": SHARDS,
    "adapter_model.safetensors": {"adapter_model.safetensors": SINGLE, "extra.safetensors": SINGLE},
    "weights.safetensors": {"weights.safetensors": SINGLE, "pytorch_model.bin": b"x"},
    "model.fp16.safetensors.index.json": sharded([random(1, {"a": (2,)})], stem="model.fp16"),
}


@pytest.mark.parametrize("entry", FOUND)
def test_entry_is_found_and_opens(entry: str, tmp_path: Path) -> None:
    folder = LocalFolder(write(tmp_path, FOUND[entry]), ref="here")
    assert find_entry(folder) == entry
    assert open_checkpoint(folder, entry).tensors


def test_a_file_and_an_index_side_by_side_are_refused(tmp_path: Path) -> None:
    folder = LocalFolder(write(tmp_path, {**SHARDS, "model.safetensors": SINGLE}), ref="here")
    with pytest.raises(Malformed, match="loaders would differ") as caught:
        find_entry(folder)
    assert caught.value.advice == "keep one, or name the file"
    assert open_checkpoint(folder, "model.safetensors").tensors
    assert open_checkpoint(folder, "model.safetensors.index.json").tensors


def test_several_candidates_are_named(tmp_path: Path) -> None:
    folder = LocalFolder(write(tmp_path, {"a.safetensors": SINGLE, "b.safetensors": SINGLE}), ref="here")
    with pytest.raises(CannotRead, match="here: holds 2 checkpoints") as caught:
        find_entry(folder)
    assert caught.value.advice == "name one: a.safetensors, b.safetensors"


@pytest.mark.parametrize(
    ("files", "said"), [({}, "holds no safetensors file"), ({"model.gguf": b"x"}, "only model.gguf, which is not read")]
)
def test_nothing_to_open(files: dict[str, bytes], said: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match=said) as caught:
        find_entry(LocalFolder(write(tmp_path, files), ref="here"))
    assert caught.value.advice == "save the weights as safetensors"


def test_an_entry_that_is_not_there(tmp_path: Path) -> None:
    for entry in ("model.safetensors", "model.safetensors.index.json"):
        with pytest.raises(CannotRead, match="here: has no file"):
            open_checkpoint(LocalFolder(tmp_path, ref="here"), entry)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ((), ""),
        (("README.md", "optimizer.pt", "training_args.bin", "tokenizer.json"), ""),
        (("pytorch_model.bin",), "pytorch_model.bin"),
        (("adapter_model.safetensors",), "adapter_model.safetensors"),
        (("a.bin", "b.onnx", "c.safetensors", "d.h5"), "a.bin, b.onnx and 2 more"),
    ],
)
def test_other_weights_in_the_folder_get_one_line(others: tuple[str, ...], said: str, tmp_path: Path) -> None:
    write(tmp_path, {"model.safetensors": SINGLE, **dict.fromkeys(others, b"x")})
    folder = LocalFolder(tmp_path, ref="here")
    assert find_entry(folder) == "model.safetensors"
    notes = open_checkpoint(folder, "model.safetensors").notes
    assert notes == ((f"other weights stand beside it and were not read: {said}",) if said else ())


def test_shards_of_an_index_are_no_other_weights(tmp_path: Path) -> None:
    assert open_checkpoint(LocalFolder(write(tmp_path, SHARDS), ref="here"), "model.safetensors.index.json").notes == ()


def zeros(dtype: str, *shape: int) -> Array:
    return np.zeros(shape, dtype=dtype)


HALF = zeros("f2", 8, 4)
PACKED: dict[str, dict[str, Array]] = {
    "AQLM": {"m.codes": zeros("i1", 8, 4, 1), "m.codebooks": HALF, "m.scales": HALF},
    "AWQ in the GEMV-fast layout": {"m.qweight": zeros("i2", 8, 4), "m.qzeros": HALF, "m.scales": HALF},
    "EETQ": {"m.weight": zeros("i1", 8, 4), "m.weight_scales": HALF},
    "EXL2": {"m.q_weight": zeros("i4", 8, 4), "m.q_scale": zeros("i4", 1, 1), "m.q_groups": zeros("i2", 2)},
    "EXL3": {"m.trellis": zeros("i2", 8, 4, 16), "m.suh": HALF, "m.svh": HALF},
    "GPTQ in the Marlin layout": {"m.B": zeros("i4", 8, 4), "m.s": HALF},
    "HQQ": {"m.W_q": zeros("u1", 8, 4), "m.scale": HALF, "m.zero": HALF},
    "MLX": {"m.weight": zeros("u4", 8, 4), "m.scales": HALF, "m.biases": HALF},
    "MXFP4": {"m.down_proj_blocks": zeros("u1", 2, 8, 1, 16), "m.down_proj_scales": zeros("u1", 2, 8, 1)},
    "NVFP4": {"m.weight": zeros("u1", 8, 4), "m.weight_scale": HALF.astype(ml_dtypes.float8_e4m3fn), "m.weight_scale_2": zeros("f4", 1)},
    "NVFP4 or MXFP4 of compressed-tensors": {"m.weight_packed": zeros("u1", 8, 4), "m.weight_scale": HALF},
    "Quanto": {"m.weight._data": zeros("i1", 8, 4), "m.weight._scale": HALF},
    "QuIP#": {"m.Qidxs": zeros("i8", 8, 4), "m.SU": HALF, "m.SV": HALF},
    "TorchAO": {"m._weight_qdata": zeros("i1", 8, 4), "m._weight_scale": HALF},
    "VPTQ": {"m.indices": zeros("i4", 1, 8, 4), "m.centroids.weight": HALF},
    "sparse bitmasks": {"m.bitmask": zeros("u1", 8, 4), "m.compressed": HALF},
}


@pytest.mark.parametrize("packing", PACKED)
def test_packings_that_are_not_read_are_refused_by_name(packing: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRead) as caught:
        view(tmp_path, {"embed.weight": HALF, **PACKED[packing]})
    assert f"is packed as {packing}, which is not read" in str(caught.value)
    assert caught.value.advice == "save the weights dequantised, in float16 or bfloat16"


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "u4"])
def test_integers_that_nothing_explains_are_not_compared(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match="do not explain"):
        view(tmp_path, {"m.weight": zeros(dtype, 8, 4), "m.strange": HALF})


def test_integers_that_are_no_weights_are_passed_on(tmp_path: Path) -> None:
    buffers = {"position_ids": zeros("i8", 1, 8), "num_batches_tracked": zeros("i8"), "attn.bias": zeros("u1", 1, 1, 4, 4)}
    checkpoint = view(tmp_path, {"m.weight": HALF, **buffers, "codes": zeros("i4", 3, 3), "labels.weight": zeros("i8", 3)})
    assert len(checkpoint.tensors) == 6
    assert checkpoint.format == "safetensors"


@pytest.mark.parametrize("config", [b"{", b"[]", b'{"quantization_config": 3}', b"\xff", b"x" * (2 << 20)], ids=len)
def test_a_configuration_that_cannot_be_read_does_not_hinder(config: bytes, tmp_path: Path) -> None:
    write(tmp_path, {"config.json": config})
    checkpoint = view(tmp_path, {"m.weight": zeros("i1", 8, 4), "m.weight_scale": zeros("f4", 8, 1)})
    assert checkpoint.notes == ("INT8, a scale for each row, dequantised: 1 matrix",)


SUFFIXES = (
    *("qweight", "qzeros", "scales", "g_idx", "weight", "weight_scale", "weight_scale_inv", "weight_zero_point", "weight_packed"),
    *("weight_shape", "weight_g_idx", "SCB", "weight_format", "weight.absmax", "weight.quant_map", "weight.quant_state.bitsandbytes__nf4"),
)
SOME_DTYPES = ("I8", "U8", "I32", "I64", "F16", "F32", "F8_E4M3")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_stands_under_the_names_of_packings_is_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    tensors: dict[str, Array] = {}
    for suffix in data.draw(st.lists(st.sampled_from(SUFFIXES), unique=True, min_size=1, max_size=5)):
        dtype = DTYPES[data.draw(st.sampled_from(SOME_DTYPES))]
        shape = tuple(data.draw(st.lists(st.sampled_from((0, 1, 2, 8, 16, 32)), max_size=3)))
        noise = rng.integers(0, 256, (*shape, dtype.itemsize), dtype=np.uint8)
        tensors[f"m.{suffix}"] = np.frombuffer(noise.tobytes(), dtype=dtype).reshape(shape)
    said = ""
    try:
        checkpoint = view(tmp_path_factory.mktemp("any"), tensors)
        for name, info in checkpoint.tensors.items():
            if info.dtype == "F32":
                assert whole(checkpoint, name).shape == info.shape
    except ModelguardError as error:
        said = str(error)
    assert "\n" not in said
