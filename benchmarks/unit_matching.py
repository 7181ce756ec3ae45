"""How often the activation tests fire, on the zoo's trained llamas: every pair of independent ones, and derivatives of each.

`python -m benchmarks.unit_matching [--models N]`. The first run trains what the cache does not have.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks.zoo import tuning
from benchmarks.zoo.making import Made, cast, mixed, noised, pruned, rounded
from benchmarks.zoo.population import BASES, LLAMAS, STRANGER
from benchmarks.zoo.training import Recipe, Tensors, loaded, trained
from modelguard.activations.comparison import Agreement, hold
from modelguard.activations.network_settings import read_settings
from modelguard.activations.networks import design
from modelguard.activations.probes import encode, written
from modelguard.activations.streaming import run
from modelguard.activations.traces import Trace
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.types.findings import Missing

ALPHA = -9.0


def derivatives(recipe: Recipe) -> Iterator[tuple[str, Made]]:
    base = trained(recipe)
    yield "4-bit", rounded(4)(base)
    yield "50 % pruned", pruned(0.5)(base)
    yield "4-bit and 50 % pruned", rounded(4)(pruned(0.5)(base))
    yield "cast to 16 bits", cast(np.float16)(base)
    yield "noised by 20 %", noised(0.2)(base)
    yield "merge, 50 % of it", mixed(base, trained(STRANGER[recipe]), 0.5)
    if recipe in BASES:
        yield "fine-tuned", tuning.fine_tuned(recipe)
        yield "continued pretraining, equal length", tuning.continued(recipe)
        yield "LoRA merged", tuning.adapter_merged(recipe)
        yield "distilled into another initialisation (not detectable)", tuning.student(recipe)


def traced(tensors: Mapping[str, object] | Tensors, like: Recipe, place: Path) -> Trace:
    """What a llama of that recipe's architecture with those weights does on the probes."""
    from safetensors.numpy import save_file

    loaded(like, trained(like)).config.save_pretrained(place)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, place / "model.safetensors")
    folder = LocalFolder(place, "model")
    settings = read_settings(folder)
    if isinstance(settings, Missing):
        raise SystemExit(settings.why)
    architecture = design(settings, "model")
    if isinstance(architecture, Missing):
        raise SystemExit(architecture.why)
    probes = written(encode(folder, architecture.vocabulary, architecture.positions))
    trace = run(open_safetensors(folder.open("model.safetensors")), architecture, probes, depth=architecture.layers)
    if isinstance(trace, Missing):
        raise SystemExit(trace.why)
    return trace


def row(truth: str, agreements: list[Agreement]) -> str:
    """A line of the table: how many fire by each test, and the weakest and strongest p of the units."""
    tests = [[getattr(agreement, f"log10_p_{test}") for agreement in agreements] for test in ("hidden", "heads", "units")]
    fired = " | ".join(f"{sum(value <= ALPHA for value in values)} of {len(values)}" for values in tests)
    matches = [agreement.best_head_match for agreement in agreements]
    return f"| {truth} | {fired} | {min(tests[2]):.1f} to {max(tests[2]):.1f} | {min(matches):.2f} to {max(matches):.2f} |"


def table(recipes: tuple[Recipe, ...], bases: tuple[Recipe, ...]) -> str:
    """Independent pairs of these models, and derivatives of some of them, as Markdown."""
    head = ("truth", "hidden states fire", "heads fire", "units fire", "log10 p of units", "best head match")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        traces = {recipe: traced(trained(recipe), recipe, place) for recipe in recipes}
        lines.append(row("independent", [hold(traces[a], traces[b]) for a, b in combinations(recipes, 2)]))
        made: dict[str, list[Agreement]] = {}
        for recipe in bases:
            for truth, tensors in derivatives(recipe):
                made.setdefault(truth, []).append(hold(traced(tensors, recipe, place), traces[recipe]))
    return "\n".join([*lines, *(row(truth, agreements) for truth, agreements in made.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=len(LLAMAS), help="how many of the zoo's llamas")
    parser.add_argument("--bases", type=int, default=len(LLAMAS), help="of how many of them derivatives are made")
    options = parser.parse_args()
    print(table(LLAMAS[: options.models], LLAMAS[: min(options.models, options.bases)]))


if __name__ == "__main__":
    main()
