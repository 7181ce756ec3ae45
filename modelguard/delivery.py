"""What an audit leaves on a job and on a pull request: files, summary, annotations, comment, review threads, check run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelguard.activity import Activity
from modelguard.attempt import attempt
from modelguard.disclosure import public
from modelguard.errors import BadRequest, ModelguardError
from modelguard.github import check_run
from modelguard.github import comment as sticky
from modelguard.github.api import Api, Destination
from modelguard.github.job import annotation, append_summary
from modelguard.github.threads import Concern, key_of, review
from modelguard.policy import Block, Document, Policy
from modelguard.render import markdown
from modelguard.report_files import HTML, JSON, SARIF, write, write_file
from modelguard.step import Environ, Step, printable, say
from modelguard.types.findings import Finding, Missing, Status, Verdict
from modelguard.types.report import Report
from modelguard.verdict import blocks
from modelguard.verdict_check import check_of, check_without

MAX_ANNOTATIONS = 10  # GitHub shows no more of one step
SUMMARY_LIMIT = 250_000  # characters; at four bytes each they stay below GitHub's MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Whether and under which identity to comment, and to write a check. The token stays out of `repr`.

    `check` is "off", "auto" (where it may be; a refusal is one line of the log) or "on" (a refusal is a warning); `fails` says what the
    step comes to; `disclose` "report" keeps the names of undeclared parents to the report's files.
    """

    token: str
    comment: str
    identity: str = "default"
    check: str = "off"
    fails: bool = False
    disclose: str = "comment"

    def __repr__(self) -> str:
        return f"Wish(comment={self.comment!r}, identity={self.identity!r})"


def deliver(report: Report, doing: Activity, wish: Wish, step: Step) -> None:
    """Writes the report's files and the job summary, posts the comment and the threads, and notes outputs and annotations."""
    folder = report_folder(step.environ)
    write(report, folder)
    write_file(folder / "report.md", markdown.comment(report, limit=SUMMARY_LIMIT) + "\n")
    report = public(report) if wish.disclose == "report" else report  # from here on everybody reads it
    summary = markdown.comment(report, limit=SUMMARY_LIMIT)
    if step.environ.get("GITHUB_STEP_SUMMARY"):
        append_summary(Path(step.environ["GITHUB_STEP_SUMMARY"]), summary)
    step.outputs |= {
        "verdict": str(report.verdict),
        "findings-count": str(len(found(report))),
        "report-path": printable(str(folder / JSON)),
        "sarif-path": printable(str(folder / SARIF)),
        "html-path": printable(str(folder / HTML)),
        "policy-digest": printable(report.policy_digest),
    }
    step.commands.extend(blocking_annotations(report))
    _deliver_words(report, doing, wish, step)


def blocking(report: Report) -> tuple[tuple[Finding, str], ...]:
    """The findings that the report's own policy stops, each with the file to show it on."""
    written = next((setting.value for setting in report.settings if setting.key == "block"), "{}")
    document = Document(version=1, block=msgspec.json.decode(written, type=Block))
    policy = Policy(document=document, origin="report", digest=report.policy_digest)
    pairs = ((finding, next(iter(model.files), "")) for model in report.models for finding in model.findings)
    return tuple((finding, file) for finding, file in pairs if blocks(finding, policy))


def blocking_annotations(report: Report) -> Iterator[str]:
    """One workflow command for each blocking finding; the last of ten counts those that GitHub would not show."""
    stopped = blocking(report)
    shown = stopped if len(stopped) <= MAX_ANNOTATIONS else stopped[: MAX_ANNOTATIONS - 1]
    for finding, file in shown:
        yield annotation("error", f"{finding.subject}: {finding.claim.text}", title=f"modelguard {finding.rule}", file=file)
    if len(stopped) > len(shown):
        yield annotation("error", f"{len(stopped) - len(shown)} more blocking findings are in the report", title="modelguard")


def concerns(report: Report) -> tuple[Concern, ...]:
    """What the review threads say: the blocking findings, those of one rule on one subject together."""
    told: dict[str, tuple[str, list[Finding]]] = {}
    for finding, file in blocking(report):
        told.setdefault(key_of(finding.rule, finding.subject), (file, []))[1].append(finding)
    return tuple(Concern(key=key, path=file, text=markdown.thread(findings)) for key, (file, findings) in told.items() if file)


def found(report: Report) -> tuple[Finding, ...]:
    """What was found and is not waived."""
    return tuple(finding for finding in report.findings if finding.status is Status.FOUND and not finding.waived)


def worth_a_comment(report: Report, wish: str) -> bool:
    """Whether to begin a comment; one that stands already is brought up to date whatever comes out."""
    if wish == "on-findings":
        return report.verdict is not Verdict.CONSISTENT or bool(found(report))
    return wish == "always" or bool(report.models)


def report_folder(environ: Environ) -> Path:
    """Where the report goes: the runner's own directory, or the workspace, where head may have planted a link."""
    parent = Path(environ.get("RUNNER_TEMP") or environ["GITHUB_WORKSPACE"])
    folder = parent / "modelguard" if environ.get("RUNNER_TEMP") else parent / ".modelguard-report"
    if folder.is_symlink():
        raise BadRequest(f"{folder} is a symbolic link", advice="remove it, or set RUNNER_TEMP")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def destination(environ: Environ, number: int, token: str) -> Destination:
    """The pull request of that number, on the GitHub that runs the job. Raises BadRequest."""
    repository = environ.get("GITHUB_REPOSITORY", "")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII) is None:
        raise BadRequest("GITHUB_REPOSITORY is not owner/name", advice="run as a step of a workflow")
    return Destination(api_url=environ.get("GITHUB_API_URL") or "https://api.github.com", repository=repository, number=number, token=token)


def _deliver_words(report: Report, doing: Activity, wish: Wish, step: Step) -> None:
    """Posts what is wanted. What goes wrong here is said, and changes neither verdict nor exit code."""
    commenting = wish.comment != "never" and doing.number is not None
    if not commenting and wish.check == "off":
        return
    if not wish.token:
        say(f"no {'comment' if commenting else 'check'}: the input github-token is not set (github-token: ${{{{ github.token }}}})")
        return
    opened = attempt(lambda: Api(destination(step.environ, doing.number or 0, wish.token)), what="reaching GitHub")
    if isinstance(opened, Missing):
        step.warn(opened.why, opened.advice)
        return
    if wish.check != "off":
        _checked(opened, report, doing, wish, step)
    if commenting and _posted(opened, report, doing, wish, step):
        _reviewed(opened, report, doing, wish, step)
    opened.close()


def say_in_check(error: ModelguardError, doing: Activity, wish: Wish, step: Step) -> None:
    """Writes why there is no report into the check, where one is wanted."""
    if wish.check == "off" or not wish.token:
        return
    opened = attempt(lambda: Api(destination(step.environ, doing.number or 0, wish.token)), what="reaching GitHub")
    if not isinstance(opened, Missing):
        _write_check(opened, check_without(error, doing, identity=wish.identity, environ=step.environ), wish, step)
        opened.close()


def _checked(api: Api, report: Report, doing: Activity, wish: Wish, step: Step) -> None:
    """The check comes first: a branch may wait for it."""
    check = check_of(report, doing, blocking(report), fails=wish.fails, identity=wish.identity, environ=step.environ)
    _write_check(api, check, wish, step)


def _write_check(api: Api, check: check_run.CheckRun, wish: Wish, step: Step) -> None:
    """A token that may not write it is the rule on forks, and no warning unless it was asked for."""
    written = attempt(lambda: check_run.post(api, check), what="writing the check")
    if not isinstance(written, Missing):
        say(f"check {check.conclusion}: {written}")
    elif wish.check == "on":
        step.warn(written.why, written.advice)
    else:
        say(f"no check: {written.why}: {written.advice}")


def _posted(api: Api, report: Report, doing: Activity, wish: Wish, step: Step) -> bool:
    """Whether the comment went well and is about the pull request as it stands."""
    collapsed = "" if report.models or wish.comment == "always" else markdown.collapsed(report)
    message = sticky.Message(
        body=markdown.comment(report, limit=sticky.BODY_LIMIT),
        head=doing.head,
        identity=wish.identity,
        verdict=report.verdict,
        create=worth_a_comment(report, wish.comment),
        collapsed=collapsed,
    )
    posted = attempt(lambda: sticky.deliver(api, message), what="posting the comment")
    if isinstance(posted, Missing):
        step.warn(posted.why, posted.advice)
        return False
    say(f"comment {posted.delivery}: {posted.url}")
    step.outputs["comment-url"] = printable(posted.url)
    return posted.delivery not in (sticky.Delivery.SUPERSEDED, sticky.Delivery.NOT_WANTED)


def _reviewed(api: Api, report: Report, doing: Activity, wish: Wish, step: Step) -> None:
    threads = attempt(lambda: review(api, concerns(report), head=doing.head, identity=wish.identity), what="writing review threads")
    if isinstance(threads, Missing):
        step.warn(threads.why, threads.advice)
    else:
        say(f"review threads: {threads}")
