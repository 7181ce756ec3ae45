"""What one command found, as Markdown: the parts of the comment, without a pull request around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from modelguard.render.markdown import (
    LIMITS,
    MARKS,
    SHOWN_RELATIONS,
    SIGNS,
    WORDS,
    answers_of,
    folded_lines,
    open_lines,
    picture_lines,
    told_of,
    weights_lines,
)
from modelguard.render.text import markdown as code
from modelguard.render.text import prose
from modelguard.types.findings import Finding, Status, Verdict
from modelguard.types.report import Exhibit
from modelguard.types.weights import Comparison

ROWS = 400


def comparison(compared: Comparison, exhibits: Sequence[Exhibit], findings: Sequence[Finding] = ()) -> str:
    """Two checkpoints alone, and what rules say of the one in question."""
    return _joined(_compared(compared, exhibits, findings))


def findings(outcome: Sequence[Finding], verdict: Verdict, exhibits: Sequence[Exhibit], *, what: str) -> str:
    """What the rules say of training or evaluation logs alone."""
    return _joined(_judged(outcome, verdict, exhibits, what))


def _compared(compared: Comparison, exhibits: Sequence[Exhibit], outcome: Sequence[Finding]) -> Iterator[str]:
    kinds = f" ({', '.join(compared.kinds)})" if compared.kinds else ""
    yield f"### modelguard: {prose(compared.relation.value + kinds)}\n"
    yield "| side | checkpoint | parameters |\n|---|---|---|"
    for name, side in (("left", compared.left), ("right", compared.right)):
        yield f"| {name} | {code(side.ref, 200)} | {side.parameters:,} |"
    yield f"\nBasis: {compared.basis.value}, {compared.share_explained:.1%} of parameters explained.\n"
    yield from _drawn(exhibits)
    if outcome:
        yield from _answers(outcome)
    for detail in compared.details:
        yield f"- {prose(detail.kind)}: {prose(detail.text)}"
    yield from weights_lines(compared, ROWS)
    if compared.relation in SHOWN_RELATIONS and compared.power:
        yield "\n| could the tests have seen | | how |\n|---|---|---|"
        yield from (
            f"| {prose(item.transformation)} | {'yes' if item.detectable else 'no'} | {prose(item.how)} |" for item in compared.power
        )
    if compared.unknown:
        yield "\n**Not determined**\n"
        yield from (f"- {prose(item.what)}: {prose(item.why)}" for item in compared.unknown)
    yield f"\n{LIMITS}"


def _judged(outcome: Sequence[Finding], verdict: Verdict, exhibits: Sequence[Exhibit], what: str) -> Iterator[str]:
    yield f"### {SIGNS[verdict]} modelguard: {WORDS[verdict]} ({what})\n"
    standing = [finding for finding in outcome if finding.status is Status.FOUND]
    for finding in sorted(standing, key=lambda finding: -finding.claim.severity)[:ROWS]:
        yield from told_of(finding)
    yield ""
    yield from _drawn(exhibits)
    yield from open_lines([finding for finding in outcome if finding.status is Status.UNKNOWN], ROWS)
    yield from _answers(outcome)
    yield f"\n{LIMITS}"


def _answers(outcome: Sequence[Finding]) -> Iterator[str]:
    yield "\n| rule | answer | evidence |\n|---|---|---|"
    for (status, cell), rules in answers_of(outcome)[:ROWS]:
        yield f"| {', '.join(rules)} | {MARKS[status]} | {cell} |"


def _drawn(exhibits: Sequence[Exhibit]) -> Iterator[str]:
    """Pictures of one line first, then those that take more."""
    for draw in (picture_lines, folded_lines):
        yield from (line for picture in exhibits for line in draw(picture))


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"
