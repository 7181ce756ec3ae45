"""`modelguard evals`: the evaluation logs of one model, held against their samples, a card, and other models' logs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from modelguard import pipeline
from modelguard.attempt import attempt
from modelguard.blobs.base import SMALL_FILE_BYTES, read_small
from modelguard.blobs.local import LocalBlob
from modelguard.checks.base import select
from modelguard.commands.inputs import colour, files_below, policy_of, width
from modelguard.declaration import declare
from modelguard.errors import BadRequest, CannotPost, CannotRead, ExitCode
from modelguard.eval_files import with_claims
from modelguard.evals.collecting import assemble
from modelguard.evals.harness import looks_like_evals
from modelguard.evals.manifest import held_against, manifest_of, read_manifest
from modelguard.evals.teacher import teacher_evidence
from modelguard.exhibits import exhibits
from modelguard.partial_evidence import only
from modelguard.render import html, json_v1, markdown_pages, terminal
from modelguard.render.text import terminal as plain
from modelguard.types.evals import EvalLogs, TeacherEvidence
from modelguard.types.findings import Absence, Missing
from modelguard.verdict import EXIT_CODES, decide

MAX_MANIFEST = 64 << 20


def check_evals(options: argparse.Namespace) -> tuple[int, str]:
    """`modelguard evals`."""
    rules = policy_of(options.policy)
    logs = _with_card(_logs(options.paths), options.card)
    if options.write_manifest is not None:
        return _write_manifest(logs, options.write_manifest)
    logs = _with_manifest(logs, options.manifest)
    teacher = _teacher(logs, options)
    evidence = only("the evaluation logs", evals=logs, teacher=teacher)
    checks = tuple(check for check in select(rules) if set(check.wants) <= {"evals", "teacher"})
    subject = str(options.paths[0]) if len(options.paths) == 1 else f"{len(options.paths)} paths"
    outcome = pipeline.examine(evidence, subject, checks, rules)
    verdict = decide(outcome, rules, asked=("teacher",) if options.reference else ())
    if options.format == "json":
        known = None if isinstance(teacher, Missing) else teacher
        document = json_v1.evals_document(None if isinstance(logs, Missing) else logs, known, outcome, verdict)
        return EXIT_CODES[verdict], json_v1.dumps(document)
    pictures = exhibits(evidence)
    if options.format == "html":
        return EXIT_CODES[verdict], html.log_page(outcome, verdict, pictures)
    if options.format == "markdown":
        return EXIT_CODES[verdict], markdown_pages.findings(outcome, verdict, pictures, what="evaluation logs")
    return EXIT_CODES[verdict], terminal.log(outcome, verdict, pictures, what="the evaluation logs", width=width(), colour=colour())


def _with_card(logs: EvalLogs | Missing, card: Path | None) -> EvalLogs | Missing:
    """The logs with the claims of a card; a card that cannot be read is an open question, not a card without claims."""
    if card is None or isinstance(logs, Missing):
        return logs
    return attempt(lambda: with_claims(logs, _paper(card), str(card)), what="reading the card")


def _with_manifest(logs: EvalLogs | Missing, file: Path | None) -> EvalLogs | Missing:
    """The logs held against a manifest; one that cannot be read is a wrong request, as the operator chose it."""
    if file is None or isinstance(logs, Missing):
        return logs
    try:
        manifest = read_manifest(_paper(file, "--manifest", MAX_MANIFEST), str(file))
    except CannotRead as error:
        raise BadRequest(str(error), advice=error.advice) from error
    return replace(logs, identities=(*logs.identities, *held_against(manifest, str(file), logs)))


def _write_manifest(logs: EvalLogs | Missing, file: Path) -> tuple[int, str]:
    """Writes the manifest of what these logs hold. Raises CannotRead, CannotPost."""
    if isinstance(logs, Missing) or not logs.answers:
        why = logs.why if isinstance(logs, Missing) else "there are scores, but no samples file"
        raise CannotRead(f"no manifest was written: {why}", advice="give the samples (--log_samples)")
    try:
        file.write_text(json_v1.dumps(manifest_of(logs)), encoding="utf-8")
    except OSError as error:
        raise CannotPost(f"{file}: {error.strerror}", advice="check --write-manifest") from error
    questions = {group.task: len(group.answers) for group in logs.answers}
    return ExitCode.CONSISTENT, f"{plain(str(file))}: {sum(questions.values())} questions of {len(questions)} tasks\n"


def _teacher(logs: EvalLogs | Missing, options: argparse.Namespace) -> TeacherEvidence | Missing:
    """The behaviour beside that of every --reference, against every --control."""
    if not options.reference:
        if options.control or options.in_domain:
            raise BadRequest("--control and --in-domain belong to --reference", advice="name the candidate teachers' logs too")
        return Missing("no candidate teachers' logs are named (--reference)", kind=Absence.INAPPLICABLE)
    if isinstance(logs, Missing):
        return logs
    candidates, controls = _models(options.reference), _models(options.control)
    broken = [one for one in (*candidates.values(), *controls.values()) if isinstance(one, Missing)]
    if broken:
        return Missing(broken[0].why, advice=broken[0].advice, kind=Absence.BROKEN)
    if both := sorted(set(candidates) & set(controls)):
        raise BadRequest(f"{both[0]}: a reference and a control at once", advice="a control is known not to be the teacher")
    return attempt(lambda: _held(logs, _read(candidates), _read(controls), options), what="comparing the behaviour")


def _held(
    logs: EvalLogs, candidates: Mapping[str, EvalLogs], controls: Mapping[str, EvalLogs], options: argparse.Namespace
) -> TeacherEvidence:
    declared = _declared(options.card) if options.card is not None else None
    return teacher_evidence(logs, candidates, controls, options.in_domain, declared=declared)


def _declared(card: Path) -> tuple[str, ...]:
    """The models that a card names as bases."""
    declaration = declare(card=_paper(card), card_name=str(card), adapter=None, adapter_name="", pin=None)
    return tuple(base.name for base in declaration.bases)


def _models(paths: Sequence[Path]) -> Mapping[str, EvalLogs | Missing]:
    """One model a path, by the name that its logs give it, with the path."""
    models: dict[str, EvalLogs | Missing] = {}
    for path in paths:
        logs = _logs([path])
        named = "" if isinstance(logs, Missing) else logs.model
        models[f"{named} ({path})" if named else str(path)] = logs
    return models


def _read(models: Mapping[str, EvalLogs | Missing]) -> Mapping[str, EvalLogs]:
    return {name: logs for name, logs in models.items() if not isinstance(logs, Missing)}


def _logs(paths: Sequence[Path]) -> EvalLogs | Missing:
    return assemble(files_below(paths, looks_like_evals))


def _paper(path: Path, option: str = "--card", limit: int = SMALL_FILE_BYTES) -> bytes:
    try:
        return read_small(LocalBlob(path), limit)
    except OSError as error:
        raise BadRequest(f"{path}: {error.strerror}", advice=f"check {option}") from error
