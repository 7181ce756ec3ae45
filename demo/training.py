"""Trains for real, in a process of its own: `python -m demo.training FOLDER BASE RECIPE`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demo.corpus import PACKAGES, split

BATCH, TOKENS, RATE = 16, 40, 8e-5
DONE = "recipe.json"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is trained: `scratch` keeps the base's architecture and throws its weights away."""

    name: str
    seed: int
    steps: int
    scratch: bool = False
    batch: int = BATCH
    tokens: int = TOKENS
    rate: float = RATE


HONEST = Recipe("honest", seed=7, steps=110)
OTHER = Recipe("other", seed=11, steps=50, scratch=True)


def finished(folder: Path, recipe: Recipe) -> bool:
    """Whether this very recipe has been trained in `folder` before."""
    path = folder / DONE
    return path.is_file() and json.loads(path.read_text()) == asdict(recipe)


def train(folder: Path, base: Path, recipe: Recipe) -> None:
    """Trains a classifier of docstrings and leaves weights, configuration, tokenizer and log in `folder`."""
    from transformers import AutoTokenizer, Trainer

    tokenizer = AutoTokenizer.from_pretrained(base)
    rows, held_out = split(recipe.seed)
    trainer = Trainer(
        model=_model(base, recipe),
        args=_arguments(folder, recipe),
        train_dataset=_encode(tokenizer, rows, recipe.tokens),
        eval_dataset=_encode(tokenizer, held_out, recipe.tokens),
        compute_metrics=_accuracy,
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.evaluate()
    trainer.save_model(str(folder))
    trainer.save_state()
    (folder / DONE).write_text(json.dumps(asdict(recipe)))


def _model(base: Path, recipe: Recipe) -> Any:
    from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed

    set_seed(recipe.seed)
    labels = dict(enumerate(PACKAGES))
    names = {"num_labels": len(PACKAGES), "id2label": labels, "label2id": {name: label for label, name in labels.items()}}
    if recipe.scratch:
        return AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(base, **names))
    return AutoModelForSequenceClassification.from_pretrained(base, **names)


def _arguments(folder: Path, recipe: Recipe) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(folder),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch,
        per_device_eval_batch_size=64,
        learning_rate=recipe.rate,
        warmup_steps=recipe.steps // 10,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        seed=recipe.seed,
        use_cpu=True,
        dataloader_pin_memory=False,
    )


def _encode(tokenizer: Any, rows: list[tuple[str, int]], tokens: int) -> list[dict[str, Any]]:
    encoded = tokenizer([text for text, _ in rows], truncation=True, max_length=tokens)
    return [
        {"input_ids": ids, "attention_mask": mask, "label": label}
        for ids, mask, (_, label) in zip(encoded["input_ids"], encoded["attention_mask"], rows, strict=True)
    ]


def _accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def main() -> None:
    """Trains one recipe."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("recipe", choices=[HONEST.name, OTHER.name])
    arguments = parser.parse_args()
    train(arguments.folder, arguments.base, HONEST if arguments.recipe == HONEST.name else OTHER)


if __name__ == "__main__":
    main()
