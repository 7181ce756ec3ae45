"""Teacher evidence on the zoo: does the true teacher stand out, and is anybody else accused? `python -m benchmarks.behaviour`.

Students have an initialisation of their own and were trained towards a teacher's answers alone (KL divergence). Every suspect is held
against seven candidates and six control models; the text is of files of Python's library that no model was trained on. Two tables: the
models on which the floors were chosen, and others, of two architectures, that had no part in it.
"""

from __future__ import annotations

import argparse
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zoo import students
from benchmarks.zoo.students import INDEPENDENT, Suspect
from benchmarks.zoo.text import CONTEXT, FILES, VOCABULARY, WORDS, _token
from benchmarks.zoo.training import Recipe, Tensors, loaded, trained
from modelguard.activations.behaviour import behaviour
from modelguard.activations.held_out import Text
from modelguard.activations.predictions import Predictions, predictions_of
from modelguard.types.evals import Likeness, TeacherEvidence

WINDOWS = 4  # of a file
FILES_HELD_OUT = 10  # of either half of the sources
CANDIDATES, CONTROLS = 7, 6

Known = Mapping[str, tuple[Recipe, ...]]  # by family: who can be a teacher, a candidate or a control


@cache
def held_out() -> tuple[Text, Any]:
    """The text, and its token ids (windows, CONTEXT)."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    rows, kinds = [], []
    for half in (0, 1):
        for path in paths[half::2][FILES : FILES + FILES_HELD_OUT]:
            words = WORDS.findall(path.read_text(encoding="utf-8", errors="replace"))[: WINDOWS * CONTEXT]
            if len(words) == WINDOWS * CONTEXT:
                rows.append(np.array([_token(word, VOCABULARY) for word in words]).reshape(WINDOWS, CONTEXT))
                kinds.append(half)
    ids = np.concatenate(rows)
    each = WINDOWS * (CONTEXT - 1)
    numbers = np.repeat(np.arange(len(rows)), each)
    return Text(following=ids[:, 1:].reshape(-1), documents=numbers, kinds=np.repeat(np.array(kinds), each)), ids


def predicted(family: str, tensors: Tensors) -> Predictions:
    """What a model of the zoo predicts behind each token of the held-out text."""
    import torch

    text, ids = held_out()
    with torch.inference_mode():
        scores = loaded(family, tensors)(input_ids=torch.from_numpy(ids)).logits[:, :-1].log_softmax(-1)
    return predictions_of(np.asarray(scores.reshape(-1, scores.shape[-1]).numpy(), dtype=np.float32), text.following)


@cache
def of_model(recipe: Recipe) -> Predictions:
    """The predictions of a model that was trained from scratch."""
    return predicted(recipe.family, trained(recipe))


def evidence(suspect: Suspect, by_family: Known) -> TeacherEvidence:
    """One suspect among its candidates, with the true teacher where there is one, against controls that are no candidates."""
    known = by_family[suspect.own.family]
    start = known.index(suspect.own)
    around = [known[(start + step) % len(known)] for step in range(len(known))]
    offered = around[:CANDIDATES] if suspect.teacher is not None else around[1 : CANDIDATES + 1]
    beside = [recipe for recipe in around[1:] if recipe not in offered][:CONTROLS]
    if suspect.family != suspect.own.family and (own := by_family.get(suspect.family)):
        beside = [*beside[: CONTROLS // 2], *own[: CONTROLS // 2]]  # models of the domain, of either architecture
    return behaviour(predicted(suspect.family, suspect.tensors()), _of(offered), _of(beside), held_out()[0])


def _of(recipes: Iterable[Recipe]) -> Mapping[str, Predictions]:
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


def table(suspects: Iterable[Suspect], by_family: Known) -> dict[str, Row]:
    """The rows by the teachers' architecture and by kind."""
    rows: dict[str, Row] = {}
    for suspect in suspects:
        row = rows.setdefault(f"{suspect.own.family}: {suspect.kind}", Row())
        _count(row, suspect, evidence(suspect, by_family).likenesses)
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
        taught = not kind.endswith(INDEPENDENT)
        cells = [row.suspects, row.pairs, row.first if taught else "–", row.close if taught else "–", row.accused, row.unknown]
        ends = [f"{row.lowest:.2f}" if row.lowest < 1 else "–", f"{row.highest:.2f}" if row.highest > -1 else "–"]
        lines.append("| " + " | ".join([kind, *map(str, cells), *ends]) + " |")
    return "\n".join(lines) + "\n"


SETS: Mapping[str, tuple[str, Callable[[], Iterable[Suspect]], Known]] = {
    "chosen": ("Models on which the floors were chosen", students.chosen, students.CHOSEN),
    "first": ("Models on which the regression was chosen", students.first, students.FIRST),
    "held out": ("Models that had no part in it", students.held_out, students.HELD_OUT),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.behaviour", description=__doc__)
    parser.add_argument("--set", choices=SETS, action="append", help="one of the three sets of models (default: all)")
    for name in parser.parse_args().set or SETS:
        title, suspects, known = SETS[name]
        print(f"{title}:\n\n{markdown(table(suspects(), known))}", flush=True)


if __name__ == "__main__":
    main()
