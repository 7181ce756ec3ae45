"""`modelguard log`."""

from __future__ import annotations

import argparse
import posixpath
from pathlib import Path

import msgspec

from modelguard import pipeline
from modelguard.adapted import AdapterOnBase
from modelguard.attempt import attempt
from modelguard.blobs.base import SMALL_FILE_BYTES, Folder, read_small
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.base import Checkpoint, nbytes
from modelguard.checkpoints.optimizer_state import completed_by, optimizer_state_beside
from modelguard.checkpoints.peft import is_adapter
from modelguard.checks.base import select
from modelguard.commands.inputs import colour, files_below, policy_of, width
from modelguard.displacement.against_log import held_against, with_doubts
from modelguard.displacement.settings import settings_of
from modelguard.errors import BadRequest
from modelguard.exhibits import exhibits
from modelguard.fingerprint.compare import compare
from modelguard.logs.base import assemble, looks_like_log
from modelguard.logs.continuity import checkpoint_step
from modelguard.logs.hf_trainer import FILE_NAME, read
from modelguard.partial_evidence import only_log
from modelguard.policy import Policy
from modelguard.progress import shown
from modelguard.references import Reach, open_reference
from modelguard.render import html, json_v1, markdown_pages, terminal
from modelguard.types.displacement import Displacement
from modelguard.types.findings import Missing
from modelguard.types.logs import TrainingLog
from modelguard.types.optimizer_state import OptimizerState
from modelguard.verdict import EXIT_CODES, decide

CARD = "README.md"
Result = tuple[int, str]


def check_logs(options: argparse.Namespace) -> Result:
    """`modelguard log`."""
    rules = policy_of(options.policy)
    log = assemble(files_below(options.paths, looks_like_log))
    beside: dict[str, object] = {}
    if options.checkpoint is not None or options.base_checkpoint is not None:
        beside = _held_against(log, options)
        rules = _requiring(rules, "displacement")
    evidence = only_log(log, **beside)
    checks = tuple(check for check in select(rules) if set(check.wants) <= {"log", *beside})
    subject = str(options.paths[0]) if len(options.paths) == 1 else f"{len(options.paths)} paths"
    outcome = pipeline.examine(evidence, subject, checks, rules)
    verdict = decide(outcome, rules)
    if options.format == "json":
        text = json_v1.dumps(json_v1.log_document(None if isinstance(log, Missing) else log, outcome, verdict))
    elif options.format == "html":
        text = html.log_page(outcome, verdict, exhibits(evidence))
    elif options.format == "markdown":
        text = markdown_pages.findings(outcome, verdict, exhibits(evidence), what="training log")
    else:
        text = terminal.log(outcome, verdict, exhibits(evidence), width=width(), colour=colour())
    return EXIT_CODES[verdict], text


def _held_against(log: TrainingLog | Missing, options: argparse.Namespace) -> dict[str, object]:
    """The evidence beside the log: the checkpoint's way from its base, and the optimizer's state in its folder."""
    if options.checkpoint is None or options.base_checkpoint is None:
        raise BadRequest("--checkpoint and --base-checkpoint belong together", advice="name both, or neither")
    if isinstance(log, Missing):
        return {"displacement": log, "optimizer_state": log}
    with shown(quiet=options.quiet) as progress:
        reach = Reach(repo=options.repo, offline=options.offline, max_download=options.max_download, progress=progress)
        opened = attempt(lambda: open_reference(options.checkpoint, reach), what="opening the checkpoint")
        if isinstance(opened, Missing):
            return {"displacement": opened, "optimizer_state": opened}
        state = optimizer_state_beside(opened[0], _as_named(opened[0], log))
        moved = attempt(lambda: _moved(opened, state, log, options, reach), what="holding the log against the weights")
        return {"displacement": moved, "optimizer_state": state}


def _as_named(folder: Folder, log: TrainingLog) -> str:
    """A folder as the paths of the logs in it name it; its own name where none of the logs lies in it."""
    place = folder.own if isinstance(folder, AdapterOnBase) else folder
    inside = place.path.resolve() if isinstance(place, LocalFolder) else None
    return next((posixpath.dirname(run.source) for run in log.runs if Path(run.source).parent.resolve() == inside), place.ref)


def _moved(
    opened: tuple[Folder, Checkpoint], state: OptimizerState | Missing, log: TrainingLog, options: argparse.Namespace, reach: Reach
) -> Displacement | Missing:
    """The displacement of the opened checkpoint from its base. The papers beside it and the optimizer's own state say how it was trained.

    The two are compared only where something speaks against the log, to see what but training would explain it.
    """
    folder, ours = opened
    if isinstance(folder, AdapterOnBase) or is_adapter(ours):
        return Missing("the adapter's factors were trained, not the matrices that they are added to: no bound on their product is known")
    _, theirs = open_reference(options.base_checkpoint, reach)
    card = read_small(folder.open(CARD)) if CARD in folder.sizes else None
    settings = settings_of(folder, card, f"{folder.ref}/{CARD}")
    if not isinstance(state, Missing):
        settings = completed_by(settings, state)
    total, done = nbytes(ours) + nbytes(theirs), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if reach.progress is not None:
            reach.progress("holding the log against the weights", min(done, total), total)

    found = held_against(ours, theirs, log, settings, reached=_reached(options.checkpoint, folder), advance=advance)
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


def _requiring(policy: Policy, evidence: str) -> Policy:
    """The policy with one more piece of evidence that may not be absent: an operator who asks a question wants it answered."""
    required = tuple(dict.fromkeys((*policy.require, evidence)))
    return msgspec.structs.replace(policy, document=msgspec.structs.replace(policy.document, require=required))
