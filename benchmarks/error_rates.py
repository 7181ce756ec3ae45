"""Error rates of the weight tests, as the Markdown that docs/weight-tests.md quotes: `python -m benchmarks.error_rates [--size 0.3]`.

Models are trained for real (tests/zoo), so a full run takes four to five minutes on one core. Nothing is written.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from math import lgamma, log, sqrt

from modelguard.types.weights import Relation
from tests.zoo import pairs
from tests.zoo.pairs import Outcome

Z = 1.959964  # two-sided 95 %
RELATED = (Relation.IDENTICAL, Relation.SAME_WEIGHTS, Relation.DERIVED, Relation.SHARED_INITIALISATION)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of Wilson for a share of `hits` out of `n`."""
    if n == 0:
        return 0.0, 1.0
    share, weight = hits / n, Z * Z / n
    centre, half = (share + weight / 2) / (1 + weight), Z * sqrt(share * (1 - share) / n + weight / n / 4) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def interval(hits: int, n: int) -> str:
    low, high = wilson(hits, n)
    return f"{hits} of {n} ({low:.1%} to {high:.1%})"


def table(outcomes: Sequence[Outcome], by: str) -> str:
    """Counts of every relation, a row for each kind or family."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(getattr(outcome, by), []).append(outcome)
    lines = ["| pairs | n | derived | same weights | unrelated | inconclusive |", "|---|---|---|---|---|---|"]
    for name, items in groups.items():
        counts = Counter(item.result.relation for item in items)
        same = counts[Relation.SAME_WEIGHTS] + counts[Relation.IDENTICAL]
        numbers = (len(items), counts[Relation.DERIVED], same, counts[Relation.UNRELATED], counts[Relation.INCONCLUSIVE])
        lines.append(f"| {name} | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(lines)


def nulls(outcomes: Sequence[Outcome]) -> str:
    """K over the blocks of independent pairs, beside its bound: mean at most 1, P(K >= 5) at most 1/5!."""
    lines = [
        "| test | blocks | mean K | largest K | P(K >= 3), bound 16.7 % | P(K >= 5), bound 0.83 % | log10 of the bound at the largest K |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for method, counts in pairs.statistics(outcomes).items():
        largest = int(counts.max())
        shares = " | ".join(f"{(counts >= k).mean():.2%}" for k in (3, 5))
        tail = -lgamma(largest + 1) / log(10)
        lines.append(f"| `{method}` | {len(counts)} | {counts.mean():.2f} | {largest} | {shares} | {tail:.1f} |")
    return "\n".join(lines)


def veto(outcomes: Iterable[Outcome]) -> str:
    """The values of T4 that were looked at, as their range."""
    shares = [item.share for item in outcomes if item.share is not None]
    return f"{min(shares):.1%} to {max(shares):.1%} ({len(shares)} pairs)" if shares else "not looked at"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=1.0, help="share of the models (default: all)")
    options = parser.parse_args()
    started = time.perf_counter()
    bases = pairs.BASES if options.size >= 1 else pairs.BASES[: max(2, round(len(pairs.BASES) * options.size))]
    independent = [*pairs.independents((*bases, *pairs.OTHERS) if options.size >= 1 else bases)]
    strangers = [*pairs.maltreated(bases)]
    derived = [*pairs.derivatives(bases), *(pairs.others_derived() if options.size >= 1 else ())]
    special = [*pairs.siblings(), *pairs.wider()] if options.size >= 1 else []
    false = [item for item in (*independent, *strangers) if item.result.relation in RELATED]
    denied = [item for item in derived if item.result.relation is Relation.UNRELATED]
    told = [item for item in independent if item.result.relation is Relation.UNRELATED]
    print(f"Models trained: {len(bases) + len(pairs.OTHERS if options.size >= 1 else ())}, ordered pairs compared: ", end="")
    print(len(independent) + len(strangers) + len(derived) + len(special))
    print(f"\n- independent pairs called related: {interval(len(false), len(independent) + len(strangers))}")
    print(f"- derivatives called unrelated: {interval(len(denied), len(derived))}")
    print(f"- independent pairs that reach `unrelated` (power): {interval(len(told), len(independent))}")
    print(f"- T4 where it was looked at: independent {veto((*independent, *strangers))}; derivatives {veto(derived)}")
    print("\n### Derivatives, against the model they were made from\n\n" + table(derived, "kind"))
    print("\n### Independent models\n\n" + table((*independent, *strangers), "kind"))
    print("\n" + table(independent, "family"))
    print("\n### Neither\n\n" + table(special, "kind") if special else "")
    print("\n### The null, over every block of independent pairs\n\n" + nulls((*independent, *strangers)))
    print(f"\n{time.perf_counter() - started:.0f} seconds", file=sys.stderr)
    for item in (*false, *denied):
        print(f"wrong: {item.names}: {item.result.relation}", file=sys.stderr)
    return 1 if false or denied else 0


if __name__ == "__main__":
    sys.exit(main())
