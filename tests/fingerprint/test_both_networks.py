"""`compare --activations` as users run it: on models, on the first layers of them, and on an adapter applied to its base."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modelguard.activations.both_networks import run_both
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.cli import main
from modelguard.errors import CannotRead
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("models") / "base"
    numbers = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 300, "intermediate_size": 96}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("llama", **numbers, bos_token_id=None, eos_token_id=None, initializer_range=0.2)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def adapter(folder: Path, scale: float, **config: object) -> Path:
    """A LoRA of rank 4 on the queries of layers 1 and 2."""
    from safetensors.numpy import save_file

    random, factors = np.random.default_rng(1), {}
    for layer in (1, 2):
        place = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        factors[f"{place}.lora_A.weight"] = random.normal(size=(4, 64)).astype(np.float32)
        factors[f"{place}.lora_B.weight"] = (scale * random.normal(size=(64, 4))).astype(np.float32)
    folder.mkdir()
    save_file(factors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"]} | config
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def held(left: Path, right: Path) -> ActivationComparison | Missing:
    own, folder = LocalFolder(left, left.name), LocalFolder(right, right.name)
    ours, theirs = (
        open_safetensors(place.open(min(name for name in place.sizes if name.endswith(".safetensors")))) for place in (own, folder)
    )
    return run_both(ours, own, folder, theirs)


def test_an_adapter_is_run_on_its_base_and_changes_only_the_layers_behind_it(base: Path, tmp_path: Path) -> None:
    result = held(adapter(tmp_path / "adapter", 0.3), base)
    assert isinstance(result, ActivationComparison), result
    cosines = [layer.hidden_cosine for layer in result.layers]
    assert cosines[0] == pytest.approx(1.0, abs=1e-3)
    assert cosines[1] < 0.999
    assert result.log10_p_units < -9
    still = held(adapter(tmp_path / "still", 0.0), base)
    assert isinstance(still, ActivationComparison)
    assert [layer.hidden_cosine for layer in still.layers] == pytest.approx([1.0] * 4, abs=1e-3)


def test_an_adapter_of_another_kind_is_refused_by_name(base: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match="IA3"):
        held(adapter(tmp_path / "adapter", 0.3, peft_type="IA3"), base)


def test_the_command_runs_the_first_layers_and_says_so(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["compare", str(base), str(base), "--activations", "--layers", "2", "--format", "json", "--quiet"])
    told = json.loads(capsys.readouterr().out)["activations"]
    assert code == 0
    assert [layer["units_fixed"] for layer in told["layers"]] == [96, 96]
    assert told["notes"] == ["the first 2 of 4 layers were run"]
    assert told["method"].startswith("activations-2:probes-v1-")
    assert told["log10_p_units"] < -100


@pytest.mark.parametrize("count", ["0", "-1", "two", "1000000000"])
def test_no_number_of_layers_is_a_usage_error(count: str, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(base), str(base), "--activations", "--layers", count])
    assert ended.value.code == 3
    assert "layers" in capsys.readouterr().err


def test_two_checkpoints_have_the_numbers_that_support_too(base: Path, tmp_path: Path) -> None:
    """Statistics of heads, Gram matrices and next tokens: 1 for equal networks, less for a noised one, least for another seed."""
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(7)
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.ndim == 2:
                tensor.add_(0.05 * tensor.std() * torch.randn(tensor.shape))
    model.save_pretrained(tmp_path / "noised")
    torch.manual_seed(8)
    transformers.AutoModelForCausalLM.from_config(model.config).save_pretrained(tmp_path / "other")
    told = [held(path, base) for path in (base, tmp_path / "noised", tmp_path / "other")]
    assert all(isinstance(one, ActivationComparison) for one in told), told
    same, noised, other = (one for one in told if isinstance(one, ActivationComparison))
    assert (same.next_token_agreement, same.next_token_overlap) == (1.0, pytest.approx(1.0))
    for one, least, most in ((same, 0.999, 1.001), (noised, 0.5, 0.999), (other, -1.0, 0.4)):
        for layer in one.layers:
            assert layer.gram_cosine is not None
            assert layer.statistics_cosine is not None
            assert least <= layer.gram_cosine <= most
    assert 1.0 > (noised.next_token_agreement or 0) > (other.next_token_agreement or 0)
    assert (noised.next_token_overlap or 0) > (other.next_token_overlap or 0)
