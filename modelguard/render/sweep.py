"""An organisation's sweep as a table: Markdown, a self-contained page, or the document `modelguard.org-audit/1`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from importlib.resources import files

from modelguard.render.html import POLICY, WORDS
from modelguard.render.text import html, markdown
from modelguard.types.findings import Verdict
from modelguard.types.sweep import Sweep, Swept

SCHEMA = "modelguard.org-audit/1"
HEADER = ("repository", "commit", "verdict", "trend", "models", "found", "open", "rules")
WORST_FIRST = (Verdict.INCONSISTENT, Verdict.CANNOT_DETERMINE, Verdict.CONSISTENT)


def document(sweep: Sweep) -> dict[str, object]:
    """The sweep for machines, and for the trends of the next one."""
    rows = [asdict(row) | {"trend": row.trend} for row in sweep.rows]
    return {"schema": SCHEMA, "summary": _summary(sweep), "repositories": rows, "gone": list(sweep.gone), "policy": sweep.policy}


def as_markdown(sweep: Sweep) -> str:
    """The sweep as a Markdown table, the worst first."""
    lines = [f"### modelguard: {_summary(sweep)}", "", f"| {' | '.join(HEADER)} |", f"|{' --- |' * len(HEADER)}"]
    lines += [f"| {' | '.join(markdown(cell) if cell else '' for cell in _cells(row))} |" for row in _sorted(sweep)]
    lines += ["", *(f"- {markdown(row.repository)}: {markdown(note, 400)}" for row in _sorted(sweep) for note in _remarks(row))]
    return "\n".join([*lines, *(f"- {markdown(name)}: in the sweep before, not in this one" for name in sweep.gone)]).rstrip() + "\n"


def page(sweep: Sweep) -> str:
    """The sweep as one page without script and network."""
    style = files("modelguard.render").joinpath("report.css").read_text(encoding="utf-8")
    head = f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<title>modelguard: sweep</title>'
    columns = "".join(f'<th scope="col">{name}</th>' for name in HEADER)
    rows = "\n".join("<tr>" + "".join(f"<td>{html(cell)}</td>" for cell in _cells(row)) + "</tr>" for row in _sorted(sweep))
    remarks = "\n".join(f"<p><code>{html(row.repository)}</code>: {html(note)}</p>" for row in _sorted(sweep) for note in _remarks(row))
    gone = "\n".join(f"<p><code>{html(name)}</code>: in the sweep before, not in this one</p>" for name in sweep.gone)
    table = f'<div class="wide"><table>\n<thead><tr>{columns}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'
    body = f"<h1>modelguard: {_summary(sweep)}</h1>\n{table}\n{remarks}\n{gone}\n<footer><p>modelguard {html(sweep.version)}</p></footer>"
    styled = f"<head>\n{head}\n<style>\n{style}</style>\n</head>"
    return f'<!doctype html>\n<html lang="en">\n{styled}\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n'


def _summary(sweep: Sweep) -> str:
    counts = ", ".join(f"{sweep.count(verdict)} {WORDS[verdict]}" for verdict in WORST_FIRST)
    return f"{len(sweep.rows)} {'repository' if len(sweep.rows) == 1 else 'repositories'}: {counts}"


def _sorted(sweep: Sweep) -> list[Swept]:
    return sorted(sweep.rows, key=lambda row: (WORST_FIRST.index(row.verdict), row.repository))


def _cells(row: Swept) -> tuple[str, ...]:
    rules = ", ".join(dict.fromkeys(rule for model in row.models for rule in model.rules))
    counts = (str(len(row.models)), str(row.found), str(row.undecided))
    return (row.repository, row.commit[:12], WORDS[row.verdict], row.trend, *counts, rules)


def _remarks(row: Swept) -> Iterator[str]:
    if row.why:
        yield row.why
    yield from row.notes
