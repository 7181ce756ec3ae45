"""The report in a terminal: quiet when all is well, every stranger's word made visible first."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelguard.render import spark
from modelguard.render.text import terminal as plain
from modelguard.types.findings import Finding, Status, Verdict
from modelguard.types.report import Band, Exhibit, Lineage, Matrix, ModelReport, Report, Strip, Timeline
from modelguard.types.weights import Comparison

SIGNS = {Verdict.CONSISTENT: ("✓", "green"), Verdict.INCONSISTENT: ("✗", "red"), Verdict.CANNOT_DETERMINE: ("?", "yellow")}
MARKS = {Status.OK: ("✓", "green"), Status.FOUND: ("✗", "red"), Status.UNKNOWN: ("?", "yellow"), Status.NOT_APPLICABLE: ("-", "dim")}
RELATION_COLOURS = {"identical": "green", "same-weights": "green", "derived": "green", "unrelated": "red"}


def report(report: Report, *, width: int = 100, colour: bool = False) -> str:
    """An audit's verdict, what was found, what is open, and the pictures."""
    console, out = _console(width, colour)
    console.print(_verdict(report.verdict, report.headline))
    for note in report.notes:
        console.print(Text(f"  {plain(note)}", "dim"))
    for model in report.models:
        console.print()
        console.print(Text(plain(model.subject), "bold"), Text(f"({model.kind})", "dim"))
        _exhibits(console, model.exhibits)
        console.print(_findings(model.findings))
        _tests(console, model)
    if report.models:
        console.print(Text(f"\nrepeat: {report.reproduce}", "dim"), soft_wrap=True)
    return out.getvalue()


def log(
    outcome: Sequence[Finding],
    verdict: Verdict,
    exhibits: Iterable[Exhibit],
    *,
    what: str = "the training log",
    width: int = 100,
    colour: bool = False,
) -> str:
    """What the logs' rules say, under the runs' pictures."""
    console, out = _console(width, colour)
    worst = [finding.rule for finding in outcome if finding.status is Status.FOUND]
    console.print(_verdict(verdict, ", ".join(dict.fromkeys(worst)) or what))
    _exhibits(console, exhibits)
    console.print(_findings(outcome))
    return out.getvalue()


def comparison(
    comparison: Comparison, exhibits: Iterable[Exhibit] = (), findings: Sequence[Finding] = (), *, width: int = 100, colour: bool = False
) -> str:
    """How two checkpoints stand to one another, and what rules say of the one in question; `exhibits` are pictures beside the weights'."""
    console, out = _console(width, colour)
    kinds = f" ({', '.join(comparison.kinds)})" if comparison.kinds else ""
    style = RELATION_COLOURS.get(comparison.relation.value, "yellow")
    console.print(Text(f"{comparison.relation.value}{kinds}", f"bold {style}"), Text(f"basis: {comparison.basis.value}", "dim"))
    console.print(f"left   {plain(comparison.left.ref)}\nright  {plain(comparison.right.ref)}", soft_wrap=True)
    for item in comparison.unknown:
        console.print(Text(f"? {plain(item.what)}: {plain(item.why)}", "yellow"))
    if comparison.layers:
        values = tuple(layer.score for layer in comparison.layers)
        labels = tuple(layer.name for layer in comparison.layers)
        caption = f"{comparison.share_explained:.1%} of parameters explained, p at most 10^{comparison.log10_p:.1f}"
        _exhibits(console, [Strip(title="layers", labels=labels, values=values, caption=caption)])
    _exhibits(console, exhibits)
    if comparison.evidence:
        console.print(_test_table(comparison))
    if comparison.difference:
        difference = comparison.difference
        console.print(f"{difference.identical} tensors identical, {difference.explained} re-encoded, {difference.changed} changed")
    for power in comparison.power:
        sign, colour_name = ("✓", "green") if power.detectable else ("-", "dim")
        console.print(Text(f"{sign} {power.transformation}: {power.how}", colour_name))
    if findings:
        console.print(_findings(findings))
    return out.getvalue()


def _console(width: int, colour: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, force_terminal=colour, no_color=not colour, highlight=False, markup=False, emoji=False), out


def _verdict(verdict: Verdict, headline: str) -> Text:
    sign, style = SIGNS[verdict]
    return Text.assemble((f"{sign} {verdict.value}", f"bold {style}"), f"  {plain(headline)}")


def _findings(findings: Iterable[Finding]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for (status, told), rules in _grouped(findings):
        sign, style = MARKS[status]
        table.add_row(Text(sign, style), Text("\n".join(dict.fromkeys(rules)), style), Text(told))
    return table


def _grouped(findings: Iterable[Finding]) -> Iterable[tuple[tuple[Status, str], list[str]]]:
    """What is said, with the rules that say it: one missing log silences several."""
    groups: dict[tuple[Status, str], list[str]] = {}
    for finding in findings:
        level = f" [{finding.claim.severity.word}]" if finding.status is Status.FOUND else ""
        settle = f"\n→ {plain(finding.claim.settle)}" if finding.claim.settle and finding.status is not Status.OK else ""
        groups.setdefault((finding.status, plain(finding.claim.text) + settle), []).append(finding.rule + level)
    return groups.items()


def _exhibits(console: Console, exhibits: Iterable[Exhibit]) -> None:
    for picture in exhibits:
        if isinstance(picture, Lineage | Matrix):
            lines = spark.lineage(picture) if isinstance(picture, Lineage) else spark.matrix(picture)
            if isinstance(picture, Matrix):
                console.print(Text(f"{plain(picture.title)}: {plain(picture.caption)}"))
            console.print(Text("\n".join(map(plain, lines)), "cyan"))
        elif line := _line(picture):
            console.print(Text.assemble((line, "cyan"), f"  {plain(picture.title)}: {plain(picture.caption)}"))


def _line(picture: Strip | Timeline | Band) -> str:
    """A picture that fits one line; "" where there is nothing to draw."""
    if isinstance(picture, Band):
        return spark.band(picture)
    return spark.strip(picture) if isinstance(picture, Strip) else spark.timeline(picture)


def _tests(console: Console, model: ModelReport) -> None:
    """The tests are shown where they decide against somebody; otherwise the numbers beside the rule are enough."""
    if model.weights and model.weights.relation.value in ("unrelated", "inconclusive") and model.weights.evidence:
        console.print(_test_table(model.weights))
        for power in model.weights.power:
            console.print(Text(f"  {'could see' if power.detectable else 'blind to'} {power.transformation}: {power.how}", "dim"))


def _test_table(comparison: Comparison) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for column in ("exact test", "block", "at place", "log10 p", "corrected"):
        table.add_column(column)
    for test in comparison.evidence[:24]:
        table.add_row(test.method, plain(test.block), test.told, f"{test.log10_p:.1f}", f"{test.log10_p_adjusted:.1f}")
    return table
