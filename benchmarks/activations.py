"""Time and peak memory of running networks on the probes, layer by layer. `python -m benchmarks.activations [--stored] [MODEL]...`.

With `--stored` it is the making of an activation fingerprint that is measured, control included, instead of a comparison.

Checkpoints are llamas in bfloat16 whose files are sparse where the size alone matters (7B): what is read as zeros is still read,
converted and multiplied. Each is run in a process of its own. Memory is held against the promise: twice the largest layer in float32,
the rows of the embedding that the probes look up, and 700 MB.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from math import prod
from pathlib import Path

from benchmarks.peak import peak
from benchmarks.synthetic import write

ROOM = 700 << 20
TOKENS = 768
MODELS: dict[str, tuple[dict[str, int], int]] = {  # sizes, and how many layers are run (0: all)
    "20M": ({"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 6, "vocab_size": 32_000}, 0),
    "200M": ({"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 11, "num_attention_heads": 16, "vocab_size": 65_000}, 0),
    "7B, K = 2": (
        {"hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32_000},
        2,
    ),
}


def shapes(sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Tensor names and shapes of a llama."""
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    layer = {f"self_attn.{part}_proj.weight": (width, width) for part in "qkvo"}
    layer |= {f"mlp.{part}_proj.weight": (inner, width) for part in ("gate", "up")} | {"mlp.down_proj.weight": (width, inner)}
    layer |= {f"{part}_layernorm.weight": (width,) for part in ("input", "post_attention")}
    ends = {
        "model.embed_tokens.weight": (sizes["vocab_size"], width),
        "model.norm.weight": (width,),
        "lm_head.weight": (sizes["vocab_size"], width),
    }
    return ends | {f"model.layers.{index}.{name}": shape for index in range(sizes["num_hidden_layers"]) for name, shape in layer.items()}


def make(place: Path, sizes: dict[str, int]) -> None:
    """A checkpoint of those sizes; one larger than 2 GB holds numbers in its first layers and is sparse behind them."""
    place.mkdir()
    (place / "config.json").write_text(json.dumps(sizes | {"model_type": "llama"}))
    layout = shapes(sizes)
    if 2 * sum(map(prod, layout.values())) < 2 << 30:
        write(place / "model.safetensors", layout, seed=0)
        return
    order = sorted(layout, key=lambda name: not name.startswith(("model.embed", "model.norm", "model.layers.0.", "model.layers.1.")))
    position, header = 0, {}
    for name in order:
        header[name] = {"dtype": "BF16", "shape": layout[name], "data_offsets": [position, position + 2 * prod(layout[name])]}
        position += 2 * prod(layout[name])
    full = {name: layout[name] for name in order if header[name]["data_offsets"][1] < 2 << 30}  # type: ignore[index]
    write(place / "part", full, seed=0)
    data = (place / "part").read_bytes()
    text = json.dumps(header).encode()
    with (place / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data[8 + int.from_bytes(data[:8], "little") :])
        file.truncate(8 + len(text) + position)
    (place / "part").unlink()


def measured(place: Path, layers: int, mode: str) -> None:
    """In a process of its own, or in a confined child of it: one line of JSON, with the peak of the process that ran the networks."""
    from modelguard.activations.apart import run_both_apart
    from modelguard.activations.both_networks import run_both
    from modelguard.activations.extent import Extent
    from modelguard.activations.stored import fingerprint_activations
    from modelguard.blobs.local import LocalFolder
    from modelguard.checkpoints.safetensors import open_safetensors

    read = 0

    def shown(_what: str, done: int, _total: int) -> None:
        nonlocal read
        read = done

    folder = LocalFolder(place, "model")
    checkpoint = open_safetensors(folder.open("model.safetensors"))
    started = time.perf_counter()
    extent = Extent(layers=layers, progress=shown)
    if mode == "stored":
        made = fingerprint_activations(checkpoint, folder, extent)
        told = {"layers": getattr(made, "depth", 0), "why": getattr(made, "why", ""), "read": read, "bytes": getattr(made, "nbytes", 0)}
    else:
        result = (run_both_apart if mode == "apart" else run_both)(checkpoint, folder, folder, checkpoint, extent)
        told = {"layers": len(getattr(result, "layers", ())), "why": getattr(result, "why", ""), "read": read}
    mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024 if mode == "apart" else peak()
    print(json.dumps(told | {"seconds": time.perf_counter() - started, "processor": sum(os.times()[:4]), "mib": mib}))


def main() -> None:
    modes = ("stored",) if "--stored" in sys.argv else ("here", "apart")
    names = [name for name in sys.argv[1:] if name != "--stored"] or list(MODELS)
    print("| model | file | layers run | read | process | seconds | of processors | peak MiB | promised MiB |\n" + "|---" * 9 + "|")
    for name, (sizes, layers) in ((name, MODELS[name]) for name in names):
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory) / "model"
            make(place, sizes)
            for mode in modes:
                print(f"| {name} {_row(place, sizes, layers, mode)}", flush=True)


def _row(place: Path, sizes: dict[str, int], layers: int, mode: str) -> str:
    command = [sys.executable, "-m", "benchmarks.activations", "--one", str(place), str(layers), mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told, size = json.loads(done.stdout.splitlines()[-1]), (place / "model.safetensors").stat().st_size
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    promised = (2 * 4 * (4 * width * width + 3 * width * inner) + 4 * width * TOKENS + ROOM) >> 20
    spent = f"{mode} | {told['seconds']:.1f} | {told['processor']:.1f} | {told['mib']:,.0f} | {promised:,}"
    kept = f" fingerprint of {told['bytes'] / 1e6:.2f} MB" if "bytes" in told else ""
    return f"| {size / 2**20:,.0f} MiB | {told['layers']} | {told['read'] / 2**20:,.0f} MiB | {spent} |{kept}{told['why']}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measured(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        main()
