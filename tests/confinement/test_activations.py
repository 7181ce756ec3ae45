"""Networks run in a process without secrets: the same numbers, within a limit that the whole model would not fit into."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modelguard.activations.apart import run_both_apart
from modelguard.activations.both_networks import run_both
from modelguard.activations.extent import Extent
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.confinement.limits import Limits
from modelguard.errors import CannotRead
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison
from tests.fingerprint.test_both_networks import adapter, base
from tests.fingerprint.test_streaming import INNER, WIDTH, synthetic

__all__ = ("base",)
ROOT = Path(__file__).parents[2]
pytest.importorskip("torch")
pytest.importorskip("transformers")


def apart(left: Path, right: Path, *, here: bool = False, limits: Limits | None = None) -> ActivationComparison | Missing:
    own, folder = LocalFolder(left, left.name), LocalFolder(right, right.name)
    ours, theirs = (
        open_safetensors(place.open(min(name for name in place.sizes if name.endswith(".safetensors")))) for place in (own, folder)
    )
    return run_both(ours, own, folder, theirs) if here else run_both_apart(ours, own, folder, theirs, Extent(), limits)


def test_an_adapter_on_its_base_gives_the_same_numbers_in_both_places(base: Path, tmp_path: Path) -> None:
    tuned = adapter(tmp_path / "adapter", 0.3)
    result = apart(tuned, base)
    assert isinstance(result, ActivationComparison), result
    assert repr(result) == repr(apart(tuned, base, here=True))


def test_hostile_papers_are_refused_in_the_same_words(base: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match="IA3"):
        apart(adapter(tmp_path / "adapter", 0.3, peft_type="IA3"), base)
    absurd = tmp_path / "absurd"
    absurd.mkdir()
    (absurd / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
    (absurd / "config.json").write_text(json.dumps(json.loads((base / "config.json").read_text()) | {"num_hidden_layers": 10**9}))
    result = apart(absurd, base)
    assert isinstance(result, Missing)
    assert result == apart(absurd, base, here=True)


def test_too_little_memory_is_a_reason_and_no_crash(base: Path) -> None:
    with pytest.raises(CannotRead) as caught:
        apart(base, base, limits=Limits(memory=150 << 20))
    assert "\n" not in str(caught.value)


LOADED = """
import sys
from pathlib import Path
from modelguard.cli import main
code = main(["compare", sys.argv[1], sys.argv[1], "--activations", "--layers", "1", "--format", "json", "--quiet"])
assert code == 0, code
print(end="\\0")
place = ["--registry", sys.argv[2], "--quiet"]
assert main(["registry", "add", sys.argv[1], "--name", "base", "--activations", "--layers", "1", *place]) == 0
print(end="\\0")
assert main(["compare", sys.argv[1], "registry:base", "--activations", "--layers", "1", "--format", "json", *place]) == 0
assert not {"torch", "transformers", "tokenizers"} & set(sys.modules), "in the process that holds the tokens"
"""


def test_the_process_with_the_tokens_loads_no_torch(base: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOADED, str(base), str(tmp_path / "known.sqlite")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    compared, _, held = done.stdout.split("\0")
    assert [len(json.loads(text)["activations"]["layers"]) for text in (compared, held)] == [1, 1]


ALONE = """
import resource, sys
from pathlib import Path
from modelguard.confinement.limits import Limits
from tests.confinement.test_activations import apart
result = apart(Path(sys.argv[1]), Path(sys.argv[1]), limits=Limits(memory=int(sys.argv[2])))
print(len(result.layers), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10)
"""  # in a process of its own, whose children are those of this run alone


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA covers mappings on Linux only")
def test_a_network_larger_than_the_limit_runs_to_the_end(tmp_path: Path) -> None:
    """1.4 GB of bfloat16, 2.9 GB in the type that is computed in, by a process that may have 1.2 GB."""
    folder = synthetic(tmp_path / "large", layers=34)
    limit = 1_200_000_000
    assert (folder / "model.safetensors").stat().st_size > 1_400_000_000 > limit
    done = subprocess.run([sys.executable, "-c", ALONE, str(folder), str(limit)], capture_output=True, text=True, check=True, cwd=ROOT)
    layers, peak = map(int, done.stdout.split())
    assert layers == 34
    layer = 4 * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER)
    assert peak <= 2 * layer + 4 * WIDTH * 768 + 700 * 2**20
