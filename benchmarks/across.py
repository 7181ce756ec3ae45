"""How models rank among controls in their likeness to another network, over the zoo. `python -m benchmarks.across`.

Suspects are students of a llama (KL divergence), of its own and of another architecture, on the same kind of data and on other data,
fine-tunes, and models that descend from none of the candidates. For every suspect its true teacher and other llamas are candidates;
the controls are independent models of the suspect's own family. Text is held-out source code in the zoo's own tokens.
"""

from __future__ import annotations

import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.zoo import students, tuning
from benchmarks.zoo.families import FAMILIES, LLAMA, OTHER_TOKENS, tokenizer_of
from benchmarks.zoo.population import BERT, GPT2, LLAMAS, OTHER_TOKENISED
from benchmarks.zoo.text import FILES, PAIRS, SIZES, WORDS, _token
from benchmarks.zoo.training import Recipe, Tensors, trained
from modelguard.activations.band import standings
from modelguard.activations.cka import Grams
from modelguard.activations.network_settings import read_settings
from modelguard.activations.networks import Architecture, design
from modelguard.activations.pooled import Encoded, contrasts, grams, places
from modelguard.activations.probes import Tokens, written
from modelguard.activations.streaming import run
from modelguard.activations.traces import Trace
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.types.across import Standing

TEXTS, CHARACTERS, LENGTH = 40, 170, 30  # texts, and tokens of each that are read
PYTHON = tuple(recipe for recipe in LLAMAS if recipe.data != "chain")
SHIFTED, CROSSED = PYTHON[:5], PYTHON[9:13]  # teachers of students of another domain, and of another architecture
MOST = 200  # contrasts: the more, the longer the table takes
CANDIDATES, CONTROLS = 3, 5
SHOWN = ("suspects", "pairs", "first by CKA", "first by neighbours", "first by both", "mean CKA", "highest control, mean")


@dataclass(frozen=True, slots=True)
class Suspect:
    """A model in question: `kind` names its row, `own` is its teacher or base, or None where it has none among the candidates."""

    kind: str
    family: str
    tensors: Tensors
    own: Recipe | None
    controls: tuple[Recipe, ...]


@cache
def texts() -> tuple[str, ...]:
    """Pieces of source files on which no model of the zoo was trained."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    files = [path.read_text(encoding="utf-8", errors="replace") for half in (0, 1) for path in paths[half::2][FILES : FILES + 10]]
    pieces = (file[start : start + CHARACTERS] for file in files for start in range(2000, 2000 + 20 * CHARACTERS, 5 * CHARACTERS))
    return tuple(piece for piece in pieces if len(WORDS.findall(piece)) >= LENGTH)[:TEXTS]


@cache
def encoded(tokenizer: str) -> Encoded:
    """The texts in the tokens of a tokenizer of the zoo."""
    rows = [list((WORDS if tokenizer == "words" else PAIRS).finditer(text))[:LENGTH] for text in texts()]
    ids = [[_token(match[0], SIZES[tokenizer]) for match in row] for row in rows]
    return Encoded(ids=np.array(ids), ends=np.array([[match.end() for match in row] for row in rows]))


@cache
def shared(tokenizers: tuple[str, ...]) -> tuple[dict[str, NDArray[np.int64]], Grams]:
    """The places that those tokenizers share, and the contrasts between them."""
    found = places([encoded(name) for name in tokenizers], texts())
    return dict(zip(tokenizers, found.tokens, strict=True)), contrasts(found.strings, MOST)


def states(family: str, tensors: Tensors) -> NDArray[np.floating]:
    """Hidden states (layers, tokens, axes) of a model of the zoo, run as the program runs one."""
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory() as directory:
        FAMILIES[family]().config.save_pretrained(directory)
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, Path(directory) / "m.safetensors")
        folder = LocalFolder(Path(directory), "model")
        architecture = design(read_settings(folder), "model")  # type: ignore[arg-type]
        assert isinstance(architecture, Architecture), architecture
        probes = written(Tokens(ids=encoded(tokenizer_of(family)).ids, method="zoo"))
        trace = run(open_safetensors(folder.open("m.safetensors")), architecture, probes, depth=architecture.layers)
    assert isinstance(trace, Trace), trace
    return trace.states


@cache
def of_recipe(recipe: Recipe, tokenizers: tuple[str, ...]) -> Grams:
    """What is kept of a model that was trained from scratch."""
    return reduced(recipe.family, trained(recipe), tokenizers)


def reduced(family: str, tensors: Tensors, tokenizers: tuple[str, ...]) -> Grams:
    tokens, rows = shared(tokenizers)
    return grams(states(family, tensors), tokens[tokenizer_of(family)], rows)


def suspects() -> Iterator[Suspect]:
    """Every model of the table."""
    for teacher in (*CROSSED, *PYTHON[:4]):
        yield Suspect("student of another architecture", "gpt2", students.student(teacher, "gpt2", "other"), teacher, GPT2)
    for teacher in PYTHON[:6]:
        yield Suspect("student, data of the domain", LLAMA, tuning.student(teacher), teacher, PYTHON)
    for teacher in SHIFTED[:4]:
        yield Suspect("student, data of another domain", LLAMA, students.student(teacher, LLAMA, "chain"), teacher, PYTHON)
    for base in PYTHON[:4]:
        yield Suspect("fine-tune", LLAMA, tuning.fine_tuned(base), base, PYTHON)
    for recipe in GPT2:
        yield Suspect("independent gpt2", "gpt2", trained(recipe), None, (*GPT2, *BERT[:1]))
    for recipe in BERT:
        yield Suspect("independent bert", "bert", trained(recipe), None, (*BERT, *GPT2[:2]))
    for recipe in PYTHON[:4]:
        yield Suspect("independent llama", LLAMA, trained(recipe), None, PYTHON)
    for recipe in OTHER_TOKENISED:
        yield Suspect("independent llama, other tokenizer", OTHER_TOKENS, trained(recipe), None, OTHER_TOKENISED)


def ranked(suspect: Suspect, number: int) -> Iterator[tuple[bool, tuple[Standing, ...]]]:
    """For every candidate whether it is the true one, and where the suspect stands."""
    itself = next((recipe for recipe in suspect.controls if trained(recipe) is suspect.tensors), None)
    start = number if suspect.own is None else PYTHON.index(suspect.own)
    around = [one for one in (*PYTHON[start:], *PYTHON[:start]) if one != itself]
    offered = around[:CANDIDATES]
    beside = [one for one in reversed(suspect.controls) if one not in offered and one != itself][:CONTROLS]
    families = (suspect.family, LLAMA, *(one.family for one in beside))
    kinds = tuple(dict.fromkeys(tokenizer_of(family) for family in families))
    own, controls = reduced(suspect.family, suspect.tensors, kinds), [of_recipe(one, kinds) for one in beside]
    for candidate in offered:
        yield candidate == suspect.own, standings(own, of_recipe(candidate, kinds), controls)[0]


def table(chosen: Iterable[Suspect]) -> Mapping[tuple[str, bool], Sequence[tuple[int, tuple[Standing, ...]]]]:
    """The standings by kind of suspect, and by whether the candidate is the true one."""
    rows: dict[tuple[str, bool], list[tuple[int, tuple[Standing, ...]]]] = {}
    for number, suspect in enumerate(chosen):
        for true, found in ranked(suspect, number):
            sys.stderr.write(f"{suspect.kind}, {true}: {[(one.rank, round(one.value, 4)) for one in found]}\n")
            rows.setdefault((suspect.kind, true), []).append((number, found))
    return rows


def markdown(rows: Mapping[tuple[str, bool], Sequence[tuple[int, tuple[Standing, ...]]]]) -> str:
    """The table as it is published."""
    lines = [f"| suspect | held against | {' | '.join(SHOWN)} |", "|---|---|" + "---:|" * len(SHOWN)]
    for (kind, true), found in rows.items():
        firsts = np.array([[standing.rank == 1 for standing in one] for _, one in found])
        chance = "" if true else f" (chance {len(found) / (len(found[0][1][0].controls) + 1):.1f})"
        cells = [str(len({number for number, _ in found})), str(len(found))]
        cells += [f"{firsts[:, 0].sum()}{chance}", str(firsts[:, 1].sum()), str(firsts.all(axis=1).sum())]
        cells += [f"{np.mean([one[0].value for _, one in found]):.3f}", f"{np.mean([max(one[0].controls) for _, one in found]):.3f}"]
        lines.append(f"| {kind} | {'the true one' if true else 'others'} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(table(suspects())), end="")
