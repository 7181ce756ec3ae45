"""Teacher evidence on the zoo: does the true teacher stand out, and is anybody else accused? `python -m benchmarks.behaviour`.

Students have an initialisation of their own and were trained towards a teacher's answers alone (KL divergence). Every suspect is held
against seven candidates and six control models; the text is of files of Python's library that no model was trained on.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zoo import tuning
from benchmarks.zoo.cache import cached
from benchmarks.zoo.families import FAMILIES, LLAMA
from benchmarks.zoo.population import LLAMAS
from benchmarks.zoo.text import CONTEXT, FILES, VOCABULARY, WORDS, _token
from benchmarks.zoo.training import STEPS, Recipe, Tensors, loaded, saved, train, trained
from modelguard.activations.behaviour import LogProbabilities, Text, behaviour
from modelguard.types.evals import Likeness, TeacherEvidence

WINDOWS = 4  # of a file
HELD_OUT = 10  # files of either half of the sources
CANDIDATES, CONTROLS = 7, 6
PYTHON = tuple(recipe for recipe in LLAMAS if recipe.data != "chain")
SHIFTED, CROSSED = PYTHON[:5], PYTHON[9:13]  # teachers of students of another domain, and of another architecture


@dataclass(frozen=True, slots=True)
class Suspect:
    """A model in question; `teacher` is None where it has none, `kind` the row of the table that it counts in."""

    kind: str
    name: str
    family: str
    tensors: Tensors
    own: Recipe  # the teacher, or the model itself
    teacher: Recipe | None


@cache
def held_out() -> tuple[Text, Any]:
    """The text, and its token ids (windows, CONTEXT)."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    rows, kinds = [], []
    for half in (0, 1):
        for path in paths[half::2][FILES : FILES + HELD_OUT]:
            words = WORDS.findall(path.read_text(encoding="utf-8", errors="replace"))[: WINDOWS * CONTEXT]
            if len(words) == WINDOWS * CONTEXT:
                rows.append(np.array([_token(word, VOCABULARY) for word in words]).reshape(WINDOWS, CONTEXT))
                kinds.append(half)
    ids = np.concatenate(rows)
    each = WINDOWS * (CONTEXT - 1)
    numbers = np.repeat(np.arange(len(rows)), each)
    return Text(following=ids[:, 1:].reshape(-1), documents=numbers, kinds=np.repeat(np.array(kinds), each)), ids


def predictions(family: str, tensors: Tensors) -> LogProbabilities:
    """What a model of the zoo predicts behind each token of the held-out text, (positions, vocabulary)."""
    import torch

    with torch.inference_mode():
        scores = loaded(family, tensors)(input_ids=torch.from_numpy(held_out()[1])).logits[:, :-1].log_softmax(-1)
    return np.asarray(scores.reshape(-1, scores.shape[-1]).numpy(), dtype=np.float32)


def student(teacher: Recipe, family: str, data: str) -> Tensors:
    """A model of a family, trained towards a teacher's answers on some data, from an initialisation of its own."""
    run = replace(teacher, family=family, data=data, steps=STEPS // 2)

    def make() -> tuple[Tensors, dict[str, str]]:
        import torch

        torch.manual_seed(teacher.seed + 6000)
        network, told = FAMILIES[family](), loaded(teacher.family, trained(teacher)).requires_grad_(False)

        def loss(ours: Any, batch: dict[str, Any]) -> Any:
            goal = told(input_ids=batch["input_ids"]).logits.log_softmax(-1).flatten(0, 1)
            own = ours(input_ids=batch["input_ids"]).logits.log_softmax(-1).flatten(0, 1)
            return torch.nn.functional.kl_div(own, goal, log_target=True, reduction="batchmean")

        train(network, run, teacher.seed + 6000, loss=loss)
        return saved(network), {}

    return cached(f"behaviour student {teacher!r} {run!r}", make)[0]


def suspects(most: int = 19) -> Iterator[Suspect]:
    """Every model of the table, or so many of each kind."""
    for teacher in PYTHON[: min(most, 19)]:
        yield Suspect("student, data of the domain", teacher.name, LLAMA, tuning.student(teacher), teacher, teacher)
    for teacher in CROSSED[:most]:
        yield Suspect("student of another architecture", teacher.name, "gpt2", student(teacher, "gpt2", "other"), teacher, teacher)
    for teacher in SHIFTED[:most]:
        yield Suspect("student, data of another domain", teacher.name, LLAMA, student(teacher, LLAMA, "chain"), teacher, teacher)
    for recipe in PYTHON if most >= 19 else PYTHON[:most]:
        yield Suspect("independent model", recipe.name, LLAMA, trained(recipe), recipe, None)


@cache
def of_model(recipe: Recipe) -> LogProbabilities:
    """The predictions of a model that was trained from scratch."""
    return predictions(recipe.family, trained(recipe))


def evidence(suspect: Suspect) -> TeacherEvidence:
    """One suspect among its candidates, with the true teacher where there is one, against controls that are no candidates."""
    start = PYTHON.index(suspect.own)
    around = [PYTHON[(start + step) % len(PYTHON)] for step in range(len(PYTHON))]
    offered = around[:CANDIDATES] if suspect.teacher is not None else around[1 : CANDIDATES + 1]
    beside = [recipe for recipe in around[1:] if recipe not in offered][:CONTROLS]
    return behaviour(predictions(suspect.family, suspect.tensors), _of(offered), _of(beside), held_out()[0])


def _of(recipes: Iterable[Recipe]) -> Mapping[str, LogProbabilities]:
    return {recipe.name: of_model(recipe) for recipe in recipes}


@dataclass(slots=True)
class Row:
    """What came of the suspects of one kind."""

    suspects: int = 0
    first: int = 0  # suspects whose true teacher ranks first in the residual correlation
    close: int = 0  # suspects whose true teacher is found close
    accused: int = 0  # suspects to which another candidate is found close
    unknown: int = 0
    pairs: int = 0
    lowest: float = 1.0  # residual correlation with the true teacher
    highest: float = -1.0  # with any other candidate


def table(chosen: Iterable[Suspect]) -> dict[str, Row]:
    """The rows by kind."""
    rows: dict[str, Row] = {}
    for suspect in chosen:
        _count(rows.setdefault(suspect.kind, Row()), suspect, evidence(suspect).likenesses)
    return rows


def _count(row: Row, suspect: Suspect, likenesses: tuple[Likeness, ...]) -> None:
    name = suspect.teacher.name if suspect.teacher is not None else ""
    values = {one.candidate: one.measures[0].value for one in likenesses if one.measures}
    row.suspects += 1
    row.pairs += len(likenesses)
    row.unknown += all(one.open for one in likenesses)
    row.first += bool(values) and max(values, key=lambda key: values[key]) == name
    row.close += any(one.close and one.candidate == name for one in likenesses)
    row.accused += any(one.close and one.candidate != name for one in likenesses)
    row.lowest = min([row.lowest, *(value for key, value in values.items() if key == name)])
    row.highest = max([row.highest, *(value for key, value in values.items() if key != name)])


def markdown(rows: Mapping[str, Row]) -> str:
    """The table as it is published."""
    names = ("suspects", "models", "pairs", "true teacher first", "found close", "another found close", "unknown")
    head = "| " + " | ".join((*names, "lowest r, teacher", "highest r, others")) + " |"
    lines = [head, "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for kind, row in rows.items():
        taught = kind != "independent model"
        cells = [row.suspects, row.pairs, row.first if taught else "–", row.close if taught else "–", row.accused, row.unknown]
        ends = [f"{row.lowest:.2f}" if row.lowest < 1 else "–", f"{row.highest:.2f}" if row.highest > -1 else "–"]
        lines.append("| " + " | ".join([kind, *map(str, cells), *ends]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(table(suspects())), end="")
