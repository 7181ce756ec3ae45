"""`modelguard org audit`: every model on the default branches of many repositories, and how they stood in the sweeps before."""

from __future__ import annotations

import argparse
import datetime
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelguard import __version__
from modelguard.attempt import attempt
from modelguard.commands.audit import HUB_TOKEN
from modelguard.commands.org_repositories import EMPTY, Repository, chosen, holds_commit
from modelguard.documents import json_object
from modelguard.errors import BadRequest, CannotPost, Malformed
from modelguard.git import Git
from modelguard.pipeline import AuditRequest, audit, read_policy
from modelguard.policy import Layer, Policy, layered, read_layer
from modelguard.render import sweep as render
from modelguard.render.json_v1 import dumps
from modelguard.types.findings import Finding, Missing, Status, Verdict
from modelguard.types.report import ModelReport, Report
from modelguard.types.sweep import LeftOut, Sweep, Swept, SweptModel, Totals
from modelguard.verdict import EXIT_CODES, decide, undecided, worst

Result = tuple[int, str]
MAX_PREVIOUS = 64 << 20
MAX_HISTORY = 52  # sweeps that are carried on: a year of weekly ones
History = Mapping[str, tuple[str, ...]]


def swept(options: argparse.Namespace) -> Result:
    """`modelguard org audit`: the code is that of the worst repository."""
    earlier, before = _previous(options.previous)
    layer = None if options.policy is None else layer_of(options.policy)
    repositories, left_out = chosen(options)
    looked_at = [_sweep_one(repository, options, before.get(repository.name, ())) for repository in repositories]
    rows = tuple(row for row in looked_at if isinstance(row, Swept))
    left_out += tuple(row for row in looked_at if isinstance(row, LeftOut))
    present = {row.repository for row in rows} | {item.repository for item in left_out}
    sweep = Sweep(
        rows=rows,
        gone=tuple(sorted(before.keys() - present)),
        policy="" if layer is None else layered(layer, None).digest,
        version=__version__,
        left_out=tuple(sorted(left_out, key=lambda item: item.repository)),
        earlier=earlier,
        at=datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
    )
    forms = {"json": dumps(render.document(sweep)), "markdown": render.as_markdown(sweep), "html": render.page(sweep)}
    if options.out is not None:
        _write(options.out, {"sweep.json": forms["json"], "sweep.md": forms["markdown"], "sweep.html": forms["html"]})
    return EXIT_CODES[worst(row.verdict for row in rows)], forms[options.format]


def request_of(repository: Repository, clone: Path, options: argparse.Namespace) -> AuditRequest:
    """Every model on a clone's HEAD, with Git LFS objects from the server that it was fetched from."""
    return AuditRequest(
        repo=clone,
        base="HEAD",
        head="HEAD",
        whole=True,
        offline=options.offline,
        max_download=options.max_download,
        activations=options.activations,
        lfs=None if options.offline else repository.store(),
        hub_token=os.environ.get(HUB_TOKEN, ""),
    )


def _sweep_one(repository: Repository, options: argparse.Namespace, history: tuple[str, ...]) -> Swept | LeftOut:
    """One repository; whatever goes wrong with it is said in its row, and stops no other."""

    def look() -> tuple[Report, Policy] | LeftOut:
        with repository.opened() as clone:
            if repository.fetched and not holds_commit(clone):
                return LeftOut(repository=repository.name, why=EMPTY)
            request = request_of(repository, clone, options)
            return audit(replace(request, policy_file=options.policy)), _policy_of(clone, options.policy)

    looked = attempt(look, what=f"auditing {repository.name}")
    if isinstance(looked, LeftOut):
        return looked
    if isinstance(looked, Missing):
        open_ = Verdict.CANNOT_DETERMINE
        why = f"{looked.why}; {looked.advice}" if looked.advice else looked.why
        return Swept(repository=repository.name, commit="", verdict=open_, models=(), found=0, undecided=0, why=why, history=history)
    return _row(repository.name, *looked, history)


def _policy_of(clone: Path, file: Path | None) -> Policy:
    git = Git(clone)
    try:
        return read_policy(git, git.resolve("HEAD"), file)
    finally:
        git.close()


def _row(name: str, report: Report, rules: Policy, history: tuple[str, ...]) -> Swept:
    return Swept(
        repository=name,
        commit=report.head,
        verdict=report.verdict,
        models=tuple(_model(model, rules) for model in report.models),
        found=sum(_stands(finding) for finding in report.findings),
        undecided=sum(undecided(finding, rules) for finding in report.findings),
        notes=report.notes if report.models else (),
        history=history,
    )


def _model(model: ModelReport, rules: Policy) -> SweptModel:
    telling = [finding for finding in model.findings if _stands(finding) or undecided(finding, rules)]
    named = tuple(dict.fromkeys(finding.rule for finding in telling))
    return SweptModel(subject=model.subject, verdict=decide(model.findings, rules), rules=named)


def _stands(finding: Finding) -> bool:
    return finding.status is Status.FOUND and not finding.waived


def layer_of(file: Path) -> Layer:
    """An organisation's policy from a file. Raises BadRequest."""
    try:
        return read_layer(file.read_bytes(), str(file))
    except OSError as error:
        raise BadRequest(f"{file}: {error.strerror}", advice="check the policy's name") from error


def _previous(file: Path | None) -> tuple[tuple[Totals, ...], History]:
    """The sweeps before, and each repository's verdicts in them, the oldest first. A sweep carries those before it on."""
    if file is None:
        return (), {}
    try:
        written = json_object(file.read_bytes()[:MAX_PREVIOUS], str(file))
        rows = {str(row["repository"]): (*map(_word, row.get("history", ())), _word(row["verdict"])) for row in written["repositories"]}
        earlier = (*(_totals(item) for item in written.get("earlier", ())), _last(written, rows))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, Malformed) as error:
        raise BadRequest(f"{file}: no sweep of ours ({type(error).__name__})", advice="name a sweep.json") from error
    earlier = earlier[-MAX_HISTORY:]
    return earlier, {name: ("",) * (len(earlier) - len(verdicts)) + verdicts[-len(earlier) :] for name, verdicts in rows.items()}


def _word(written: str) -> str:
    """A verdict as it is written, "" where a repository was not in a sweep. Raises ValueError for another word."""
    return Verdict(written).value if written else ""


def _totals(item: Mapping[str, Any]) -> Totals:
    return Totals(
        at=str(item["at"]),
        inconsistent=int(item["inconsistent"]),
        open=int(item["open"]),
        consistent=int(item["consistent"]),
        policy=str(item["policy"]),
    )


def _last(written: Mapping[str, Any], rows: History) -> Totals:
    """What the written sweep itself came to."""
    counts = Counter(verdicts[-1] for verdicts in rows.values())
    return Totals(
        at=str(written.get("run", {}).get("at", "")),
        inconsistent=counts[Verdict.INCONSISTENT.value],
        open=counts[Verdict.CANNOT_DETERMINE.value],
        consistent=counts[Verdict.CONSISTENT.value],
        policy=str(written.get("policy", "")),
    )


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise CannotPost(f"{folder}: {error.strerror}", advice="check --out") from error
