"""The door of the GitHub Action: environment in, audit, then report, summary, outputs, annotations, comment and exit code out."""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from modelguard.activity import Activity, activity
from modelguard.attempt import attempt
from modelguard.blobs.lfs_remote import store_of_job
from modelguard.errors import BadRequest, ExitCode, ModelguardError
from modelguard.github import BODY_LIMIT, Destination, Posted, annotation, append_outputs, append_summary, post_comment
from modelguard.organisation import with_policy
from modelguard.pipeline import AuditRequest, audit
from modelguard.policy import Block, Document, Policy
from modelguard.render.json_v1 import audit_document, dumps
from modelguard.render.markdown import comment
from modelguard.render.text import terminal
from modelguard.types.findings import Finding, Missing, Status, Verdict
from modelguard.types.report import Report
from modelguard.verdict import EXIT_CODES, blocks

Environ = Mapping[str, str]

CHOICES: Mapping[str, tuple[str, ...]] = {
    "fail-on": ("violation", "inconclusive", "warning", "never"),
    "comment": ("always", "on-findings", "never"),
    "activations": ("auto", "on", "off"),
}
INPUTS = ("github-token", "max-download", "registry", "policy", "policy-token", "config", *CHOICES)
UNITS = {"": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_LOGGER = logging.getLogger("modelguard")
MAX_ANNOTATIONS = 10  # GitHub shows no more of one step
MAX_EVENT_BYTES = 32 << 20
SUMMARY_LIMIT = 250_000  # characters; at four bytes each they stay below GitHub's MiB


@dataclass(slots=True)
class Step:
    """What a step has to say to its job when it ends: outputs (enums, numbers, paths, addresses of GitHub) and workflow commands."""

    environ: Environ
    outputs: dict[str, str] = field(default_factory=lambda: {"verdict": str(Verdict.CANNOT_DETERMINE)})
    commands: list[str] = field(default_factory=list)

    def fail(self, why: str, advice: str) -> None:
        """Notes one line that says why there is no verdict."""
        self.commands.append(annotation("error", f"{why}: {advice}" if advice else why, title="modelguard"))

    def finish(self) -> None:
        """Hands the outputs to the runner."""
        if self.environ.get("GITHUB_OUTPUT"):
            append_outputs(Path(self.environ["GITHUB_OUTPUT"]), self.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the workflow asked for; "" where it asked for nothing. The token stays out of `repr`."""

    token: str
    fail_on: str
    comment: str
    activations: str
    max_download: int | None
    registry: str | None = None  # may hold a password

    def __repr__(self) -> str:
        return f"Inputs(fail_on={self.fail_on!r}, comment={self.comment!r}, activations={self.activations!r})"


class _Debugger(logging.Handler):
    """Prints what the package logs, tracebacks of crashes included, while MODELGUARD_DEBUG is set."""

    def __init__(self, environ: Environ) -> None:
        super().__init__(logging.DEBUG)
        if environ.get("MODELGUARD_DEBUG"):
            _LOGGER.addHandler(self)
            _LOGGER.setLevel(logging.DEBUG)

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            _say(line)

    def close(self) -> None:
        _LOGGER.removeHandler(self)
        super().close()


def main(environ: Environ) -> int:
    """Runs the Action. The exit code starts at 2 and earns another one; a crash says so in one line and stays at 2."""
    step = Step(environ)
    fence = secrets.token_hex(32)
    _write(f"::stop-commands::{fence}")  # until it is lifted the runner obeys no line, whoever makes us print it
    debugger = _Debugger(environ)
    code = attempt(lambda: _guarded(step), what="the action")
    debugger.close()
    finished = attempt(step.finish, what="writing the outputs")
    _write(f"::{fence}::")
    for outcome in (code, finished):
        if isinstance(outcome, Missing):
            step.fail(outcome.why, outcome.advice)
    for command in step.commands:
        _write(command)
    return int(ExitCode.CANNOT_DETERMINE) if isinstance(code, Missing) or isinstance(finished, Missing) else int(code)


def read_inputs(environ: Environ) -> Inputs:
    """The inputs of the step. Raises BadRequest for an input that is unknown or has an unknown value: nothing is ignored."""
    named = {key.removeprefix("INPUT_").lower(): value.strip() for key, value in environ.items() if key.startswith("INPUT_")}
    given = {name: value for name, value in sorted(named.items()) if value}
    for name in given:
        if name not in INPUTS:
            raise BadRequest(f"the input {name!a} is not known to this version", advice=f"known inputs: {', '.join(INPUTS)}")
    for name, choices in CHOICES.items():
        if given.get(name, choices[0]) not in choices:
            raise BadRequest(f"the input {name} is {given[name]!a}", advice=f"one of {', '.join(choices)}")
    return Inputs(
        token=given.get("github-token", ""),
        fail_on=given.get("fail-on", "inconclusive"),
        comment=given.get("comment", ""),
        activations=given.get("activations", "auto"),
        max_download=_size(given["max-download"]) if "max-download" in given else None,
        registry=given.get("registry"),
    )


def exit_code(report: Report, fail_on: str) -> ExitCode:
    """What the step returns. `violation` fails on inconsistent alone, `warning` on any finding that is not waived, `never` on none."""
    code = EXIT_CODES[report.verdict]
    if fail_on == "never" or (fail_on == "violation" and code is ExitCode.CANNOT_DETERMINE):
        return ExitCode.CONSISTENT
    if fail_on == "warning" and _found(report):
        return ExitCode.INCONSISTENT
    return code


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


def deliver(report: Report, doing: Activity, inputs: Inputs, step: Step) -> None:
    """Writes the report's files and the job summary, posts the comment, and notes outputs and annotations."""
    folder = _report_folder(step.environ)
    summary = comment(report, limit=SUMMARY_LIMIT)
    _write_file(folder / "report.json", dumps(audit_document(report)))
    _write_file(folder / "report.md", summary + "\n")
    if step.environ.get("GITHUB_STEP_SUMMARY"):
        append_summary(Path(step.environ["GITHUB_STEP_SUMMARY"]), summary)
    step.outputs |= {
        "verdict": str(report.verdict),
        "findings-count": str(len(_found(report))),
        "report-path": _printable(str(folder / "report.json")),
        "policy-digest": _printable(report.policy_digest),
    }
    step.commands.extend(blocking_annotations(report))
    _deliver_comment(report, doing, inputs, step)


def _guarded(step: Step) -> ExitCode:
    """The run; a request that makes no sense and evidence that cannot be read have their own exit codes."""
    try:
        return _run(step)
    except ModelguardError as error:
        step.fail(str(error), error.advice)
        return error.exit_code


def _run(step: Step) -> ExitCode:
    inputs = read_inputs(step.environ)
    doing = activity(step.environ.get("GITHUB_EVENT_NAME", ""), _payload(step.environ))
    if doing.idle:
        _say("this push brings no new commit: there is nothing to look at")
        step.outputs |= {"verdict": str(Verdict.CONSISTENT), "findings-count": "0"}
        return ExitCode.CONSISTENT
    report = audit(_request(doing, inputs, step.environ))
    _say(report.headline)
    for model in report.models:
        for finding in model.findings:
            _say(f"  {finding.status:<14} {finding.rule}: {finding.subject}: {finding.claim.text}")
    deliver(report, doing, inputs, step)
    return exit_code(report, inputs.fail_on)


def _request(doing: Activity, inputs: Inputs, environ: Environ) -> AuditRequest:
    if not environ.get("GITHUB_WORKSPACE"):
        raise BadRequest("GITHUB_WORKSPACE is not set", advice="run as a step of a workflow, after actions/checkout")
    request = AuditRequest(repo=Path(environ["GITHUB_WORKSPACE"]), base=doing.base, head=doing.head, activations=inputs.activations)
    request = replace(with_policy(request, environ), registry=inputs.registry, lfs=store_of_job(environ, inputs.token))
    return request if inputs.max_download is None else replace(request, max_download=inputs.max_download)


def _payload(environ: Environ) -> Mapping[str, object]:
    """The event that started the workflow. Its text is a stranger's; only commit ids, numbers and names are taken from it."""
    try:
        with Path(environ.get("GITHUB_EVENT_PATH", "")).open("rb") as file:
            data = file.read(MAX_EVENT_BYTES + 1)
        payload = json.loads(data) if len(data) <= MAX_EVENT_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        reason = f"GITHUB_EVENT_PATH cannot be read ({type(error).__name__})"
        raise BadRequest(reason, advice="run as a step of a workflow") from None
    if not isinstance(payload, dict):
        raise BadRequest("GITHUB_EVENT_PATH holds no event", advice="run as a step of a workflow")
    return payload


def _deliver_comment(report: Report, doing: Activity, inputs: Inputs, step: Step) -> None:
    """Posts the comment where one is wanted. What goes wrong here is said, and changes neither verdict nor exit code."""
    if inputs.comment == "never" or doing.number is None:
        return
    if not inputs.token:
        _say("no comment: the input github-token is not set (github-token: ${{ github.token }})")
        return
    posted = attempt(lambda: _post(report, doing, inputs, step.environ), what="posting the comment")
    if isinstance(posted, Missing):
        step.commands.append(annotation("warning", f"{posted.why}: {posted.advice}", title="modelguard"))
        return
    _say(f"comment {posted.delivery}: {posted.url}")
    step.outputs["comment-url"] = _printable(posted.url)


def _post(report: Report, doing: Activity, inputs: Inputs, environ: Environ) -> Posted:
    repository = environ.get("GITHUB_REPOSITORY", "")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII) is None:
        raise BadRequest("GITHUB_REPOSITORY is not owner/name", advice="run as a step of a workflow")
    api_url = environ.get("GITHUB_API_URL") or "https://api.github.com"
    to = Destination(api_url=api_url, repository=repository, number=doing.number or 0, token=inputs.token)
    return post_comment(to, comment(report, limit=BODY_LIMIT), head=doing.head, create=worth_a_comment(report, inputs.comment))


def worth_a_comment(report: Report, wish: str) -> bool:
    """Whether to begin a comment; one that stands already is brought up to date whatever comes out."""
    if wish == "on-findings":
        return report.verdict is not Verdict.CONSISTENT or bool(_found(report))
    return wish == "always" or bool(report.models)


def _found(report: Report) -> tuple[Finding, ...]:
    return tuple(finding for finding in report.findings if finding.status is Status.FOUND and not finding.waived)


def _report_folder(environ: Environ) -> Path:
    """Where the report goes: the runner's own directory, or the workspace, where head may have planted a link."""
    parent = Path(environ.get("RUNNER_TEMP") or environ["GITHUB_WORKSPACE"])
    folder = parent / "modelguard" if environ.get("RUNNER_TEMP") else parent / ".modelguard-report"
    if folder.is_symlink():
        raise BadRequest(f"{folder} is a symbolic link", advice="remove it, or set RUNNER_TEMP")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_file(path: Path, text: str) -> None:
    """A new file in place of whatever was there: a link is replaced, never followed."""
    path.unlink(missing_ok=True)
    with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d{1,18})\s*([KMGT]iB)?", text, re.IGNORECASE)
    if match is None:
        raise BadRequest(f"the input max-download is {text!a}", advice="bytes, or a whole number of KiB, MiB, GiB or TiB: 20GiB")
    return int(match[1]) * UNITS[(match[2] or "").lower()]


def _printable(value: str) -> str:
    """An output's value; what is not printable ASCII would need quoting by whoever uses it, and is left out."""
    return value if value.isascii() and value.isprintable() else ""


def _say(text: str) -> None:
    """One line, whatever the text holds: a name with line breaks in it must not look like lines of ours."""
    _write(terminal(text))


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
