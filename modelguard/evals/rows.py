"""One line of `samples_*.jsonl` of lm-evaluation-harness (0.4 and later), and what arithmetic makes of it.

Each filter of a task logs every question again, so a row belongs to a (task, filter). `doc_id` is wrong in some versions where
samples were named on the command line: rows are told apart by the question's hash alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, isfinite
from typing import Any

from modelguard.errors import Malformed
from modelguard.types.evals import Answer

ACCURACIES = ("acc", "acc_norm", "exact_match")  # metrics that are a mean over questions
MAX_CHOICES = 1024
MAX_SHARES = 64  # choices whose probabilities are kept
PICKING = {"regex", "take_first", "remove_whitespace", "majority_vote"}  # filters that give a part of the response, or the fallback
FALLBACK = "[invalid]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row that was read. `scores` are its metrics as written, `own` those that follow from its responses; `hashes` as written.

    `rehashed` is whether the three hashes follow from question, prompt and target; `picked` whether the filtered response is a part
    of the raw one, None where that cannot be told.
    """

    filter: str
    answer: Answer
    scores: Mapping[str, float]
    own: Mapping[str, float]
    hashes: str
    rehashed: bool
    picked: bool | None


def row(value: object, place: str, config: Mapping[str, Any]) -> Row:
    """The row in one parsed line; `config` is the task's configuration in the results file. Raises Malformed."""
    if not isinstance(value, dict):
        raise Malformed(f"{place}: not a JSON object", advice="give the samples file as the harness wrote it")
    hashes = tuple(_hash(value.get(name), name, place) for name in ("doc_hash", "prompt_hash", "target_hash"))
    scores = {name: number for name in ACCURACIES if (number := _number(value.get(name))) is not None}
    if not scores:
        raise Malformed(f"{place}: none of {', '.join(ACCURACIES)} is given", advice="only tasks with these metrics are read")
    choices = _choices(value)
    own = _of_choices(value, choices, config) if choices else _of_text(value, config)
    best = _best(choices) if choices else None
    correct = _correct(value, len(choices))
    return Row(
        filter=str(value.get("filter", "none"))[:80],
        answer=Answer(
            doc=hashes[0][:32],
            target=hashes[2][:32],
            answer=str(best) if best is not None else _told(value.get("filtered_resps")),
            right=scores[next(name for name in ACCURACIES if name in scores)] >= 0.5,
            shares=_shares(choices) if correct >= 0 else (),
            correct=correct,
        ),
        scores=scores,
        own=own,
        hashes="".join(hashes),
        rehashed=_rehashed(value, hashes),
        picked=None if choices else _picked(value, config),
    )


def _hash(value: object, name: str, place: str) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise Malformed(f"{place}: no {name}", advice="write the samples again with lm-evaluation-harness 0.4.3 or later")
    return value


def _number(value: object) -> float | None:
    """A metric of one question; some versions write truth values."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def _choices(value: Mapping[str, Any]) -> tuple[float, ...]:
    """The log-likelihoods of the choices (written as text by some versions); () where the row is no multiple choice."""
    listed = value.get("filtered_resps")
    if not isinstance(listed, list) or not 2 <= len(listed) <= MAX_CHOICES:
        return ()
    found = tuple(_loglikelihood(entry) for entry in listed)
    return () if any(entry is None for entry in found) else tuple(entry for entry in found if entry is not None)


def _loglikelihood(entry: object) -> float | None:
    """The first of a (log-likelihood, whether it is what greedy decoding gives) pair."""
    if not isinstance(entry, list) or len(entry) != 2 or str(entry[1]) not in ("True", "False"):
        return None
    try:
        number = float(entry[0])
    except (TypeError, ValueError):
        return None
    return number if isfinite(number) or number == float("-inf") else None


def _best(values: tuple[float, ...]) -> int:
    return max(range(len(values)), key=lambda place: (values[place], -place))  # ties: the first, as numpy's argmax


def _of_choices(value: Mapping[str, Any], choices: tuple[float, ...], config: Mapping[str, Any]) -> dict[str, float]:
    """acc and acc_norm (log-likelihood over the choice's characters) where the target is a choice's number."""
    target = _correct(value, len(choices))
    if target < 0:
        return {}
    own = {"acc": float(_best(choices) == target)}
    lengths = _lengths(value, len(choices), config)
    if lengths:
        own["acc_norm"] = float(_best(tuple(one / length for one, length in zip(choices, lengths, strict=True))) == target)
    return own


def _correct(value: Mapping[str, Any], count: int) -> int:
    """The number of the right choice; -1 where the target is something else."""
    target = str(value.get("target"))
    number = int(target) if target.isascii() and target.isdigit() and len(target) < 5 else -1
    return number if number < count else -1


def _lengths(value: Mapping[str, Any], count: int, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Characters of each choice without the delimiter before it; () where they cannot be told."""
    delimiter, arguments = config.get("target_delimiter", " "), value.get("arguments")
    texts = [_argument(arguments, place, "arg_1") for place in range(count)]
    if not isinstance(delimiter, str) or any(not isinstance(text, str) or not text.startswith(delimiter) for text in texts):
        return ()
    lengths = tuple(len(str(text)) - len(delimiter) for text in texts)
    return lengths if all(lengths) else ()


def _argument(arguments: object, place: int, name: str) -> object:
    request = arguments.get(f"gen_args_{place}") if isinstance(arguments, dict) else None
    return request.get(name) if isinstance(request, dict) else None


def _of_text(value: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, float]:
    """exact_match of the filtered response, where the task compares without ignoring anything."""
    listed, target = value.get("filtered_resps"), value.get("target")
    metrics = config.get("metric_list")
    options = [entry for entry in metrics if isinstance(entry, dict)] if isinstance(metrics, list) else []
    named = [entry for entry in options if entry.get("metric") == "exact_match"]
    plain = bool(named) and all(not entry.get(key) for entry in named for key in entry if key.startswith(("ignore", "regexes", "multi")))
    if not plain or not isinstance(target, str) or not isinstance(listed, list) or len(listed) != 1 or not isinstance(listed[0], str):
        return {}
    return {"exact_match": float(listed[0] == target)}


def _told(listed: object) -> str:
    """A short name for a filtered response: two models gave the same answer if these are equal."""
    text = json.dumps(listed, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _shares(choices: tuple[float, ...]) -> tuple[float, ...]:
    """The choices' probabilities among one another."""
    if not 2 <= len(choices) <= MAX_SHARES or max(choices) == float("-inf"):
        return ()
    weights = [exp(one - max(choices)) for one in choices]
    return tuple(weight / sum(weights) for weight in weights)


def _rehashed(value: Mapping[str, Any], hashes: tuple[str, ...]) -> bool:
    """Whether the hashes are those of the question, the prompt and the target that stand in the row (harness 0.4.3 and later)."""
    doc = json.dumps(value.get("doc"), indent=2, ensure_ascii=False)
    prompt = _argument(value.get("arguments"), 0, "arg_0")
    texts = (doc, prompt if isinstance(prompt, str) else None, str(value.get("target")))
    return all(
        text is None or hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() == mine
        for text, mine in zip(texts, hashes, strict=True)
    )


def _picked(value: Mapping[str, Any], config: Mapping[str, Any]) -> bool | None:
    """Whether the filtered response stands in the raw one. The filter's regular expressions are a stranger's and are not run."""
    steps = _steps(config, value.get("filter"))
    raw, listed = value.get("resps"), value.get("filtered_resps")
    if not steps or not steps <= PICKING or not isinstance(raw, list) or not isinstance(listed, list) or len(listed) != 1:
        return None
    texts = [text for group in raw for text in (group if isinstance(group, list) else [group])]
    if not isinstance(listed[0], str) or not all(isinstance(text, str) for text in texts):
        return None
    return listed[0] == FALLBACK or any(listed[0].strip() in text for text in texts)


def _steps(config: Mapping[str, Any], name: object) -> set[str]:
    """The functions of one filter; empty where the configuration does not tell, or sets a fallback of its own."""
    filters = config.get("filter_list")
    chosen = [entry for entry in filters if isinstance(entry, dict) and entry.get("name") == name] if isinstance(filters, list) else []
    lists = [entry.get("filter") for entry in chosen]
    steps = [step for listed in lists if isinstance(listed, list) for step in listed]
    if not all(isinstance(step, dict) and isinstance(step.get("function"), str) and "fallback" not in step for step in steps):
        return set()
    return {step["function"] for step in steps}
