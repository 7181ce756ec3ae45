"""The zoo's page: what was called what, how often that was right, and what the field's statistics make of the same pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.zoo import statistics
from benchmarks.zoo.comparison import field_table
from benchmarks.zoo.outcomes import RELATED, Outcome, called_rightly, coefficient_rightly, kinds_rightly, layers_rightly
from benchmarks.zoo.pairs import Pair
from benchmarks.zoo.statistics import interval
from benchmarks.zoo.training import Recipe, learned
from modelguard.types.weights import Relation

Judged = tuple[Pair, Outcome]


@dataclass(frozen=True)
class Results:
    """All pairs with what came out, in the zoo's order, and T1's fixed points over blocks of independent models."""

    part: str
    judged: tuple[Judged, ...]
    null: NDArray[np.int64]

    def of(self, *groups: str) -> list[Judged]:
        return [item for item in self.judged if item[0].group in groups]

    @cached_property
    def false(self) -> list[Judged]:
        """Independent pairs called related, and pairs of one initialisation called derived: what must not happen."""
        unrelated = [item for item in self.of("unrelated") if item[1].relation in RELATED]
        return unrelated + [item for item in self.of("same initialisation") if item[1].relation in RELATED]

    @cached_property
    def models(self) -> tuple[Recipe, ...]:
        return tuple(dict.fromkeys(recipe for pair, _ in self.of("unrelated") for recipe in pair.models))


def page(results: Results) -> str:
    """The whole page as Markdown. It depends on nothing but the results."""
    parts = (
        "# The zoo\n\nWritten by `python -m benchmarks.zoo`. Do not edit it by hand.",
        _head(results),
        "## What must not happen\n\n" + _false(results),
        "## Relations by truth\n\n" + _relations(results),
        "## Attacks, and whether they were seen\n\n" + _attacks(results),
        "## Kinds by truth\n\n" + _kinds(results),
        "## What the field uses, on the same pairs\n\n" + field_table(results.judged),
        "## The null of T1\n\n" + _null(results),
        "## The models\n\n" + _learning(results),
        "## What went wrong, by name\n\n" + _failures(results),
    )
    return "\n\n".join(parts) + "\n"


def _head(results: Results) -> str:
    families = Counter(recipe.family for recipe in results.models)
    told = ", ".join(f"{count} {family}" for family, count in families.items())
    return (
        f"Part `{results.part}`: {len(results.judged)} pairs. {len(results.models)} models were initialised independently and trained from "
        f"scratch ({told}). Intervals are Wilson's at 95 % over pairs, except where a bootstrap over models is named: pairs share models, "
        "so that intervals over pairs are too narrow."
    )


def _false(results: Results) -> str:
    unrelated, alike = results.of("unrelated"), results.of("same initialisation")
    called = [(pair.models, result.relation in RELATED) for pair, result in unrelated]
    shared = sum(result.relation is Relation.SHARED_INITIALISATION for _, result in unrelated)
    wrong, lines = sum(hit for _, hit in called), []
    low, high = statistics.over_models(called)
    bound, apart = statistics.none_of(len(results.models)), len(results.models) // 2
    lines.append(f"- unrelated pairs called derived, same-weights or identical: {interval(wrong, len(called))}")
    lines.append(f"  - over {len(results.models)} models drawn again (bootstrap over models): {low:.2%} to {high:.2%}")
    if not wrong:
        lines.append(f"  - if only pairs without a common model are counted ({apart}): at most {bound:.1%}")
    lines.append(f"- unrelated pairs called shared-initialisation: {interval(shared, len(called))}")
    related = sum(result.relation in RELATED for _, result in alike)
    lines.append(f"- pairs of one initialisation called derived, same-weights or identical: {interval(related, len(alike))}")
    earned = sum(result.relation is Relation.UNRELATED for _, result in unrelated)
    lines.append(f"- unrelated pairs that reach `unrelated` (power, not error): {interval(earned, len(unrelated))}")
    denied = [item for item in results.of("plain", "disguised", "siblings") if item[1].relation is Relation.UNRELATED]
    lines.append(f"- derivatives called unrelated: {interval(len(denied), len(results.of('plain', 'disguised', 'siblings')))}")
    return "\n".join(lines)


def _grouped(judged: Iterable[Judged]) -> dict[str, list[Judged]]:
    groups: dict[str, list[Judged]] = {}
    for item in judged:
        groups.setdefault(item[0].truth, []).append(item)
    return groups


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def _relations(results: Results) -> str:
    relations = tuple(Relation)
    rows = []
    for truth, items in _grouped(results.judged).items():
        counts = Counter(result.relation for _, result in items)
        basis = Counter(result.basis for _, result in items if result.relation is Relation.DERIVED)
        told = ", ".join(f"{name} {count}" for name, count in sorted(basis.items()))
        rows.append((truth, len(items), *(counts[relation] or "" for relation in relations), told))
    return _table(("truth", "n", *map(str, relations), "basis of derived"), rows)


def _attacks(results: Results) -> str:
    rows = []
    for truth, items in _grouped(results.of("plain", "disguised", "siblings", "blind")).items():
        right = sum(called_rightly(pair, result) for pair, result in items)
        seen = sum(result.relation in RELATED for _, result in items)
        shares = [result.share for _, result in items if result.share is not None]
        row = (truth, interval(seen, len(items)), f"{right} of {len(items)}", f"{min(shares):.3f} to {max(shares):.3f}" if shares else "")
        rows.append(row)
    return _table(("attack", "called related", "answer right", "T4 where it was looked at"), rows)


def _kinds(results: Results) -> str:
    rows, total = [], [0, 0]
    for truth, items in _grouped(results.of("plain")).items():
        judged = [kinds_rightly(pair, result) for pair, result in items]
        told = Counter(" + ".join(result.kinds) or "none" for _, result in items)
        named = "; ".join(f"{name}: {count}" for name, count in sorted(told.items(), key=lambda item: (-item[1], item[0])))
        known = [value for value in judged if value is not None]
        total = [total[0] + sum(known), total[1] + len(known)]
        more = [_share(name, judge, items) for name, judge in (("coefficient", coefficient_rightly), ("layers", layers_rightly))]
        rows.append((truth, f"{sum(known)} of {len(known)}" if known else "not judged", named, " ".join(filter(None, more))))
    return f"Right over all that are judged: {interval(*total)}\n\n" + _table(("truth", "kinds right", "kinds told", "numbers right"), rows)


def _share(name: str, judge: Callable[[Pair, Outcome], bool | None], items: Sequence[Judged]) -> str:
    values = [value for value in (judge(pair, result) for pair, result in items) if value is not None]
    return f"{name}: {sum(values)} of {len(values)}" if values else ""


def _null(results: Results) -> str:
    n = int(results.null.sum())
    rows = [(k, hits, f"{share:.5%}", f"{bound:.5%}") for k, hits, share, bound in statistics.tails(results.null)]
    mean = float(np.arange(len(results.null)) @ results.null / n) if n else 0.0
    told = f"{n} pairs of blocks of independent models (all pairs of layers, windows of 64 units): mean K {mean:.4f}, at most 1 by theory."
    beyond = [k for k, hits, _, bound in statistics.tails(results.null) if statistics.wilson(hits, n)[0] > bound]
    told += f" Shares above their bound beyond chance (Wilson, 95 %): {', '.join(map(str, beyond)) or 'none'}."
    return f"{told}\n\n{_table(('k', 'blocks with K >= k', 'share', 'bound 1/k!'), rows)}\n\n{_every_test(results)}"


def _every_test(results: Results) -> str:
    """K of every block that `compare` looked at in unrelated pairs, by test."""
    counts: dict[str, list[float]] = {}
    for _, result in results.of("unrelated"):
        for method, value in result.statistics:
            counts.setdefault(method, []).append(value)
    rows = []
    for method, values in sorted((method, np.array(values)) for method, values in counts.items() if "fixed-points" in method):
        shares = (f"{(values >= k).mean():.2%}" for k in (3, 5))
        rows.append((f"`{method}`", len(values), f"{values.mean():.2f}", int(values.max()), *shares))
    head = ("test, in the unrelated pairs above", "blocks", "mean K", "largest K", "K >= 3 (at most 16.67 %)", "K >= 5 (at most 0.83 %)")
    return _table(head, rows)


def _learning(results: Results) -> str:
    rows = [(recipe.name, *(f"{loss:.2f}" for loss in learned(recipe))) for recipe in results.models]
    return _table(("model", "loss of the first five steps", "of the last twenty"), rows)


def _failures(results: Results) -> str:
    lines = []
    for pair, result in results.judged:
        wrong = [] if called_rightly(pair, result) else [f"called {result.relation}, {result.direction}"]
        wrong += [f"kinds {' + '.join(result.kinds) or 'none'}"] if kinds_rightly(pair, result) is False else []
        wrong += [f"coefficient {result.coefficient}"] if coefficient_rightly(pair, result) is False else []
        wrong += [f"layers {' '.join(result.carrying) or 'none'}"] if layers_rightly(pair, result) is False else []
        if wrong:
            lines.append(f"- {pair.names[0]} against {pair.names[1]}: {'; '.join(wrong)}")
    return "\n".join(lines) or "Nothing."
