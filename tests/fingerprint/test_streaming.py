"""Networks larger than the memory that they may use run to the end, and nothing is read that the wanted layers do not need."""

from __future__ import annotations

import json
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelguard.activations.comparison import compare_activations
from modelguard.activations.extent import Extent
from modelguard.activations.network_settings import read_settings
from modelguard.activations.networks import Architecture, design
from modelguard.activations.probes import encode, written
from modelguard.activations.streaming import run
from modelguard.activations.traces import MOST_ENTRIES, Trace, spread, states
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.base import Checkpoint, TensorInfo
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WIDTH, INNER, VOCABULARY = 1024, 2816, 300_000


class Counting:
    """A checkpoint that notes what is read of it."""

    def __init__(self, inner: Checkpoint) -> None:
        self.inner = inner
        self.read: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def tensors(self) -> Any:
        return self.inner.tensors

    def readinto(self, name: str, start: int, buffer: memoryview) -> None:
        self.read[name] = self.read.get(name, 0) + len(buffer)
        self.inner.readinto(name, start, buffer)


def small(folder: Path, seed: int = 0, **more: Any) -> Path:
    numbers = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 300, "intermediate_size": 96}
    config = transformers.AutoConfig.for_model("llama", **(numbers | more), bos_token_id=None, eos_token_id=None, initializer_range=0.2)
    torch.manual_seed(seed)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


def opened(path: Path) -> tuple[LocalFolder, Checkpoint]:
    folder = LocalFolder(path, path.name)
    return folder, open_safetensors(folder.open("model.safetensors"))


def designed(folder: LocalFolder) -> Architecture:
    settings = read_settings(folder)
    assert not isinstance(settings, Missing), settings
    made = design(settings, folder.ref)
    assert isinstance(made, Architecture), made
    return made


def test_streamed_states_are_those_of_transformers_own_run(tmp_path: Path) -> None:
    folder, checkpoint = opened(small(tmp_path / "m"))
    tokens = encode(folder, 300, 80)
    trace = run(checkpoint, designed(folder), written(tokens), depth=4)
    assert isinstance(trace, Trace)
    model = transformers.AutoModel.from_pretrained(tmp_path / "m", attn_implementation="eager")
    with torch.inference_mode():
        out = model(input_ids=torch.from_numpy(tokens.ids), output_hidden_states=True, output_attentions=True)
    for index in range(3):  # behind the last layer transformers shows the final norm's output
        assert np.allclose(trace.states[index], states(out.hidden_states[index + 1].numpy()), atol=2e-3)
    assert trace.patterns.shape == (4, 8, MOST_ENTRIES)
    attention = out.attentions[2].numpy()
    centred = (attention - attention.mean(axis=0)).swapaxes(0, 1).reshape(8, -1)[:, spread(12 * 64 * 64)]
    assert np.allclose(trace.patterns[2], centred, atol=2e-3)
    assert trace.units.shape == (4, 768, 96)


def test_only_what_the_first_layers_need_is_read(tmp_path: Path) -> None:
    folder, checkpoint = opened(small(tmp_path / "m", vocab_size=5000))
    counting = Counting(checkpoint)
    shown: list[tuple[int, int]] = []
    extent = Extent(layers=2, progress=lambda _what, done, total: shown.append((done, total)))
    result = compare_activations(counting, counting, folder, folder, extent)
    assert isinstance(result, ActivationComparison)
    assert len(result.layers) == 2
    assert result.notes == ("the first 2 of 4 layers were run",)
    assert not [name for name in counting.read if name.startswith(("layers.2", "layers.3", "norm"))]
    rows = len(np.unique(encode(folder, 5000, 2048).ids))
    assert counting.read["embed_tokens.weight"] == 3 * rows * 64 * 4
    assert all(counting.read[name] == 3 * checkpoint.tensors[name].nbytes for name in counting.read if name.startswith("layers"))
    assert shown[-1][0] >= 0.9 * shown[-1][1]


def test_a_budget_runs_as_many_layers_as_it_holds(tmp_path: Path) -> None:
    architecture = designed(opened(small(tmp_path / "m"))[0])
    layer = 4 * sum(prod(shape) for name, shape in architecture.shapes.items() if name.startswith("layers.0."))
    assert [Extent(budget=budget).depth(architecture) for budget in (1, int(2.5 * layer), 1 << 30, 0)] == [1, 2, 4, 4]
    assert Extent(layers=100).depth(architecture) == 4
    assert Extent(layers=1).depth(architecture) == 1


def synthetic(folder: Path, layers: int, **more: int) -> Path:
    """A llama in bfloat16 written piece by piece."""
    sizes = {"hidden_size": WIDTH, "intermediate_size": INNER, "vocab_size": VOCABULARY} | more
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (sizes["vocab_size"], width), "model.norm.weight": (width,)}
    for index in range(layers):
        place = f"model.layers.{index}."
        shapes |= {f"{place}self_attn.{part}_proj.weight": (width, width) for part in "qkvo"}
        shapes |= {f"{place}mlp.{part}_proj.weight": (inner, width) for part in ("gate", "up")}
        shapes |= {f"{place}mlp.down_proj.weight": (width, inner)}
        shapes |= {f"{place}{part}_layernorm.weight": (width,) for part in ("input", "post_attention")}
    folder.mkdir()
    config = sizes | {"model_type": "llama", "num_hidden_layers": layers, "num_attention_heads": 16}
    (folder / "config.json").write_text(json.dumps(config))
    pool = (np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32) * np.float32(0.05)).view(np.uint32) >> 16
    words, header, position = pool.astype(np.uint16), {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, position := position + 2 * prod(shape)]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for index, shape in enumerate(shapes.values()):
            for start in range(0, prod(shape), len(words)):
                file.write(np.roll(words, 7919 * index + start)[: prod(shape) - start].tobytes())
    return folder


LIMITED = """
import json, resource, sys
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
from pathlib import Path
import torch
torch.set_num_threads(1)
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.activations.comparison import compare_activations
folder = LocalFolder(Path(sys.argv[1]), "large")
checkpoint = open_safetensors(folder.open("model.safetensors"))
result = compare_activations(checkpoint, checkpoint, folder, folder)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"result": repr(result)[:200], "layers": len(getattr(result, "layers", ())), "peak": peak << 10}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA covers mappings on Linux only")
def test_a_network_larger_than_the_memory_limit_runs_to_the_end(tmp_path: Path) -> None:
    """1.4 GB of bfloat16, 2.9 GB in the type that is computed in, under a limit of 1.2 GB."""
    folder = synthetic(tmp_path / "large", layers=34)
    size = (folder / "model.safetensors").stat().st_size
    limit = 1_200_000_000
    assert size > 1_400_000_000 > limit
    command = [sys.executable, "-c", LIMITED, str(folder), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["layers"] == 34, told
    layer = 4 * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER)
    rows = 4 * WIDTH * 768
    assert told["peak"] <= 2 * layer + rows + 700 * 2**20, told


def test_extents_of_no_tensors_do_not_divide_by_zero(tmp_path: Path) -> None:
    class Nothing(Counting):
        tensors: dict[str, TensorInfo] = {}  # noqa: RUF012

    folder, checkpoint = opened(small(tmp_path / "m"))
    result = compare_activations(Nothing(checkpoint), checkpoint, folder, folder)
    assert isinstance(result, Missing)
    assert "is not there" in result.why
