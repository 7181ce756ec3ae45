"""The comment: the verdict first, one line when all is well, the evidence folded below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from modelguard.render import spark
from modelguard.render.text import markdown as code
from modelguard.render.text import mermaid, prose
from modelguard.types.findings import Finding, Status, Verdict
from modelguard.types.report import Band, Exhibit, Lineage, Matrix, ModelReport, Report, Strip, Timeline
from modelguard.types.weights import Comparison, NullTest, Relation

SIGNS = {Verdict.CONSISTENT: "✅", Verdict.INCONSISTENT: "❌", Verdict.CANNOT_DETERMINE: "❔"}
WORDS = {Verdict.CONSISTENT: "consistent", Verdict.INCONSISTENT: "inconsistent", Verdict.CANNOT_DETERMINE: "cannot determine"}
MARKS = {Status.OK: "✅ ok", Status.FOUND: "❌ found", Status.UNKNOWN: "❔ not determined", Status.NOT_APPLICABLE: "– not applicable"}
SHOWN_RELATIONS = (Relation.IDENTICAL, Relation.SAME_WEIGHTS, Relation.DERIVED)  # what was shown needs no statement of power
TEST_HEADER = "| test | blocks | at their own place | by chance | p of the strongest block | p of the weakest |"
DECISIVE = ("weights-base-mismatch", "log-gap")  # the rules whose own words make the sentence of a clean report
ARROWS = {"ok": "-->", "found": "-.-x", "unknown": "-.->"}
ROW_LIMITS = (400, 100, 40, 12, 4, 1)
LIMITS = (
    "A log that passes is internally consistent, which is not the same as authentic. Distillation, backdoors, and models trained "
    "from the same initialisation as the declared base leave nothing that these checks see."
)


def comment(report: Report, *, limit: int = 65_536) -> str:
    """The comment's body. Rows are dropped, and counted, until it fits the limit; the verdict never is."""
    for rows in ROW_LIMITS:
        body = "\n".join(_comment(report, rows)) + "\n"
        if len(body) <= limit:
            return body
    return f"{_title(report)}\n\nThe report is too long for a comment; it is in the job's artefacts.\n"


def collapsed(report: Report) -> str:
    """What is left of a comment when the pull request does not touch models any more: one line, and whatever else is noted."""
    first, *rest = report.notes or (report.headline,)
    line = f"{SIGNS[report.verdict]} modelguard: {prose(first)} as of {code(report.head[:12])}."
    return "\n".join((line, *(f"\n> {prose(note)}" for note in rest[: ROW_LIMITS[2]]))) + "\n"


def thread(findings: Sequence[Finding]) -> str:
    """What a review thread says: findings of one rule on one subject."""
    told = [line for finding in findings[: ROW_LIMITS[3]] for line in told_of(finding)]
    more = _left_out(len(findings), ROW_LIMITS[3], "findings")
    return "\n".join((f"❌ modelguard on {code(findings[0].subject)}:\n", *told, *more)) + "\n"


def _comment(report: Report, rows: int) -> Iterator[str]:
    yield _title(report)
    yield ""
    yield f"{_summary(report)} Audited {code(report.head[:12])} against {code(report.base[:12])}."
    for note in report.notes[:rows]:
        yield f"\n> {prose(note)}"
    for model in report.models[:rows]:
        yield from _model(model, len(report.models) > 1, rows)
    yield from _left_out(len(report.models), rows, "models")
    if report.models:
        yield from _footer(report)


def _title(report: Report) -> str:
    return f"### {SIGNS[report.verdict]} modelguard: {WORDS[report.verdict]}"


def _summary(report: Report) -> str:
    """One sentence: with one model, what the decisive rules say of it in their own words."""
    if report.verdict is Verdict.CONSISTENT and len(report.models) == 1:
        passed = {finding.rule: finding.claim.text for finding in report.models[0].findings if finding.status is Status.OK}
        told = [passed[rule] for rule in DECISIVE if rule in passed]
        if told:
            return prose(". ".join(text[:1].upper() + text[1:] for text in told) + ".")
    return f"{prose(report.headline[:1].upper() + report.headline[1:])}."


def _model(model: ModelReport, several: bool, rows: int) -> Iterator[str]:
    found = [finding for finding in model.findings if finding.status is Status.FOUND]
    open_ = [finding for finding in model.findings if finding.status is Status.UNKNOWN]
    yield ""
    if several or found:
        yield f"#### {code(model.subject)}\n"
    for finding in sorted(found, key=lambda finding: -finding.claim.severity)[:rows]:
        yield from told_of(finding)
    yield from _left_out(len(found), rows, "findings")
    yield from _pictures(model, rows)
    yield from open_lines(open_, rows)
    yield from _details(model, rows)


def told_of(finding: Finding) -> Iterator[str]:
    """A finding with its levels, and what would settle it."""
    claim = finding.claim
    levels = f"severity {claim.severity.word}, confidence {claim.confidence.word}"
    waived = f" Waived: {prose(finding.waived)}." if finding.waived else ""
    yield f"- **{finding.rule}** ({levels}): {prose(claim.text)}.{waived}"
    if claim.settle:
        yield f"  What would settle it: {prose(claim.settle)}."


def _pictures(model: ModelReport, rows: int) -> Iterator[str]:
    drawn = [line for picture in model.exhibits[:rows] for line in picture_lines(picture)]
    if drawn:
        yield ""
        yield from drawn


def picture_lines(picture: Exhibit) -> Iterator[str]:
    """One line of characters; a graph and a heat map are folded away with the details."""
    if isinstance(picture, Strip):
        yield from _strip(picture)
    elif isinstance(picture, Timeline) and picture.points:
        yield from _timeline(picture)
    elif isinstance(picture, Band) and (line := spark.band(picture)):
        yield f"- `{line}` {prose(picture.title)}: {prose(picture.caption)}"


def folded_lines(picture: Exhibit) -> Iterator[str]:
    """The pictures that take more than a line: the graph of descent as GitHub draws it, a heat map in blocks of characters."""
    if isinstance(picture, Lineage) and picture.edges:
        yield f"\n{prose(picture.title)}:\n\n```mermaid\nflowchart LR"
        names = list(dict.fromkeys(name for edge in picture.edges for name in (edge.child, edge.parent)))
        yield from (f"  n{place}[{mermaid(name)}]" for place, name in enumerate(names))
        for edge in picture.edges:
            arrow = ARROWS[edge.tone]
            yield f"  n{names.index(edge.parent)} {arrow}|{mermaid(edge.label)}| n{names.index(edge.child)}"
        yield "```"
    elif isinstance(picture, Matrix) and picture.values:
        yield f"\n{prose(picture.title)} ({prose(picture.caption)}):\n\n```"
        yield from spark.matrix(picture)
        yield "```"


def _strip(picture: Strip) -> Iterator[str]:
    known = [value for value in picture.values if value is not None]
    lowest = f"lowest {min(known):.2f}" if known else "nothing measured"
    yield f"- `{spark.strip(picture)}` {picture.title}: {len(picture.values)} layers, {lowest} ({picture.caption})"


def _timeline(picture: Timeline) -> Iterator[str]:
    gaps = ", ".join(f"{start} and {end}" for start, end in picture.gaps[:4])
    shaded = f"; {spark.GAP} nothing between steps {gaps}" if gaps else ""
    first, last = picture.points[0][0], picture.points[-1][0]
    yield f"- `{spark.timeline(picture)}` {prose(picture.metric or 'metric')} of {code(picture.title)}, steps {first} to {last}{shaded}"


def open_lines(findings: Sequence[Finding], rows: int) -> Iterator[str]:
    """What is open, grouped by its reason: one missing base silences several rules and is said once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        reasons.setdefault((finding.claim.why, finding.claim.settle), []).append(finding.rule)
    if reasons:
        yield "\n**Not determined**\n"
    for (why, settle), rules in list(reasons.items())[:rows]:
        advice = f" To settle it: {prose(settle)}." if settle else ""
        yield f"- {prose(why)} ({', '.join(dict.fromkeys(rules))}).{advice}"
    yield from _left_out(len(reasons), rows, "reasons")


def _details(model: ModelReport, rows: int) -> Iterator[str]:
    yield "\n<details><summary>What ran, with numbers</summary>\n"
    declared = ", ".join(map(code, model.declared)) or "no base"
    resolved = f", resolved: {code(model.resolved_base, 120)}" if model.resolved_base else ""
    yield f"{code(model.subject)} ({model.kind}), declared: {declared}{resolved}"
    yield "\n| rule | answer | evidence |\n|---|---|---|"
    answers = answers_of(model.findings)
    for (status, cell), rules in answers[: rows * 4]:
        yield f"| {', '.join(rules)} | {MARKS[status]} | {cell} |"
    yield from _left_out(len(answers), rows * 4, "rows")
    for picture in model.exhibits[:rows]:
        yield from folded_lines(picture)
    if model.weights is not None:
        yield from weights_lines(model.weights, rows)
    if model.previous is not None and model.previous.difference is not None:
        difference = model.previous.difference
        yield f"\nAgainst the version before this change: {difference.changed} of {difference.tensors} tensors differ."
    yield "\n</details>"


def answers_of(findings: Sequence[Finding]) -> list[tuple[tuple[Status, str], list[str]]]:
    """What the rules answer; rules that say the same share a row."""
    answers: dict[tuple[Status, str], list[str]] = {}
    for finding in findings:
        rules = answers.setdefault((finding.status, _cell(finding)), [])
        if finding.rule not in rules:
            rules.append(finding.rule)
    return list(answers.items())


def _cell(finding: Finding) -> str:
    numbers = ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in finding.claim.numbers.items() if ":" not in name)
    return f"{prose(finding.claim.text)}{f' ({prose(numbers)})' if numbers else ''}"


def weights_lines(weights: Comparison, rows: int) -> Iterator[str]:
    """The tests with their p-values, then the positive controls that show what they could have seen."""
    if weights.evidence:
        yield f"\nExact tests:\n\n{TEST_HEADER}\n{'|---' * 6}|"
        for method in dict.fromkeys(test.method for test in weights.evidence):
            yield _test_row([test for test in weights.evidence if test.method == method])
        yield f"\np-values are upper bounds, corrected over all tests and blocks (Holm). {_nulls(weights.evidence)}"
    if weights.relation not in SHOWN_RELATIONS:
        yield "\nWhat the tests could have seen:\n\n| could the tests have seen | | how |\n|---|---|---|"
        for power in weights.power:
            yield f"| {prose(power.transformation)} | {'yes' if power.detectable else 'no'} | {prose(power.how)} |"
    if weights.difference is not None:
        difference = weights.difference
        counts = f"{difference.identical} identical, {difference.explained} re-encoded, {difference.changed} changed"
        share = f"{difference.parameters_equal / max(1, difference.parameters):.1%} of parameters bit-equal"
        read = f"{weights.cost.bytes_read:,} bytes read"
        yield f"\nExact difference from the base: of {difference.tensors} tensors {counts}; {share}; {read}."
        yield from _changed(weights, rows)


def _test_row(tests: Sequence[NullTest]) -> str:
    if tests[0].share:
        told = max(tests, key=lambda test: test.statistic)
        p = _power_of_ten(told.log10_p) if told.log10_p < 0 else "–"
        return f"| {told.method} | {told.n} controls or matrices | {told.told} | | {p} | |"
    fixed, tested = sum(int(test.statistic) for test in tests), sum(test.n for test in tests)
    values = sorted(test.log10_p_adjusted for test in tests)
    extremes = f"{_power_of_ten(values[0])} | {_power_of_ten(values[-1])}"
    return f"| {tests[0].method} | {len(tests)} | {fixed} of {tested} | {len(tests)} | {extremes} |"


def _nulls(tests: Sequence[NullTest]) -> str:
    methods: dict[str, list[str]] = {}
    for test in tests:
        methods.setdefault(test.null, []).append(test.method.split("-")[0].upper())
    return " ".join(f"Null of {' and '.join(dict.fromkeys(names))}: {prose(null)}." for null, names in methods.items())


def _changed(weights: Comparison, rows: int) -> Iterator[str]:
    assert weights.difference is not None
    largest = weights.difference.largest
    if largest:
        yield "\n| most changed tensors | entries changed | relative change (L2) | largest change |\n|---|---|---|---|"
    for item in largest[: min(rows, 8)]:
        yield f"| {code(item.name)} | {1 - item.equal / max(1, item.entries):.1%} | {item.relative:.3g} | {item.max_abs:.3g} |"


def _footer(report: Report) -> Iterator[str]:
    yield "\n<details><summary>Policy, limits, and how to repeat this</summary>\n"
    changed = [setting for setting in report.settings if setting.origin != "built-in default"]
    effective = "; ".join(f"{prose(setting.key)} = {code(setting.value)} ({prose(setting.origin)})" for setting in changed)
    yield f"Policy {code(report.policy_digest[:19])}: {effective or 'built-in defaults throughout'}.\n"
    yield f"{LIMITS}\n"
    yield f"Repeat it in a clone: {code(report.reproduce, 400)} (modelguard {report.version})"
    yield "\n</details>"


def _left_out(count: int, rows: int, what: str) -> Iterable[str]:
    return (f"\n({count - rows} more {what} are in the full report)\n",) if count > rows else ()


def _number(value: float | int | str) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def _power_of_ten(log10_p: float) -> str:
    return "1" if log10_p >= 0 else f"10<sup>{log10_p:.0f}</sup>" if log10_p < -2 else f"{10**log10_p:.2g}"
