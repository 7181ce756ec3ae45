"""The report as one self-contained page: no script, no network, readable in light and dark, and by ear.

Everything that a stranger wrote passes through `text.html`. The page forbids itself scripts and requests by its own policy header, so
that even a hole in the escaping would load nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files

from modelguard.render import svg
from modelguard.render.text import html
from modelguard.types.findings import Finding, Status, Verdict
from modelguard.types.report import Exhibit, ModelReport, Report
from modelguard.types.weights import Comparison

WORDS = {Verdict.CONSISTENT: "consistent", Verdict.INCONSISTENT: "inconsistent", Verdict.CANNOT_DETERMINE: "cannot determine"}
SIGNS = {Status.OK: "✓ ok", Status.FOUND: "✗ found", Status.UNKNOWN: "? not determined", Status.NOT_APPLICABLE: "– not applicable"}
ORDER = (Status.FOUND, Status.UNKNOWN, Status.OK, Status.NOT_APPLICABLE)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
MAX_ROWS = 400
LIMITS = (
    "A log that passes is internally consistent, which is not the same as authentic. Distillation and backdoors leave nothing that the "
    "tests of weights see."
)


def page(report: Report) -> str:
    """A whole audit."""
    return _page(f"modelguard: {WORDS[report.verdict]}", _report(report))


def log_page(outcome: Iterable[Finding], verdict: Verdict, exhibits: Iterable[Exhibit]) -> str:
    """The training logs alone."""
    return _page(f"modelguard: {WORDS[verdict]}", _log(tuple(outcome), verdict, exhibits))


def compare_page(comparison: Comparison, exhibits: Iterable[Exhibit], findings: Sequence[Finding] = ()) -> str:
    """Two checkpoints alone, and what rules say of the one in question."""
    return _page(f"modelguard: {comparison.relation.value}", _compared(comparison, exhibits, findings))


def _page(title: str, body: Iterable[str]) -> str:
    style = files("modelguard.render").joinpath("report.css").read_text(encoding="utf-8")
    head = f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    head += f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html(title)}</title>\n<style>\n{style}</style>'
    inner = "\n".join(part for part in body if part)
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n<main>\n{inner}\n</main>\n</body>\n</html>\n'


def _report(report: Report) -> Iterator[str]:
    yield f'<h1 class="{report.verdict.value}">modelguard: {WORDS[report.verdict]}</h1>'
    audited = f"Audited <code>{html(report.head[:12])}</code> against <code>{html(report.base[:12])}</code>."
    yield f'<p class="summary">{html(report.headline[:1].upper() + report.headline[1:])}. {audited}</p>'
    yield from (f"<p>{html(note)}</p>" for note in report.notes)
    for model in report.models:
        yield from _model(model)
    yield "<h2>Policy</h2>"
    yield _table(("setting", "value", "origin"), [(item.key, item.value, item.origin) for item in report.settings])
    yield f"<p>Digest of the policy: <code>{html(report.policy_digest)}</code></p>"
    yield f"<footer><p>{LIMITS}</p><p>Repeat it: <code>{html(report.reproduce)}</code></p><p>modelguard {html(report.version)}</p></footer>"


def _model(model: ModelReport) -> Iterator[str]:
    yield f"<section>\n<h2><code>{html(model.subject)}</code></h2>"
    declared = ", ".join(f"<code>{html(name)}</code>" for name in model.declared) or "no base"
    yield f"<p>{html(model.kind)}, declared: {declared}</p>"
    yield from map(svg.picture, model.exhibits)
    yield _findings(model.findings)
    if model.weights is not None:
        yield "<h3>Against the declared base</h3>"
        yield from _weights(model.weights)
    yield "</section>"


def _log(outcome: tuple[Finding, ...], verdict: Verdict, exhibits: Iterable[Exhibit]) -> Iterator[str]:
    yield f'<h1 class="{verdict.value}">modelguard: {WORDS[verdict]}</h1>'
    yield from map(svg.picture, exhibits)
    yield _findings(outcome)
    yield f"<footer><p>{LIMITS}</p></footer>"


def _compared(comparison: Comparison, exhibits: Iterable[Exhibit], findings: Sequence[Finding]) -> Iterator[str]:
    yield f"<h1>modelguard: {html(comparison.relation.value)}</h1>"
    sides = (("left", comparison.left), ("right", comparison.right))
    yield _table(("side", "checkpoint", "parameters"), [(name, side.ref, f"{side.parameters:,}") for name, side in sides])
    yield from map(svg.picture, exhibits)
    if findings:
        yield _findings(findings)
    yield from _weights(comparison)
    yield f"<footer><p>{LIMITS}</p></footer>"


def _findings(findings: Iterable[Finding]) -> str:
    rows = []
    for finding in sorted(findings, key=lambda finding: (ORDER.index(finding.status), -finding.claim.severity, finding.rule)):
        claim = finding.claim
        levels = f"{claim.severity.word} / {claim.confidence.word}" if finding.status is Status.FOUND else ""
        numbers = ", ".join(f"{name} {_number(value)}" for name, value in claim.numbers.items())
        rest = (f"Numbers: {numbers}." if numbers else "", f"Settled by: {claim.settle}." if claim.settle else "")
        waived = (f"Waived: {finding.waived}." if finding.waived else "",)
        rows.append((finding.rule, SIGNS[finding.status], levels, " ".join(part for part in (f"{claim.text}.", *rest, *waived) if part)))
    return _table(("rule", "answer", "severity / confidence", "evidence"), rows)


def _weights(weights: Comparison) -> Iterator[str]:
    kinds = f" ({', '.join(weights.kinds)})" if weights.kinds else ""
    share = f"{weights.share_explained:.1%} of parameters explained"
    yield f"<p>Relation: <strong>{html(weights.relation.value + kinds)}</strong>, basis {html(weights.basis.value)}, {share}.</p>"
    yield _table(("kind", "what shows it"), [(item.kind, item.text) for item in weights.details])
    tests = [
        (test.method, test.block, test.told, f"{test.log10_p:.1f}", f"{test.log10_p_adjusted:.1f}", test.null) for test in weights.evidence
    ]
    yield _table(("test", "block", "statistic", "log10 p", "corrected", "null"), tests)
    yield _table(("could have been seen", "", "how"), [(p.transformation, "yes" if p.detectable else "no", p.how) for p in weights.power])
    yield _table(("open", "why"), [(item.what, item.why) for item in weights.unknown])
    if weights.difference is not None:
        changed = weights.difference.largest
        rows = [(item.name, f"{item.relative:.3g}", f"{item.cosine:.4f}", f"{item.equal / max(1, item.entries):.1%}") for item in changed]
        yield _table(("tensor that changed most", "relative change", "cosine", "bit-equal entries"), rows)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table; "" without rows. What does not fit is counted."""
    listed = list(rows)
    if not listed:
        return ""
    head = "".join(f'<th scope="col">{html(name)}</th>' for name in header)
    body = "\n".join("<tr>" + "".join(f"<td>{html(cell)}</td>" for cell in row) + "</tr>" for row in listed[:MAX_ROWS])
    more = f"\n<p>and {len(listed) - MAX_ROWS} more rows</p>" if len(listed) > MAX_ROWS else ""
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>{more}'


def _number(value: float | int | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
