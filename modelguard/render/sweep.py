"""An organisation's sweep as a table: Markdown, a self-contained page, or the document `modelguard.org-audit/1`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.resources import files

from modelguard.render.html import POLICY, WORDS
from modelguard.render.text import html, markdown
from modelguard.types.findings import Verdict
from modelguard.types.sweep import Sweep, Swept, Totals

SCHEMA = "modelguard.org-audit/1"
HEADER = ("repository", "commit", "verdict", "trend", "sweeps", "models", "found", "open", "rules")
EARLIER = ("sweep of", "inconsistent", "cannot determine", "consistent", "policy")
WORST_FIRST = (Verdict.INCONSISTENT, Verdict.CANNOT_DETERMINE, Verdict.CONSISTENT)
SIGNS = {"": "·", Verdict.CONSISTENT.value: "✓", Verdict.INCONSISTENT.value: "✗", Verdict.CANNOT_DETERMINE.value: "?"}
NOT_AUDITED = "not audited"
SHOWN_SWEEPS = 12


def document(sweep: Sweep) -> dict[str, object]:
    """The sweep for machines, and for the trends of the next one."""
    rows = [asdict(row) | {"history": list(row.history), "before": row.before, "trend": row.trend} for row in sweep.rows]
    return {
        "schema": SCHEMA,
        "summary": _summary(sweep),
        "repositories": rows,
        "left_out": [asdict(item) for item in sweep.left_out],
        "gone": list(sweep.gone),
        "policy": sweep.policy,
        "earlier": [asdict(totals) for totals in sweep.earlier],
        "run": {"at": sweep.at},
    }


def as_markdown(sweep: Sweep) -> str:
    """The sweep as a Markdown table, the worst first, and what the sweeps before came to."""
    lines = [f"### modelguard: {_summary(sweep)}", "", *_tabled(HEADER, [*map(_cells, _sorted(sweep)), *_not_audited(sweep)])]
    lines += ["", *(f"- {markdown(row.repository)}: {markdown(note, 400)}" for row in _sorted(sweep) for note in _remarks(row))]
    lines += [f"- {markdown(name)}: in the sweep before, not in this one" for name in sweep.gone]
    lines += ["", *_tabled(EARLIER, list(map(_totals, _sweeps(sweep))))] if sweep.earlier else []
    return "\n".join(lines).rstrip() + "\n"


def page(sweep: Sweep) -> str:
    """The sweep as one page without script and network."""
    style = files("modelguard.render").joinpath("report.css").read_text(encoding="utf-8")
    head = f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<title>modelguard: sweep</title>'
    table = _table(HEADER, [*map(_cells, _sorted(sweep)), *_not_audited(sweep)])
    remarks = "\n".join(f"<p><code>{html(row.repository)}</code>: {html(note)}</p>" for row in _sorted(sweep) for note in _remarks(row))
    gone = "\n".join(f"<p><code>{html(name)}</code>: in the sweep before, not in this one</p>" for name in sweep.gone)
    before = f"<h2>Sweep by sweep</h2>\n{_table(EARLIER, map(_totals, _sweeps(sweep)))}" if sweep.earlier else ""
    footer = f"<footer><p>modelguard {html(sweep.version)}</p></footer>"
    body = "\n".join(part for part in (f"<h1>modelguard: {_summary(sweep)}</h1>", table, remarks, gone, before, footer) if part)
    styled = f"<head>\n{head}\n<style>\n{style}</style>\n</head>"
    return f'<!doctype html>\n<html lang="en">\n{styled}\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n'


def _tabled(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    written = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}", *written]


def _cell(text: str) -> str:
    """A cell as Markdown; signs of ours need no fence."""
    return text if set(text) <= set(SIGNS.values()) else markdown(text)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    columns = "".join(f'<th scope="col">{name}</th>' for name in header)
    written = "\n".join("<tr>" + "".join(f"<td>{html(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{columns}</tr></thead>\n<tbody>\n{written}\n</tbody>\n</table></div>'


def _summary(sweep: Sweep) -> str:
    counts = ", ".join(f"{sweep.count(verdict)} {WORDS[verdict]}" for verdict in WORST_FIRST)
    left_out = f", {len(sweep.left_out)} {NOT_AUDITED}" if sweep.left_out else ""
    number = len(sweep.rows) + len(sweep.left_out)
    return f"{number} {'repository' if number == 1 else 'repositories'}: {counts}{left_out}"


def _sorted(sweep: Sweep) -> list[Swept]:
    return sorted(sweep.rows, key=lambda row: (WORST_FIRST.index(row.verdict), row.repository))


def _cells(row: Swept) -> tuple[str, ...]:
    rules = ", ".join(dict.fromkeys(rule for model in row.models for rule in model.rules))
    counts = (str(len(row.models)), str(row.found), str(row.undecided))
    return (row.repository, row.commit[:12], WORDS[row.verdict], row.trend, _course(row), *counts, rules)


def _course(row: Swept) -> str:
    """A sign a sweep, this one's last: how the verdict went."""
    return "".join(SIGNS[verdict] for verdict in (*row.history, row.verdict.value)[-SHOWN_SWEEPS:])


def _not_audited(sweep: Sweep) -> Iterator[tuple[str, ...]]:
    blank = ("",) * (len(HEADER) - 4)
    yield from ((item.repository, "", NOT_AUDITED, *blank, item.why) for item in sweep.left_out)


def _sweeps(sweep: Sweep) -> tuple[Totals, ...]:
    """The sweeps before and this one, the newest first."""
    return (*sweep.earlier, sweep.totals)[::-1][:SHOWN_SWEEPS]


def _totals(totals: Totals) -> tuple[str, ...]:
    counts = (totals.inconsistent, totals.open, totals.consistent)
    return (totals.at or "unknown", *map(str, counts), totals.policy.removeprefix("sha256:")[:12])


def _remarks(row: Swept) -> Iterator[str]:
    if row.why:
        yield row.why
    yield from row.notes
