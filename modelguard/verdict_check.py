"""Whether an audit writes a check run of its own on the commit, and what that says.

A job already is a check. A second one earns its place where the first does not tell the verdict: where the job's own check stands on
another commit than the audited one, and where the step passes although the verdict is no pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from modelguard.activity import Activity
from modelguard.errors import ModelguardError
from modelguard.github.check_run import MAX_TEXT, CheckRun, Conclusion, Note, conclude
from modelguard.render import markdown
from modelguard.render.text import prose, terminal
from modelguard.types.findings import Finding, Status, Verdict
from modelguard.types.report import Report

Stopped = Iterable[tuple[Finding, str]]
ELSEWHERE = ("workflow_run", "workflow_dispatch")  # their jobs are checks on the default branch, or on the branch they were started on
LENIENT = ("violation", "never")  # what `fail-on` lets an open answer pass under
LIMITS = (MAX_TEXT, MAX_TEXT // 4)  # characters, of which a quarter as many fit whatever they are


def wanted(wish: str, doing: Activity, fail_on: str) -> bool:
    """Whether to write one. `auto` goes by event and configuration alone, so that a verdict that turns replaces its own check."""
    return (doing.event in ELSEWHERE or fail_on in LENIENT) if wish == "auto" else wish == "on"


def check_of(report: Report, doing: Activity, stopped: Stopped, *, fails: bool, identity: str, environ: Mapping[str, str]) -> CheckRun:
    """The check of a report. `stopped` is what blocks, each with its file; it is annotated where the job's annotations stand elsewhere."""
    bodies = (markdown.comment(report, limit=limit) for limit in LIMITS)
    summary = next((body for body in bodies if len(body.encode("utf-8", "replace")) <= MAX_TEXT), "")
    return CheckRun(
        head=doing.head,
        conclusion=conclude(report.verdict, fails=fails),
        title=f"{markdown.WORDS[report.verdict]}: {terminal(report.headline, 150)}",
        summary=summary,
        identity=identity,
        details_url=_run_of(environ),
        notes=tuple(_notes(report, stopped)) if doing.event in ELSEWHERE else (),
    )


def check_without(error: ModelguardError, doing: Activity, *, identity: str, environ: Mapping[str, str]) -> CheckRun:
    """The check of a run that came to no report: it fails as the step does, and says why."""
    return CheckRun(
        head=doing.head,
        conclusion=Conclusion.FAILURE,
        title=f"{markdown.WORDS[Verdict.CANNOT_DETERMINE]}: {terminal(str(error), 150)}",
        summary=f"There is no report: {prose(str(error))}.\n\n{prose(error.advice)}",
        identity=identity,
        details_url=_run_of(environ),
    )


def _notes(report: Report, stopped: Stopped) -> Iterator[Note]:
    """One annotation a finding, what blocks first. A file whose name is no text has none."""
    blocking = list(stopped)
    told = {id(finding) for finding, _ in blocking}
    rest = [
        (finding, next(iter(model.files), ""))
        for model in report.models
        for finding in model.findings
        if finding.status is Status.FOUND and not finding.waived and id(finding) not in told
    ]
    for finding, path in (*blocking, *rest):
        if path and path.isprintable():
            text = terminal(f"{finding.subject}: {finding.claim.text}")
            yield Note(path=path, title=finding.rule, message=text, blocks=id(finding) in told)


def _run_of(environ: Mapping[str, str]) -> str:
    """The page of the workflow's run; "" outside one."""
    server, repository, run = (environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    sound = re.fullmatch(r"https?://[\w.:/-]+", server, re.ASCII) and run.isdecimal()
    return f"{server.rstrip('/')}/{repository}/actions/runs/{run}" if sound else ""
