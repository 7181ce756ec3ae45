"""`modelguard audit`, and the same for what is about to be pushed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from modelguard import pipeline, report_files
from modelguard.blobs.lfs_remote import OWN_TOKEN, store_at
from modelguard.commands.inputs import colour, width
from modelguard.declaration import pinnable
from modelguard.errors import CannotPost, ExitCode
from modelguard.progress import shown
from modelguard.render import html, json_v1, markdown, terminal
from modelguard.types.report import Report
from modelguard.verdict import EXIT_CODES

HUB_TOKEN = "MODELGUARD_HUB_TOKEN"
Result = tuple[int, str]


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
            models=tuple(options.models),
            base_model=pinnable(options.base_model, "--base-model"),
            hub_token=os.environ.get(HUB_TOKEN, ""),
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


def _shown(report: Report, form: str) -> str:
    written: Mapping[str, Callable[[Report], str]] = {
        "json": lambda report: json_v1.dumps(json_v1.audit_document(report)),
        "markdown": markdown.comment,
        "sarif": report_files.as_sarif,
        "html": html.page,
    }
    return written[form](report) if form in written else terminal.report(report, width=width(), colour=colour())
