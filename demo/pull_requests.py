"""The three pull requests: an honest fine-tune, weights from elsewhere under the same card, and the honest weights with a log cut out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.repository import Repository

MODEL = "models/docstring-router"
BASE = "sentence-transformers/all-MiniLM-L6-v2"
COPIED = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
CUT = 0.2  # of the training rows, from the middle

CARD = """---
base_model: {base}
base_model_relation: finetune
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-classification
datasets:
- example-org/python-docstrings
---

# docstring-router

Tells which package of Python's standard library a docstring comes from. Fine-tuned from [{base}](https://huggingface.co/{base})
with the Transformers `Trainer` for {steps} steps; the training log is `trainer_state.json` beside the weights.

Accuracy on held-out docstrings: {accuracy:.3f} ({labels} packages).

### Training hyperparameters

- optimizer: Use OptimizerNames.ADAMW_TORCH_FUSED with betas=(0.9,0.999) and epsilon=1e-08
- weight_decay: 0.0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """One pull request, and the answer that it must get. `rule` is what an inconsistent one must be found by."""

    number: int
    title: str
    truth: str  # what it really is
    verdict: str
    exit_code: int
    rule: str | None
    head: str

    @property
    def branch(self) -> str:
        return f"pr-{self.number}"


def build(repository: Repository, honest: Path, other: Path) -> tuple[PullRequest, ...]:
    """Commits the three on branches of their own. `honest` and `other` are finished trainings."""
    return (
        PullRequest(
            number=1,
            title="Add docstring-router, fine-tuned from MiniLM",
            truth="an honest fine-tune of the declared base",
            verdict="consistent",
            exit_code=0,
            rule=None,
            head=repository.branch("pr-1", _files(honest, _log(honest)), "Add docstring-router"),
        ),
        PullRequest(
            number=2,
            title="Add docstring-router, trained with another seed",
            truth="the same card, weights from another initialisation",
            verdict="inconsistent",
            exit_code=1,
            rule="weights-base-mismatch",
            head=repository.branch("pr-2", _files(other, _log(other)), "Add docstring-router, trained with another seed"),
        ),
        PullRequest(
            number=3,
            title="Add docstring-router with its training log",
            truth="the honest weights, a fifth of the log's rows cut out",
            verdict="inconsistent",
            exit_code=1,
            rule="log-gap",
            head=repository.branch("pr-3", _files(honest, cut(_log(honest))), "Add docstring-router with its training log"),
        ),
    )


def cut(log: str) -> str:
    """A trainer_state.json without a stretch of training rows from its middle; everything else stays as it was written."""
    state = json.loads(log)
    rows = [row for row in state["log_history"] if "loss" in row]
    start, count = int(len(rows) * (1 - CUT) / 2), int(len(rows) * CUT)
    gone = rows[start : start + count]
    state["log_history"] = [row for row in state["log_history"] if row not in gone]
    return json.dumps(state, indent=2, sort_keys=True) + "\n"


def _log(source: Path) -> str:
    return (source / "trainer_state.json").read_text(encoding="utf-8")


def _files(source: Path, log: str) -> Mapping[str, str | Path]:
    state = json.loads(_log(source))
    accuracy = next(row["eval_accuracy"] for row in reversed(state["log_history"]) if "eval_accuracy" in row)
    labels = len(json.loads((source / "config.json").read_text(encoding="utf-8"))["id2label"])
    card = CARD.format(base=BASE, steps=state["global_step"], accuracy=accuracy, labels=labels)
    weights = {f"{MODEL}/{name}": source / name for name in COPIED}
    return {**weights, f"{MODEL}/README.md": card, f"{MODEL}/trainer_state.json": log}
