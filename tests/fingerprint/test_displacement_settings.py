"""What cards and training configurations state about an optimizer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.displacement.settings import from_card, from_config

CARD = (
    b"""---\nbase_model: a/b\n---\n### Training hyperparameters\n\n- learning_rate: 2e-05\n- optimizer: %s\n- lr_scheduler_type: linear\n"""
)


@pytest.mark.parametrize(
    ("line", "name", "betas"),
    [
        (b"Adam with betas=(0.9,0.999) and epsilon=1e-08", "adam", (0.9, 0.999)),
        (
            b"Use adamw_torch with betas=(0.9,0.95) and epsilon=1e-08 and optimizer_args=No additional optimizer arguments",
            "adamw_torch",
            (0.9, 0.95),
        ),
        (b"Use OptimizerNames.ADAMW_TORCH with betas=(0.9,0.999) and epsilon=1e-08", "adamw_torch", (0.9, 0.999)),
        (b"Use adamw_bnb_8bit with betas=(0.9,0.999) and epsilon=1e-08", "adamw_bnb_8bit", (0.9, 0.999)),
        (b"{'name': 'AdamWeightDecay', 'learning_rate': 2e-05, 'beta_1': 0.9, 'beta_2': 0.999}", "", None),
    ],
)
def test_generated_cards_state_the_optimizer(line: bytes, name: str, betas: tuple[float, float] | None) -> None:
    said = from_card(CARD % line, "README.md")
    assert (said.name, said.learning_rate) == (name, 2e-05)
    assert betas is None or said.betas == betas


def test_configurations_state_the_optimizer() -> None:
    flat = from_config(
        b'{"optim": "adamw_torch", "adam_beta1": 0.9, "adam_beta2": 0.95, "weight_decay": 0.1, "max_grad_norm": 1.0}', "c.json"
    )
    assert (flat.name, flat.betas, flat.weight_decay, flat.clip, flat.obstacles) == ("adamw_torch", (0.9, 0.95), 0.1, 1.0, ())
    nested = from_config(b"optimizer:\n  name: SGD\n  lr: 2e-2\n  momentum: 0.9\n  weight_decay: 0\n", "c.yaml")
    assert (nested.name, nested.momentum, nested.weight_decay, nested.learning_rate) == ("sgd", 0.9, 0.0, 0.02)
    assert from_config(b"optim: adamw_torch\nlora_r: 8\n", "c.yaml").obstacles
    assert from_config(b"optim: adamw_torch\nvision_tower_lr: 1e-3\n", "c.yaml").obstacles


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_card_is_read_without_a_crash(junk: bytes) -> None:
    assert from_card(CARD % junk, "README.md").source in ("", "README.md")


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        (b"lora_r: 8", 8),
        (b"peft_config:\n  lora_rank: 16\n  lora_alpha: 32", 16),
        (b"lora_r: 8\nload_in_4bit: true", 0),
        (b"lora_r: 8\nuse_dora: true", 0),
        (b"lora_r: 8\ninit_lora_weights: true", 8),
        (b"lora_r: 8\ninit_lora_weights: pissa", 0),
        (b"lora_r: .inf", 0),
        (b"lora_r: [1, 2]", 0),
        (b"learning_rate: 1e-4", 0),
    ],
)
def test_the_rank_of_an_adapter(text: bytes, rank: int) -> None:
    assert from_config(text + b"\n", "c.yaml").rank == rank


@pytest.mark.parametrize(
    ("text", "frozen"),
    [
        (b"freeze_vision_tower: true", ("vision_tower",)),
        (b"freeze_vision_tower: false", ()),
        (b"freeze: encoder.layer.0, embeddings", ("embeddings", "encoder.layer.0")),
        (b"frozen_layers: ['(a+)+$', 3, null]", ()),
        (b"freeze: 10", ()),
    ],
)
def test_frozen_parts(text: bytes, frozen: tuple[str, ...]) -> None:
    assert from_config(text + b"\n", "c.yaml").frozen == frozen
