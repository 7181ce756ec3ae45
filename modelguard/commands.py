"""What each command does: options in, (exit code, text to print) out."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import msgspec

from modelguard import pipeline, report_files
from modelguard.activations.both_networks import run_both
from modelguard.activations.extent import Extent
from modelguard.attempt import attempt
from modelguard.blobs.base import SMALL_FILE_BYTES, Folder, read_small
from modelguard.blobs.lfs_remote import OWN_TOKEN, store_at
from modelguard.blobs.local import LocalBlob
from modelguard.checkpoints.base import nbytes
from modelguard.checks.base import all_checks, select
from modelguard.displacement.against_log import held_against, with_doubts
from modelguard.displacement.settings import settings_of
from modelguard.errors import BadRequest, CannotPost, ExitCode
from modelguard.eval_commands import check_evals
from modelguard.evidence import facts
from modelguard.exhibits import compared as pictures
from modelguard.exhibits import exhibits
from modelguard.fingerprint.compare import compare
from modelguard.logs.base import Loader, assemble, looks_like_log
from modelguard.logs.continuity import checkpoint_step
from modelguard.logs.hf_trainer import FILE_NAME, read
from modelguard.org_commands import org
from modelguard.partial_evidence import only_log
from modelguard.policy import Policy, default, parse
from modelguard.progress import shown
from modelguard.references import REGISTRY, Reach, open_reference
from modelguard.registry_commands import by_sketch, registry
from modelguard.render import html, json_v1, markdown, terminal
from modelguard.types.displacement import Displacement
from modelguard.types.findings import Missing
from modelguard.types.logs import TrainingLog
from modelguard.types.report import Report
from modelguard.types.weights import CheckpointFacts, Comparison
from modelguard.verdict import EXIT_CODES, decide

Result = tuple[int, str]
MAX_LOG_FILES = 10_000
CARD = "README.md"


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
            registry=options.registry,
            lfs=store_at(options.lfs_url, os.environ.get(OWN_TOKEN, ""), os.environ) if options.lfs_url else None,
            whole=options.whole,
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
    """Writes report.json, report.sarif, report.html and comment.md. Raises CannotPost."""
    try:
        report_files.write(report, directory)
        report_files.write_file(directory / "comment.md", markdown.comment(report))
    except OSError as error:
        raise CannotPost(f"{directory}: {error.strerror}", advice="check --out") from error


def compare_two(options: argparse.Namespace) -> Result:
    """`modelguard compare`."""
    if REGISTRY in (options.left[: len(REGISTRY)], options.right[: len(REGISTRY)]):
        return _compared(by_sketch(options), options, {})
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

        controls, candidates = ([open_reference(text, reach)[1] for text in texts] for texts in (options.control, options.candidate))
        compared = compare(left, right, depth=options.depth, controls=controls, candidates=candidates, advance=advance)
    more: dict[str, object] = {}
    if options.activations:
        with shown(quiet=options.quiet) as progress:
            extent = Extent(layers=options.layers, progress=progress)
            run = partial(run_both, left, left_folder, right_folder, right, extent)
            ran = attempt(run, what="running both models on the probes")
        more["activations"] = {"unknown": ran.why} if isinstance(ran, Missing) else asdict(ran)
    return _compared(compared, options, more)


def check_logs(options: argparse.Namespace) -> Result:
    """`modelguard log`."""
    rules = _policy(options.policy)
    log = assemble(_log_files(options.paths))
    looked_at, moved = {"log"}, None
    if options.checkpoint is not None or options.base_checkpoint is not None:
        looked_at, moved = {"log", "displacement"}, _held_against(log, options)
        rules = _requiring(rules, "displacement")
    evidence = only_log(log, moved)
    checks = tuple(check for check in select(rules) if set(check.wants) <= looked_at)
    subject = str(options.paths[0]) if len(options.paths) == 1 else f"{len(options.paths)} paths"
    outcome = pipeline.examine(evidence, subject, checks, rules)
    verdict = decide(outcome, rules)
    if options.format == "json":
        text = json_v1.dumps(json_v1.log_document(None if isinstance(log, Missing) else log, outcome, verdict))
    elif options.format == "html":
        text = html.log_page(outcome, verdict, exhibits(evidence))
    else:
        text = terminal.log(outcome, verdict, exhibits(evidence), width=_width(), colour=_colour())
    return EXIT_CODES[verdict], text


def _held_against(log: TrainingLog | Missing, options: argparse.Namespace) -> Displacement | Missing:
    """The checkpoint's way from its base, against the log; the two are opened as they are for `compare`."""
    if options.checkpoint is None or options.base_checkpoint is None:
        raise BadRequest("--checkpoint and --base-checkpoint belong together", advice="name both, or neither")
    if isinstance(log, Missing):
        return log
    with shown(quiet=options.quiet) as progress:
        reach = Reach(repo=options.repo, offline=options.offline, max_download=options.max_download, progress=progress)
        return attempt(
            lambda: _moved_between(options.checkpoint, options.base_checkpoint, log, reach), what="holding the log against the weights"
        )


def _moved_between(checkpoint: str, base: str, log: TrainingLog, reach: Reach) -> Displacement | Missing:
    """The displacement of one named checkpoint from another. The papers beside the checkpoint state the optimizer.

    The two are compared only where something speaks against the log, to see what but training would explain it.
    """
    folder, ours = open_reference(checkpoint, reach)
    _, theirs = open_reference(base, reach)
    card = read_small(folder.open(CARD)) if CARD in folder.sizes else None
    settings = settings_of(folder, card, f"{folder.ref}/{CARD}")
    total, done = nbytes(ours) + nbytes(theirs), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if reach.progress is not None:
            reach.progress("holding the log against the weights", min(done, total), total)

    found = held_against(ours, theirs, log, settings, reached=_reached(checkpoint, folder), advance=advance)
    if isinstance(found, Missing) or not found.telling:
        return found
    return with_doubts(found, compare(ours, theirs), consequence=False)


def _reached(checkpoint: str, folder: Folder) -> int:
    """The step that a checkpoint's folder states, by its name (`checkpoint-N`) or by the trainer state in it; 0 where neither does."""
    place = checkpoint if Path(checkpoint).suffix else f"{checkpoint.rstrip('/')}/model.safetensors"
    named = checkpoint_step(place) or 0
    if FILE_NAME not in folder.sizes:
        return named
    state = read(FILE_NAME, read_small(folder.open(FILE_NAME), SMALL_FILE_BYTES))
    return max(named, int(state.claimed.get("global_step", 0)))


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
    "evals": check_evals,
    "inspect": inspect,
    "registry": registry,
    "org": org,
    "rules": rules,
    "explain": explain,
}


def _compared(compared: Comparison, options: argparse.Namespace, more: dict[str, object]) -> Result:
    if options.format == "json":
        return ExitCode.CONSISTENT, json_v1.dumps(json_v1.compare_document(compared) | more)
    if options.format == "html":
        return ExitCode.CONSISTENT, html.compare_page(compared, pictures(compared))
    return ExitCode.CONSISTENT, terminal.comparison(compared, width=_width(), colour=_colour())


def _shown(report: Report, form: str) -> str:
    written: Mapping[str, Callable[[Report], str]] = {
        "json": lambda report: json_v1.dumps(json_v1.audit_document(report)),
        "markdown": markdown.comment,
        "sarif": report_files.as_sarif,
        "html": html.page,
    }
    return written[form](report) if form in written else terminal.report(report, width=_width(), colour=_colour())


def _policy(file: Path | None) -> Policy:
    try:
        return default() if file is None else parse(file.read_bytes(), str(file))
    except OSError as error:
        raise BadRequest(f"{file}: {error.strerror}", advice="check --policy") from error


def _requiring(policy: Policy, evidence: str) -> Policy:
    """The policy with one more piece of evidence that may not be absent: an operator who asks a question wants it answered."""
    required = tuple(dict.fromkeys((*policy.require, evidence)))
    return msgspec.structs.replace(policy, document=msgspec.structs.replace(policy.document, require=required))


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
    return lambda: LocalBlob(path)


def _facts_line(item: CheckpointFacts) -> str:
    from modelguard.render.text import terminal as plain

    notes = "".join(f"\n  note: {plain(note)}" for note in item.notes)
    counts = f"{item.tensors} tensors, {item.parameters:,} parameters, {item.nbytes:,} bytes"
    return f"{plain(item.ref)}: {item.format}, {counts}, {', '.join(item.dtypes)}{notes}\n"


def _colour() -> bool:
    return sys.stdout.isatty()


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns
