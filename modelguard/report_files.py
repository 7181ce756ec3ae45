"""The report's files, beside one another in one folder, whichever door writes them."""

from __future__ import annotations

from pathlib import Path

from modelguard.checks.base import all_checks
from modelguard.render import html, json_v1, sarif
from modelguard.types.report import Report

JSON, SARIF, HTML = "report.json", "report.sarif", "report.html"


def as_sarif(report: Report) -> str:
    """The report as SARIF 2.1.0, with every rule of this version."""
    return sarif.sarif(report, all_checks())


def write(report: Report, folder: Path) -> None:
    """Writes report.json, report.sarif and report.html. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / JSON, json_v1.dumps(json_v1.audit_document(report)))
    write_file(folder / SARIF, as_sarif(report))
    write_file(folder / HTML, html.page(report))


def write_file(path: Path, text: str) -> None:
    """A new file in place of whatever was there: a link is replaced, never followed."""
    path.unlink(missing_ok=True)
    with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
