"""The table of the field's statistics: their range over unrelated pairs, and what a threshold without false positives sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.zoo.field import COLUMNS
from benchmarks.zoo.outcomes import RELATED, Outcome
from benchmarks.zoo.pairs import Pair

Judged = Sequence[tuple[Pair, Outcome]]


def field_table(judged: Judged) -> str:
    """A row for each truth: of every column the range, and the share above the largest value of any unrelated pair of that architecture."""
    strangers = [item for item in judged if item[0].group == "unrelated"]
    groups: dict[str, list[tuple[Pair, Outcome]]] = {}
    for item in judged:
        groups.setdefault("unrelated, all" if item[0].group == "unrelated" else item[0].truth, []).append(item)
    lines = ["| truth | ours | " + " | ".join(COLUMNS) + " |", "|---|---|" + "---|" * len(COLUMNS)]
    for truth, items in groups.items():
        ours = f"{sum(result.relation in RELATED for _, result in items) / len(items):.0%}"
        cells = " | ".join(_cell(items, name, _limits(strangers, name)) for name in COLUMNS)
        lines.append(f"| {truth} | {ours} | {cells} |")
    told = (
        "The range over the pairs and, in front of it, the share of pairs above the largest value that any unrelated pair of the same "
        "architecture has: the detection rate at a threshold, set on these very pairs, without a false positive. Ours: share called "
        "derived, same-weights or identical. Empty: not defined for such pairs.\n\n"
    )
    return told + "\n".join(lines)


def _limits(strangers: Judged, name: str) -> dict[str, float]:
    limits: dict[str, float] = {}
    for pair, result in strangers:
        value = result.columns[name]
        if value is not None:
            limits[pair.family] = max(value, limits.get(pair.family, value))
    return limits


def _cell(items: Judged, name: str, limits: Mapping[str, float]) -> str:
    known = [(pair, value) for pair, result in items if (value := result.columns[name]) is not None]
    if not known:
        return ""
    values = [value for _, value in known]
    seen = f"{sum(value > limits.get(pair.family, 1.0) for pair, value in known) / len(known):.0%}: "
    return f"{'' if items[0][0].group == 'unrelated' else seen}{min(values):.3f} to {max(values):.3f}"
