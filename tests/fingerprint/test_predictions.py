"""What is read of a model's predictions, a tile of its output head at a time, is what transformers' own run gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelguard.activations import predictions as module
from modelguard.activations.held_out import PROBE_DOCUMENTS, Document, Windows, documents, method, windows
from modelguard.activations.network_settings import read_settings
from modelguard.activations.networks import Architecture, design
from modelguard.activations.predictions import ABSENT, TOP, States, likeliest, predictions, states, together
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.types.findings import Missing

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WORDS = 300
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": WORDS}
OF_GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": WORDS}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": SIZES,
    "gpt2": OF_GPT2,  # the head is the embedding
    "gpt_neox": SIZES,  # the head is called embed_out
    "gemma2": SIZES | {"head_dim": 16, "num_key_value_heads": 2, "final_logit_softcapping": 3.0},
    "qwen2": SIZES | {"num_key_value_heads": 2, "tie_word_embeddings": True},
}


def made(folder: Path, family: str, **more: Any) -> Path:
    config = transformers.AutoConfig.for_model(family, **(FAMILIES[family] | more), bos_token_id=None, eos_token_id=None)
    config.initializer_range = 0.1
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def opened(path: Path) -> tuple[Checkpoint, Architecture]:
    folder = LocalFolder(path, path.name)
    settings = read_settings(folder)
    assert not isinstance(settings, Missing), settings
    planned = design(settings, folder.ref)
    assert isinstance(planned, Architecture), planned
    return open_safetensors(folder.open("model.safetensors")), planned


def text(seed: int = 0) -> Windows:
    rows = np.random.default_rng(seed).integers(0, WORDS, (3, 100)).tolist()
    cut = windows(rows, [Document(kind="a", content="")] * 3, positions=32, widest=96)
    assert isinstance(cut, Windows)
    return cut


def ran(path: Path, cut: Windows) -> States:
    found = states(*opened(path), cut, lambda _count: None)
    assert isinstance(found, States), found
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_predictions_are_those_of_transformers_own_run(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TILE_BYTES", 4 * 64 * 37)  # 37 rows of the head at a time
    cut, path = text(), made(tmp_path / "m", family)
    given = ran(path, cut)
    with torch.inference_mode():
        model = transformers.AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager")
        scores = model(input_ids=torch.from_numpy(cut.ids)).logits[:, :-1].log_softmax(-1).reshape(-1, WORDS).numpy()
    best = likeliest(given)
    assert np.array_equal(np.sort(best, axis=1), np.sort(np.argsort(-scores, axis=1)[:, :TOP], axis=1))
    found = predictions(given, together([best]), cut.text.following)
    assert np.allclose(found.kept, np.take_along_axis(scores, np.sort(best, axis=1), axis=1), atol=1e-4)
    assert np.array_equal(found.said, scores.argmax(axis=1))
    assert np.allclose(found.right, scores[np.arange(len(scores)), cut.text.following], atol=1e-4)


def test_a_token_is_kept_once_and_gaps_are_marked() -> None:
    joined = together([np.array([[3, 1], [2, 5]]), np.array([[1, 3], [7, 2]])])
    assert joined.tolist() == [[1, 3, -1], [2, 5, 7]]


def test_positions_with_fewer_tokens_hold_no_number_that_counts(tmp_path: Path) -> None:
    cut = text()
    given = ran(made(tmp_path / "m", "llama"), cut)
    wanted = np.tile(np.array([5, -1]), (len(given.hidden), 1))
    assert (predictions(given, wanted, cut.text.following).kept[:, 1] == ABSENT).all()


def test_who_predicts_nothing_is_refused_with_the_reason(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("llama", **SIZES, bos_token_id=None, eos_token_id=None)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "headless")
    refused = states(*opened(tmp_path / "headless"), text(), lambda _count: None)
    assert isinstance(refused, Missing)
    assert "no output head over 300 tokens" in refused.why
    bert = transformers.AutoConfig.for_model("bert", **SIZES)
    transformers.AutoModel.from_config(bert).save_pretrained(tmp_path / "bert")
    refused = states(*opened(tmp_path / "bert"), text(), lambda _count: None)
    assert isinstance(refused, Missing)
    assert "the family bert" in refused.why


def test_texts_are_cut_into_windows_of_their_documents() -> None:
    texts = (Document(kind="b", content=""), Document(kind="a", content=""), Document(kind="b", content=""))
    cut = windows([list(range(100)), list(range(5)), list(range(200, 270))], texts, positions=32, widest=100)
    assert isinstance(cut, Windows)
    assert cut.ids[:, 0].tolist() == [0, 32, 64, 200, 232]
    assert cut.text.documents.tolist() == [0] * 93 + [1] * 62
    assert set(cut.text.kinds.tolist()) == {1}
    assert cut.text.following[:31].tolist() == list(range(1, 32))
    wide = windows([list(range(100_000))] * 4, texts[:1] * 4, positions=64, widest=1 << 18)
    assert isinstance(wide, Windows)
    assert len(np.unique(wide.text.documents)) == 2  # of the widest layers few windows fit: whole documents are left out
    assert isinstance(windows([[1, 2]], texts[:1], positions=64, widest=1), Missing)


def test_texts_are_named_by_what_they_say() -> None:
    read = documents({"law/b.txt": b"two", "law/a.txt": b"one", "c.txt": b"\xff"})
    assert [(one.kind, one.content) for one in read] == [("", "�"), ("law", "one"), ("law", "two")]
    assert method(read) != method(read[:2])
    assert method(read).startswith("texts-")
    assert method(PROBE_DOCUMENTS).startswith("probes-v1")
