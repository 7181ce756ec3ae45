"""Runs the real command on a pull request and shows what it says, as GitHub would."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.pull_requests import PullRequest

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px/1.5 -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; color: #1f2328; background: #fff; }}
main {{ max-width: 820px; margin: 32px auto; border: 1px solid #d1d9e0; border-radius: 6px; padding: 16px 24px; }}
h1, h2 {{ border-bottom: 1px solid #d1d9e0; padding-bottom: .3em; }} h3 {{ font-size: 1.1em; }}
code {{ background: #818b981f; border-radius: 6px; padding: .2em .4em; font: 85% ui-monospace, Menlo, Consolas, monospace; }}
pre {{ background: #f6f8fa; border-radius: 6px; padding: 16px; overflow: auto; }} pre code {{ background: none; padding: 0; }}
table {{ border-collapse: collapse; display: block; overflow: auto; }} th, td {{ border: 1px solid #d1d9e0; padding: 6px 13px; }}
tr:nth-child(2n) {{ background: #f6f8fa; }} blockquote {{ color: #59636e; border-left: .25em solid #d1d9e0; margin: 0; padding: 0 1em; }}
</style>
<main>
{body}
</main>
</html>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the command said about one pull request."""

    exit_code: int
    report: Mapping[str, Any]
    comment: str
    complaints: str

    @property
    def verdict(self) -> str:
        return str(self.report.get("verdict", "no report"))

    @property
    def found(self) -> tuple[str, ...]:
        """The rules that found something, in the report's order."""
        return tuple(dict.fromkeys(row["rule"] for row in self.report.get("findings", ()) if row["status"] == "found"))


def audit(repository: Path, request: PullRequest, out: Path, endpoint: str, cache: Path) -> Answer:
    """`modelguard audit` in a process of its own, against the hub at `endpoint`."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache)}
    done = subprocess.run(command(repository, request, out), env=environment, capture_output=True, text=True, check=False)
    report, comment = out / "report.json", out / "comment.md"
    answer = Answer(
        exit_code=done.returncode,
        report=json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {},
        comment=comment.read_text(encoding="utf-8") if comment.is_file() else done.stdout,
        complaints=done.stderr,
    )
    (out / "comment.html").write_text(page(request.title, answer.comment), encoding="utf-8")
    return answer


def command(repository: Path, request: PullRequest, out: Path) -> tuple[str, ...]:
    """The command line of one audit."""
    installed = Path(sys.executable).with_name("modelguard")
    program = str(installed) if installed.is_file() else "modelguard"
    where = ("--repo", str(repository), "--base", "main", "--head", request.branch)
    return (program, "audit", *where, "--out", str(out), "--format", "markdown")


def first_look(comment: str) -> str:
    """The comment with its folded parts folded, as it meets the eye on GitHub."""
    return re.sub(r"<details><summary>(.*?)</summary>.*?</details>", r"▸ \1", comment, flags=re.DOTALL)


def page(title: str, comment: str) -> str:
    """The comment as a page, rendered with GitHub's own Markdown library and its extensions."""
    import cmarkgfm  # type: ignore[import-untyped]
    from cmarkgfm.cmark import Options  # type: ignore[import-untyped]

    body = cmarkgfm.github_flavored_markdown_to_html(comment, options=Options.CMARK_OPT_UNSAFE)
    return PAGE.format(title=title, body=body)


def differences(request: PullRequest, answer: Answer) -> tuple[str, ...]:
    """How an answer differs from the one that the pull request must get."""
    expected = {"verdict": (request.verdict, answer.verdict), "exit code": (request.exit_code, answer.exit_code)}
    wrong = [f"{what} {got}, expected {want}" for what, (want, got) in expected.items() if want != got]
    if request.rule and request.rule not in answer.found:
        wrong.append(f"{request.rule} found nothing")
    others = {"weights-base-mismatch", "log-gap"} - {request.rule}
    wrong += [f"{rule} found something that is not there" for rule in sorted(others & set(answer.found))]
    return tuple(wrong)
