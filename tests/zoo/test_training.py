"""Equal recipes give equal models, and models that have learnt something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.zoo import training, tuning
from benchmarks.zoo.training import Recipe, Tensors, learned, trained

pytest.importorskip("torch", reason="the zoo trains its models with torch")
pytest.importorskip("transformers", reason="the zoo takes its architectures from transformers")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # warnings of torch and transformers are not ours to forbid

RECIPE = Recipe("llama, 64 wide, 256 units", 3, steps=30)


def afresh(monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[Tensors, Tensors, Tensors]:
    """A model, its fine-tune and itself with its adapter, with nothing kept in memory or on disk."""
    monkeypatch.setenv("MODELGUARD_ZOO", str(folder))
    for kept in (training._trained, tuning.fine_tuned, tuning.adapter):
        kept.cache_clear()
    return trained(RECIPE), tuning.fine_tuned(RECIPE), tuning.adapter_merged(RECIPE)


def test_training_again_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "STEPS", 20)
    first, second = afresh(monkeypatch, tmp_path / "a"), afresh(monkeypatch, tmp_path / "b")
    kept = afresh(monkeypatch, tmp_path / "a")
    for one, two, three in zip(first, second, kept, strict=True):
        assert [name for name in one if not np.array_equal(one[name], two[name])] == []
        assert [name for name in one if not np.array_equal(one[name], three[name])] == []
    assert len(list((tmp_path / "a").glob("*.safetensors"))) == 3


def test_a_model_has_learnt_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    afresh(monkeypatch, tmp_path)
    first, last = learned(Recipe("llama, 64 wide, 256 units", 3, steps=150))
    assert last < first - 0.5


def test_an_adapter_changes_its_modules_by_its_rank_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "STEPS", 50)
    base, _, merged = afresh(monkeypatch, tmp_path)
    changed = {name for name in base if not np.array_equal(base[name], merged[name])}
    assert changed == {name for name in base if tuning.ADAPTED.search(name)}
    for name in sorted(changed):
        values = np.linalg.svd(merged[name].astype(np.float64) - base[name], compute_uv=False)
        assert values[tuning.RANK] < 1e-3 * values[0], name
