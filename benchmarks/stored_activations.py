"""How often stored activation fingerprints pair, and what their numbers without a null show, on the zoo's trained models.

`python -m benchmarks.stored_activations [--models N] [--family llama|gpt2|bert]`. Every pair of independent models, and what was made
of each. The exact tests have no threshold to choose. Of the other numbers the band of independents is taken from the pairs among every
second model, and told is how often the pairs among the rest, and what was made of these, come out above it. Each model reads the probes
as pseudo-random tokens, as it would through the door (it has no tokenizer), and then stretches of the text that it was trained on, which
is harder. The first run trains what the cache does not have.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zoo.making import mixed, noised, pruned, rounded
from benchmarks.zoo.population import BASES, BERT, GPT2, LLAMAS, STRANGER, same_initialisation
from benchmarks.zoo.rewriting import permuted, rotated
from benchmarks.zoo.text import CONTEXT, tokens
from benchmarks.zoo.training import Recipe, Tensors, loaded, trained
from benchmarks.zoo.tuning import continued, fine_tuned, student
from modelguard.activations.against_stored import held
from modelguard.activations.probes import Probes, Tokens, encode, written
from modelguard.activations.stored import designed, fingerprint_activations, kept_layers, kept_tokens, told
from modelguard.activations.streaming import run
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.types.activations import ActivationFingerprint
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison

ALPHA = -9.0
SEED = 20261122
Numbers = Mapping[str, Callable[[ActivationComparison], float]]
Pairs = dict[str, list[tuple[int, ActivationComparison]]]  # by truth: the base's place among the models, or -1 for a pair across halves

MADE: Mapping[str, Callable[[Recipe], Tensors]] = {
    "4-bit": lambda recipe: rounded(4)(trained(recipe)),
    "4-bit and 50 % pruned": lambda recipe: rounded(4)(pruned(0.5)(trained(recipe))),
    "noised by 20 %": lambda recipe: noised(0.2)(trained(recipe)),
    "merge, 50 % of it": lambda recipe: mixed(trained(recipe), trained(STRANGER[recipe]), 0.5),
    "fine-tuned": fine_tuned,
    "trained on as long again": continued,
    "units permuted": lambda recipe: permuted(trained(recipe), SEED),
    "stream rotated, units permuted": lambda recipe: rotated(permuted(trained(recipe), SEED), SEED),
    "distilled into another initialisation": student,
}
TRAINED_ONLY_FOR_LLAMAS = frozenset(
    ("distilled into another initialisation", "stream rotated, units permuted")
)  # and LayerNorm does not turn
TEXTS = {"random": "pseudo-random tokens", "own": "stretches of the models' own text"}
MODELS = {"llama": LLAMAS, "gpt2": GPT2, "bert": BERT}
SUPPORT: Numbers = {
    "best head match": lambda one: one.best_head_match,
    "Gram cosine": lambda one: float(np.mean([layer.gram_cosine or 0 for layer in one.layers])),
    "head statistics": lambda one: float(np.mean([layer.statistics_cosine or 0 for layer in one.layers])),
    "same next token": lambda one: one.next_token_agreement or 0.0,
    "shared probability": lambda one: one.next_token_overlap or 0.0,
}


def usable(result: Any) -> Any:
    """The result, or the end of the run with its reason."""
    if isinstance(result, Missing):
        raise SystemExit(result.why)
    return result


def stretches() -> Probes:
    """As many stretches of the zoo's own text as there are probes, as long as the zoo's models read at once."""
    text = tokens("other")
    starts = np.linspace(0, len(text) - CONTEXT - 1, 24).astype(int)
    return written(Tokens(ids=np.stack([text[start : start + CONTEXT] for start in starts]), method=f"zoo-text:{CONTEXT}"))


def made(tensors: Tensors, like: Recipe, place: Path, probes: Probes | None) -> ActivationFingerprint:
    """The fingerprint of a model of that recipe's architecture with those weights."""
    from safetensors.numpy import save_file

    loaded(like, trained(like)).config.save_pretrained(place)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, place / "model.safetensors")
    folder = LocalFolder(place, "model")
    network, checkpoint = usable(designed(folder)), open_safetensors(folder.open("model.safetensors"))
    given = probes or written(encode(folder, network.vocabulary, network.positions))
    trace = usable(run(checkpoint, network, given, depth=network.layers, telling=True))
    return told(checkpoint, network, given, trace, kept_layers(network.layers), tokens=kept_tokens(network.layers))


def compared(recipes: tuple[Recipe, ...], place: Path, probes: Probes | None) -> Pairs:
    """Every comparison, by truth. Derivatives are made of the models that have them in the cache."""
    stored = {recipe: made(trained(recipe), recipe, place, probes) for recipe in recipes}
    pairs: Pairs = {"independent": []}
    for (a, one), (b, other) in combinations(enumerate(recipes), 2):
        half = a if a % 2 == b % 2 else -1
        pairs["independent"].append((half, usable(held(stored[one], stored[other]))))
    for truth, tensors, recipe in _derivatives(recipes):
        one = usable(held(made(tensors, recipe, place, probes), stored[recipe]))
        pairs.setdefault(truth, []).append((recipes.index(recipe), one))
    return pairs


def _derivatives(recipes: tuple[Recipe, ...]) -> Iterator[tuple[str, Tensors, Recipe]]:
    for recipe in (recipe for recipe in recipes if recipe in (*BASES, *GPT2[:2], *BERT[:1])):
        for truth, make in MADE.items():
            if recipe in BASES or truth not in TRAINED_ONLY_FOR_LLAMAS:
                yield truth, make(recipe), recipe
    for truth, other, recipe in same_initialisation():
        if recipe in recipes:
            yield truth, trained(other), recipe


def exact(pairs: Pairs) -> Iterator[str]:
    """How often each exact test fires."""
    yield "| truth | axes fire | heads fire | units fire | log10 p of axes | log10 p of units |"
    yield "|---|---|---|---|---|---|"
    for truth, listed in pairs.items():
        tests = [[getattr(one, f"log10_p_{test}") for _, one in listed] for test in ("hidden", "heads", "units")]
        fired = " | ".join(f"{sum(value <= ALPHA for value in values)} of {len(values)}" for values in tests)
        yield f"| {truth} | {fired} | {min(tests[0]):.1f} to {max(tests[0]):.1f} | {min(tests[2]):.1f} to {max(tests[2]):.1f} |"


def supporting(pairs: Pairs) -> Iterator[str]:
    """The range of each number without a null, and how many are above the band of the other half's independents."""
    bands = {
        name: max(number(one) for half, one in pairs["independent"] if half >= 0 and half % 2 == 0) for name, number in SUPPORT.items()
    }
    yield "| truth, of the other half | " + " | ".join(f"{name} (band {bands[name]:.2f})" for name in SUPPORT) + " |"
    yield "|---" * (len(SUPPORT) + 1) + "|"
    for truth, listed in pairs.items():
        rest = [one for half, one in listed if half >= 0 and half % 2 == 1]
        if rest:
            cells = [_cell([number(one) for one in rest], bands[name]) for name, number in SUPPORT.items()]
            yield f"| {truth} | " + " | ".join(cells) + " |"


def _cell(values: list[float], band: float) -> str:
    return f"{sum(value > band for value in values)} of {len(values)}: {min(values):.2f} to {max(values):.2f}"


def control(recipe: Recipe, place: Path) -> str:
    """What the door itself makes of one model, its control included."""
    made(trained(recipe), recipe, place, None)
    folder = LocalFolder(place, "model")
    one = usable(fingerprint_activations(open_safetensors(folder.open("model.safetensors")), folder))
    return f"{one.nbytes:,} bytes; its control, log10 p of axes, heads, units: {', '.join(f'{value:.1f}' for value in one.control)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=len(LLAMAS), help="how many of the zoo's models")
    parser.add_argument("--family", choices=MODELS, default="llama", help="which models (default: llama)")
    parser.add_argument("--text", choices=TEXTS, nargs="+", default=list(TEXTS), help="what the models read (default: both)")
    options = parser.parse_args()
    recipes = MODELS[options.family][: options.models]
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        print(control(recipes[0], place), flush=True)
        for text in options.text:
            pairs = compared(recipes, place, stretches() if text == "own" else None)
            print("\n".join(("", f"### {TEXTS[text]}", "", *exact(pairs), "", *supporting(pairs))), flush=True)


if __name__ == "__main__":
    main()
