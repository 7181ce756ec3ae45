"""The door of the GitHub Action: environment in, audit, then report, summary, outputs, annotations, comment and exit code out."""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from modelguard.activity import Activity, activity
from modelguard.attempt import attempt
from modelguard.blobs.lfs_remote import store_of_job
from modelguard.declaration import pinnable
from modelguard.delivery import Wish, deliver, destination, found, say_in_check
from modelguard.disclosure import public
from modelguard.errors import BadRequest, CannotRead, ExitCode, ModelguardError
from modelguard.github.api import Api
from modelguard.github.pulls import standing_at
from modelguard.organisation import with_policy
from modelguard.pipeline import AuditRequest, audit
from modelguard.step import Environ, Step, say, write
from modelguard.types.findings import Missing, Verdict
from modelguard.types.report import Report
from modelguard.verdict import EXIT_CODES
from modelguard.verdict_check import wanted

CHOICES: Mapping[str, tuple[str, ...]] = {
    "fail-on": ("violation", "inconclusive", "warning", "never"),
    "comment": ("always", "on-findings", "never"),
    "check": ("auto", "on", "off"),
    "activations": ("auto", "on", "off"),
    "disclose": ("comment", "report"),
}
NAMES = ("github-token", "hf-token", "id", "models", "base-model", "max-download", "registry", "policy", "policy-token", "config")
INPUTS = (*NAMES, *CHOICES)
UNITS = {"": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_LOGGER = logging.getLogger("modelguard")
MAX_EVENT_BYTES = 32 << 20
IDENTITY = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the workflow asked for; "" where it asked for nothing. Tokens stay out of `repr`."""

    token: str
    fail_on: str
    comment: str
    activations: str
    max_download: int | None
    registry: str | None = None  # may hold a password
    identity: str = "default"
    check: str = "auto"
    models: tuple[str, ...] = ()
    base_model: str | None = None
    hub_token: str = ""
    disclose: str = "comment"

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
            say(line)

    def close(self) -> None:
        _LOGGER.removeHandler(self)
        super().close()


def main(environ: Environ) -> int:
    """Runs the Action. The exit code starts at 2 and earns another one; a crash says so in one line and stays at 2."""
    step = Step(environ)
    fence = secrets.token_hex(32)
    write(f"::stop-commands::{fence}")  # until it is lifted the runner obeys no line, whoever makes us print it
    debugger = _Debugger(environ)
    code = attempt(lambda: _guarded(step), what="the action")
    debugger.close()
    finished = attempt(step.finish, what="writing the outputs")
    write(f"::{fence}::")
    for outcome in (code, finished):
        if isinstance(outcome, Missing):
            step.fail(outcome.why, outcome.advice)
    for command in step.commands:
        write(command)
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
    if IDENTITY.fullmatch(given.get("id", "default")) is None:
        raise BadRequest(f"the input id is {given['id']!a}", advice="lower-case letters, digits and hyphens, 64 at most")
    return Inputs(
        token=given.get("github-token", ""),
        fail_on=given.get("fail-on", "inconclusive"),
        comment=given.get("comment", ""),
        activations=given.get("activations", "auto"),
        max_download=_size(given["max-download"]) if "max-download" in given else None,
        registry=given.get("registry"),
        identity=given.get("id", "default"),
        check=given.get("check", "auto"),
        models=tuple(line.strip() for line in given.get("models", "").splitlines() if line.strip()),
        base_model=pinnable(given.get("base-model"), "the input base-model"),
        hub_token=given.get("hf-token", ""),
        disclose=given.get("disclose", "comment"),
    )


def exit_code(report: Report, fail_on: str) -> ExitCode:
    """What the step returns. `violation` fails on inconsistent alone, `warning` on any finding that is not waived, `never` on none."""
    code = EXIT_CODES[report.verdict]
    if fail_on == "never" or (fail_on == "violation" and code is ExitCode.CANNOT_DETERMINE):
        return ExitCode.CONSISTENT
    if fail_on == "warning" and found(report):
        return ExitCode.INCONSISTENT
    return code


def _guarded(step: Step) -> ExitCode:
    """The run; a request that makes no sense and evidence that cannot be read have their own exit codes."""
    try:
        return _run(step)
    except ModelguardError as error:
        step.fail(str(error), error.advice)
        return error.exit_code


def _run(step: Step) -> ExitCode:
    inputs = read_inputs(step.environ)
    doing = _asked(step.environ, inputs)
    if doing.idle:
        say("this event brings no new commit: there is nothing to look at")
        step.outputs |= {"verdict": str(Verdict.CONSISTENT), "findings-count": "0"}
        return ExitCode.CONSISTENT
    report = _audited(doing, inputs, step)
    say(report.headline)
    for model in (public(report) if inputs.disclose == "report" else report).models:
        for finding in model.findings:
            say(f"  {finding.status:<14} {finding.rule}: {finding.subject}: {finding.claim.text}")
    code = exit_code(report, inputs.fail_on)
    deliver(report, doing, _wish(doing, inputs, code), step)
    return code


def _audited(doing: Activity, inputs: Inputs, step: Step) -> Report:
    """The report. Where there is none, a check that an earlier run of this commit wrote must not stand there as if there were."""
    try:
        report = attempt(lambda: audit(_request(doing, inputs, step.environ)), what="the audit", passing=ModelguardError)
        if isinstance(report, Missing):
            raise CannotRead(report.why, advice=report.advice)
    except ModelguardError as error:
        say_in_check(error, doing, _wish(doing, inputs, error.exit_code), step)
        raise
    return report


def _wish(doing: Activity, inputs: Inputs, code: ExitCode) -> Wish:
    check = inputs.check if wanted(inputs.check, doing, inputs.fail_on) else "off"
    fails = code is not ExitCode.CONSISTENT
    identity, disclose = inputs.identity, inputs.disclose
    return Wish(token=inputs.token, comment=inputs.comment, identity=identity, check=check, fails=fails, disclose=disclose)


def _asked(environ: Environ, inputs: Inputs) -> Activity:
    """What the event asks for; the pull request of a fork's ended workflow is the open one that stands at the commit it ran on."""
    doing = activity(environ.get("GITHUB_EVENT_NAME", ""), _payload(environ), environ.get("GITHUB_SHA", ""))
    if not doing.branch:
        return doing
    if not inputs.token:
        raise BadRequest("workflow_run: the pull request cannot be looked up", advice="pass the input github-token")
    api = Api(destination(environ, 0, inputs.token))
    try:
        number, base = standing_at(api, doing.branch, doing.head)
    finally:
        api.close()
    return replace(doing, number=number, base=base, branch="")


def _request(doing: Activity, inputs: Inputs, environ: Environ) -> AuditRequest:
    if not environ.get("GITHUB_WORKSPACE"):
        raise BadRequest("GITHUB_WORKSPACE is not set", advice="run as a step of a workflow, after actions/checkout")
    request = AuditRequest(repo=Path(environ["GITHUB_WORKSPACE"]), base=doing.base, head=doing.head, activations=inputs.activations)
    store = store_of_job(environ, inputs.token)
    request = replace(request, models=inputs.models, base_model=inputs.base_model, hub_token=inputs.hub_token)
    request = replace(with_policy(request, environ), registry=inputs.registry, whole=doing.whole, lfs=store)
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


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d{1,18})\s*([KMGT]iB)?", text, re.IGNORECASE)
    if match is None:
        raise BadRequest(f"the input max-download is {text!a}", advice="bytes, or a whole number of KiB, MiB, GiB or TiB: 20GiB")
    return int(match[1]) * UNITS[(match[2] or "").lower()]
