"""What each command does: options in, (exit code, text to print) out."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from modelguard import pipeline
from modelguard.attempt import attempt
from modelguard.blobs.base import read_small
from modelguard.blobs.local import LocalBlob
from modelguard.checks.base import all_checks, select
from modelguard.errors import BadRequest, CannotPost, ExitCode
from modelguard.evidence import facts, only_log
from modelguard.exhibits import exhibits
from modelguard.fingerprint.activations import compare_activations
from modelguard.fingerprint.compare import compare
from modelguard.logs.base import Loader, assemble, looks_like_log
from modelguard.policy import Policy, default, parse
from modelguard.progress import shown
from modelguard.references import Reach, open_reference
from modelguard.render import json_v1, markdown, terminal
from modelguard.types.findings import Missing
from modelguard.types.report import Report
from modelguard.types.weights import CheckpointFacts
from modelguard.verdict import EXIT_CODES, decide

Result = tuple[int, str]
MAX_LOG_FILES = 10_000


def audit(options: argparse.Namespace) -> Result:
    """`modelguard audit`."""
    with shown(quiet=options.quiet) as progress:
        request = pipeline.AuditRequest(
            repo=options.repo,
            base=options.base,
            head=options.head,
            policy_file=options.policy,
            offline=options.offline,
            max_download=options.max_download,
            activations=options.activations,
            progress=progress,
        )
        report = pipeline.audit(request)
    if options.out is not None:
        write_reports(report, options.out)
    return EXIT_CODES[report.verdict], _shown(report, options.format)


def push(commits: tuple[str, str], options: argparse.Namespace) -> Result:
    """`modelguard hook --push`: the full audit of what is about to be pushed, against cached bases. Silent when consistent."""
    request = pipeline.AuditRequest(repo=options.repo, base=commits[0], head=commits[1], offline=True, activations="off")
    report = pipeline.audit(request)
    code = EXIT_CODES[report.verdict]
    return code, "" if code == ExitCode.CONSISTENT else _shown(report, "terminal")


def write_reports(report: Report, directory: Path) -> None:
    """Writes report.json and comment.md. Raises CannotPost."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "report.json").write_text(json_v1.dumps(json_v1.audit_document(report)), encoding="utf-8")
        (directory / "comment.md").write_text(markdown.comment(report), encoding="utf-8")
    except OSError as error:
        raise CannotPost(f"{directory}: {error.strerror}", advice="check --out") from error


def compare_two(options: argparse.Namespace) -> Result:
    """`modelguard compare`."""
    with shown(quiet=options.quiet) as progress:
        reach = Reach(repo=options.repo, offline=options.offline, max_download=options.max_download, progress=progress)
        left_folder, left = open_reference(options.left, reach)
        right_folder, right = open_reference(options.right, reach)
        facts(left), facts(right)
        total, done = 2 * sum(info.nbytes for info in left.tensors.values()), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress("comparing", min(done, total), total)

        compared = compare(left, right, depth=options.depth, advance=advance)
    document = json_v1.compare_document(compared)
    if options.activations:
        ran = attempt(lambda: compare_activations(left, right, left_folder, right_folder), what="running both models on the probes")
        document["activations"] = {"unknown": ran.why} if isinstance(ran, Missing) else asdict(ran)
    if options.format == "json":
        return ExitCode.CONSISTENT, json_v1.dumps(document)
    return ExitCode.CONSISTENT, terminal.comparison(compared, width=_width(), colour=_colour())


def check_logs(options: argparse.Namespace) -> Result:
    """`modelguard log`."""
    rules = _policy(options.policy)
    log = assemble(_log_files(options.paths))
    evidence = only_log(log)
    checks = tuple(check for check in select(rules) if check.wants == ("log",))
    subject = str(options.paths[0]) if len(options.paths) == 1 else f"{len(options.paths)} paths"
    outcome = pipeline.examine(evidence, subject, checks, rules)
    verdict = decide(outcome, rules)
    if options.format == "json":
        text = json_v1.dumps(json_v1.log_document(None if isinstance(log, Missing) else log, outcome, verdict))
    else:
        text = terminal.log(outcome, verdict, exhibits(evidence), width=_width(), colour=_colour())
    return EXIT_CODES[verdict], text


def inspect(options: argparse.Namespace) -> Result:
    """`modelguard inspect`."""
    listed = [facts(open_reference(file, Reach())[1]) for file in options.files]
    if options.format == "json":
        return ExitCode.CONSISTENT, json_v1.dumps({"schema": "modelguard.inspect/1", "files": [asdict(item) for item in listed]})
    return ExitCode.CONSISTENT, "".join(map(_facts_line, listed))


def rules(_options: argparse.Namespace) -> Result:
    """`modelguard rules`."""
    width = max(len(check.rule) for check in all_checks())
    return ExitCode.CONSISTENT, "".join(f"{check.rule:{width}}  {check.title}\n" for check in all_checks())


def explain(options: argparse.Namespace) -> Result:
    """`modelguard explain RULE`."""
    chosen = [check for check in all_checks() if check.rule == options.rule]
    if not chosen:
        raise BadRequest(f"{options.rule[:80]!a} is no rule", advice="`modelguard rules` lists them")
    return ExitCode.CONSISTENT, f"{chosen[0].rule}\n\n{chosen[0].doc}\n\nlooks at: {', '.join(chosen[0].wants)}\n"


COMMANDS: Mapping[str, Callable[[argparse.Namespace], Result]] = {
    "audit": audit,
    "compare": compare_two,
    "log": check_logs,
    "inspect": inspect,
    "rules": rules,
    "explain": explain,
}


def _shown(report: Report, form: str) -> str:
    if form == "json":
        return json_v1.dumps(json_v1.audit_document(report))
    return markdown.comment(report) if form == "markdown" else terminal.report(report, width=_width(), colour=_colour())


def _policy(file: Path | None) -> Policy:
    try:
        return default() if file is None else parse(file.read_bytes(), str(file))
    except OSError as error:
        raise BadRequest(f"{file}: {error.strerror}", advice="check --policy") from error


def _log_files(paths: list[Path]) -> Mapping[str, bytes | Loader]:
    """Loaders by name: every file that is named, and every file below a named directory that may be a log."""
    files: dict[str, bytes | Loader] = {}
    for path in paths:
        if path.is_dir():
            below = (file for file in sorted(path.rglob("*")) if file.is_file() and looks_like_log(file.as_posix()))
            files |= {str(file): _loader(file) for file, _ in zip(below, range(MAX_LOG_FILES), strict=False)}
        elif path.is_file():
            files[str(path)] = _loader(path)
        else:
            raise BadRequest(f"{path}: no such file or directory", advice="check the path")
    return files


def _loader(path: Path) -> Loader:
    return lambda: read_small(LocalBlob(path))


def _facts_line(item: CheckpointFacts) -> str:
    from modelguard.render.text import terminal as plain

    notes = "".join(f"\n  note: {plain(note)}" for note in item.notes)
    counts = f"{item.tensors} tensors, {item.parameters:,} parameters, {item.nbytes:,} bytes"
    return f"{plain(item.ref)}: {item.format}, {counts}, {', '.join(item.dtypes)}{notes}\n"


def _colour() -> bool:
    return sys.stdout.isatty()


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns
