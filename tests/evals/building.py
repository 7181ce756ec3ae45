"""Evaluation logs as lm-evaluation-harness 0.4.13 writes them, of models that answer by a seed: hashes, means and errors are right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

STAMP = "2026-11-22T20-51-27.243589"
Rows = list[dict[str, Any]]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def rows(likelihoods: np.ndarray[Any, Any], right: Sequence[int]) -> Rows:
    """The samples of a multiple-choice task, from (questions, choices) log-likelihoods."""
    made = []
    for number, (values, target) in enumerate(zip(likelihoods, right, strict=True)):
        doc = {"q": f"question {number} é", "choices": [f"choice {choice}" for choice in range(len(values))], "answer": int(target)}
        prompt = f"question {number}"
        resps = [[[str(float(value)), "False"]] for value in values]
        made.append(
            {
                "doc_id": number,
                "doc": doc,
                "target": str(target),
                "arguments": {f"gen_args_{place}": {"arg_0": prompt, "arg_1": f" choice {place}"} for place in range(len(values))},
                "resps": resps,
                "filtered_resps": [resp[0] for resp in resps],
                "filter": "none",
                "metrics": ["acc", "acc_norm"],
                "doc_hash": sha(json.dumps(doc, indent=2, ensure_ascii=False)),
                "prompt_hash": sha(prompt),
                "target_hash": sha(str(target)),
                "acc": float(values.argmax() == target),
                "acc_norm": float(values.argmax() == target),  # choices are equally long
            }
        )
    return made


def results(samples: dict[str, Rows], model: str = "organisation/model") -> dict[str, Any]:
    """The results file that follows from samples."""
    told: dict[str, Any] = {"results": {}, "configs": {}, "versions": {}, "n-samples": {}, "task_hashes": {}, "config": {"limit": None}}
    for task, listed in samples.items():
        scores: dict[str, Any] = {"alias": task}
        for metric in ("acc", "acc_norm"):
            values = [row[metric] for row in listed]
            mean = sum(values) / len(values)
            scores[f"{metric},none"] = mean
            scores[f"{metric}_stderr,none"] = sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
        told["results"][task] = scores
        told["configs"][task] = {"task": task, "target_delimiter": " ", "output_type": "multiple_choice"}
        told["n-samples"][task] = {"original": len(listed), "effective": len(listed)}
        told["task_hashes"][task] = sha("".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in listed))
    return {**told, "model_name": model, "lm_eval_version": "0.4.13"}


def write(folder: Path, samples: dict[str, Rows], model: str = "organisation/model", *, edit: Callable[..., None] | None = None) -> Path:
    """A folder of logs; `edit(results, samples)` changes what is written after everything was made to fit."""
    folder.mkdir(parents=True, exist_ok=True)
    told = results(samples, model)
    if edit is not None:
        edit(told, samples)
    (folder / f"results_{STAMP}.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
    for task, listed in samples.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in listed)
        (folder / f"samples_{task}_{STAMP}.jsonl").write_text(text, encoding="utf-8")
    return folder


def answering(seed: int, *, teacher: int | None = None, questions: int = 300, share: float = 0.8, domain: int | None = None) -> Rows:
    """A model's answers to the same questions: tastes of its own (or its teacher's, or its data's), and some knowledge."""
    right = np.random.default_rng(1).integers(0, 4, questions)

    def tastes(of: int) -> np.ndarray[Any, Any]:
        return np.random.default_rng(of).normal(size=(questions, 4))

    values = tastes(seed)
    if domain is not None:
        values = values * np.sqrt(0.5) + tastes(domain) * np.sqrt(0.5)
    if teacher is not None:
        values = values * np.sqrt(1 - share) + tastes(teacher) * np.sqrt(share)
    values = 3 * values
    values[np.arange(questions), right] += 2.4
    return rows(values - 9, [int(one) for one in right])
