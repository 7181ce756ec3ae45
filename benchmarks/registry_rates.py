"""What a registry finds of the zoo: `python -m benchmarks.registry_rates [--bases N]`.

Every independently initialised model of the zoo is entered; each is looked up among the others (nothing may be found), and so is every
derivative of the first bases (its base must be found where it is not disguised, and be a candidate where it is).
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np

from benchmarks.zoo.cells import DISGUISED, PLAIN, UNNAMED, Cell
from benchmarks.zoo.families import LLAMA
from benchmarks.zoo.population import BASES, INDEPENDENT, STRANGER, same_initialisation
from benchmarks.zoo.training import Recipe, retrained, trained
from benchmarks.zoo.tuning import adapter_merged, continued, fine_tuned
from modelguard.sketches.kinship import kinship
from modelguard.sketches.search import correlation, search
from modelguard.sketches.sketch import fingerprint
from modelguard.types.registry import Candidate, Entry, Hit, Search
from tests.fingerprint.zoo import Arrays

ALPHA = 1e-9
CHOSEN = 6  # bases on which the rule on siblings was chosen


def entered(models: Sequence[Recipe]) -> list[Entry]:
    """The zoo's models as a registry holds them."""
    return [Entry(name=recipe.name, fingerprint=fingerprint(Arrays(trained(recipe)))) for recipe in models]


def looked_up(query: Entry, entries: Sequence[Entry]) -> Search:
    return search(query.fingerprint, entries, alpha=ALPHA, registry="the zoo", known=len(entries))


def strangers(entries: Sequence[Entry]) -> int:
    """Every model among the others. Prints what was found, which is wrong each time; how often."""
    pairs, wrong, grams = 0, 0, []
    for entry in entries:
        others = [other for other in entries if other is not entry]
        found = looked_up(entry, others)
        pairs, wrong = pairs + found.searched, wrong + len(found.hits)
        grams += [gram for other in others if (gram := correlation(entry.fingerprint, other.fingerprint)) is not None]
        for item in _all(found):
            print(f"  {entry.name}: {item.name} ({type(item).__name__.lower()}, r = {item.gram or 0:.2f})")
    print(f"{len(entries)} independent models, {pairs} ordered pairs of one shape: {wrong} hits; r of tokens at most {max(grams):.2f}")
    return wrong


def alike(pairs: Sequence[tuple[str, Recipe, Recipe]]) -> None:
    """Models of one initialisation: T1 fires, and the tokens tell."""
    for what, first, second in pairs:
        ours, theirs = entered([first, second])
        hits = looked_up(ours, [theirs]).hits
        grams = [round(hit.gram, 2) for hit in hits if hit.gram is not None]
        print(f"  {what}, {first.family}: {len(hits)} hit, r of tokens {grams}")


def derived(cells: Sequence[Cell], bases: Sequence[Recipe], entries: Sequence[Entry]) -> None:
    """Every derivative of every base: is its base a hit, a candidate, or missed, and is anything else a hit? Least r of tokens beside."""
    for cell in cells:
        counted: Counter[str] = Counter()
        grams = []
        for recipe in (recipe for recipe in bases if recipe.family in cell.families):
            found = looked_up(Entry(name="it", fingerprint=fingerprint(Arrays(cell.make(recipe)))), entries)
            mine = {recipe.name} | ({STRANGER[recipe].name} if cell.stranger else set())
            counted.update([_outcome(found, recipe.name), *_false(found, mine)])
            grams += [item.gram for item in _all(found) if item.name == recipe.name and item.gram is not None]
        least = f"; r of tokens at least {min(grams):.2f}" if grams else ""
        print(f"{cell.group:9} {cell.name:44} " + ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items())) + least)


def relatives(bases: Sequence[Recipe], parents: Sequence[str]) -> int:
    """Descendants of one base: siblings are not parents of one another, and a child of one of them must be told; how many are wrong."""
    wrong, asked, least, most = 0, 0, np.inf, -np.inf
    for recipe in bases:
        made = {
            "other": fine_tuned(recipe),
            "chain": fine_tuned(recipe, "chain"),
            "continued": continued(recipe),
            "lora": adapter_merged(recipe),
        }
        known = [Entry(name=name, fingerprint=fingerprint(Arrays(tensors))) for name, tensors in made.items()]
        base = fingerprint(Arrays(trained(recipe)))
        queries = [(entry.name, entry.fingerprint, "") for entry in known]
        queries += [(f"child of {parent}", fingerprint(Arrays(retrained(recipe, made[parent]))), parent) for parent in parents]
        for name, query, parent in queries:
            others = [entry for entry in known if entry.name != name]
            hits = kinship(query, [("base", base)], others, alpha=ALPHA, registry="the zoo", known=len(others)).search.hits
            told = [hit.name for hit in hits if hit.standing == "between"]
            wrong, asked = wrong + (told != [parent] * bool(parent)), asked + 1
            if told != [parent] * bool(parent):
                print(f"  {recipe.name}, {name}: told {told or 'nothing'}", flush=True)
            most = max([most, *(hit.carried for hit in hits if hit.carried is not None and hit.name != parent)])
            least = min([least, *(hit.carried for hit in hits if hit.carried is not None and hit.name == parent)])
    print(f"{len(bases)} families of a base, four descendants and a child of {', '.join(parents)}: {wrong} of {asked} told wrongly")
    print(f"  of its parent's detail a child carries at least {least:.2f}, of a sibling's a sibling at most {most:.2f}", flush=True)
    return wrong


def _outcome(found: Search, name: str) -> str:
    if name in [hit.name for hit in found.hits]:
        return "hit"
    if name in [candidate.name for candidate in found.candidates]:
        return "candidate"
    return "missed" if found.searched else "no shape"


def _false(found: Search, mine: set[str]) -> list[str]:
    """A word for everything that is found and has no part in the model."""
    return [f"false {type(item).__name__.lower()}" for item in _all(found) if item.name not in mine]


def _all(found: Search) -> tuple[Hit | Candidate, ...]:
    return (*found.hits, *found.candidates)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bases", type=int, default=6)
    arguments.add_argument("--relatives", action="store_true", help="only siblings and children, on bases that the rule was not chosen on")
    options = arguments.parse_args()
    np.seterr(all="raise", under="ignore")
    llamas = [recipe for recipe in BASES if recipe.family == LLAMA]
    if options.relatives:
        unseen = llamas[CHOSEN : CHOSEN + options.bases]
        return 1 if sum(relatives(unseen, (parent,)) for parent in ("other", "continued", "chain", "lora")) else 0
    entries = entered(INDEPENDENT)
    wrong = strangers(entries)
    alike(same_initialisation())
    derived((*PLAIN, *UNNAMED, *DISGUISED), BASES[: options.bases], entries)
    wrong += relatives(llamas[: min(CHOSEN, options.bases)], ("other",))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
