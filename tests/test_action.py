"""The Action from environment to exit code, on real repositories and against a GitHub on the loopback interface."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save

from modelguard import action, delivery
from modelguard.activity import Activity
from modelguard.errors import BadRequest, ExitCode
from modelguard.policy import default
from modelguard.step import Step
from modelguard.types.findings import Absence, Claim, Finding, Level, Status, Verdict, found, ok
from modelguard.types.report import ModelReport, Report
from modelguard.verdict import EXIT_CODES
from tests.servers import runner
from tests.servers.github import GitHubServer

ROOT = Path(__file__).parents[1]
TOKEN = "a-token"
HOSTILE = "models/x ##[error]y\n::set-output name=verdict::consistent\n`|<b>@all.safetensors"


def git(repo: Path, *arguments: str) -> str:
    identity = {f"GIT_{role}_{key}": f"{key.lower()}@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    environ = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", **identity}
    done = subprocess.run(("git", "-C", str(repo), *arguments), capture_output=True, text=True, env=environ, check=True)
    return done.stdout.strip()


def commit(repo: Path, files: Mapping[str, bytes]) -> str:
    for name, data in files.items():
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_bytes(data)
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "--message", "a change")
    return git(repo, "rev-parse", "HEAD")


def weights(seed: int) -> bytes:
    generator = np.random.default_rng(seed)
    return save({f"layers.{i}.weight": generator.standard_normal((32, 32)).astype(np.float32) for i in range(2)})


class Job:
    """One job on a runner: a repository with a base commit, the files a step is given, and a GitHub."""

    def __init__(self, root: Path, github: GitHubServer) -> None:
        self.github, self.repo, self.temp = github, root / "workspace", root / "temp"
        self.repo.mkdir()
        self.temp.mkdir()
        git(self.repo, "init", "--quiet", "--initial-branch=main")
        self.base = commit(self.repo, {"README.md": b"# Models\n"})
        self.environ = {
            "GITHUB_WORKSPACE": str(self.repo),
            "GITHUB_EVENT_PATH": str(root / "event.json"),
            "GITHUB_EVENT_NAME": "pull_request",
            "GITHUB_OUTPUT": str(root / "output"),
            "GITHUB_STEP_SUMMARY": str(root / "summary.md"),
            "GITHUB_REPOSITORY": github.repository,
            "GITHUB_API_URL": github.url,
            "RUNNER_TEMP": str(self.temp),
            "INPUT_GITHUB-TOKEN": TOKEN,
            "INPUT_ACTIVATIONS": "off",
            "INPUT_FAIL-ON": "",
        }

    def change(self, files: Mapping[str, bytes], *, fork: bool = False) -> str:
        """A pull request, number 7, with these files."""
        head = commit(self.repo, files)
        name = "someone/models" if fork else self.github.repository
        sides = {
            "base": {"sha": self.base, "repo": {"full_name": self.github.repository}},
            "head": {"sha": head, "repo": {"full_name": name}},
        }
        self.event({"pull_request": {"number": 7, **sides}})
        self.github.add_pull(7, head=head, base=self.base, fork=fork)
        return head

    def event(self, payload: object) -> None:
        Path(self.environ["GITHUB_EVENT_PATH"]).write_text(json.dumps(payload))

    def run(self, **inputs: str) -> int:
        given = {f"INPUT_{name.upper().replace('_', '-')}": value for name, value in inputs.items()}
        return action.main({**self.environ, **given})

    @property
    def outputs(self) -> dict[str, str]:
        return runner.outputs(Path(self.environ["GITHUB_OUTPUT"]).read_text())

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads((self.temp / "modelguard/report.json").read_text()))


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with GitHubServer(token=TOKEN) as github:
        yield Job(tmp_path, github)


def finding(claim: Claim, rule: str = "weights-support-base", waived: str = "") -> Finding:
    return Finding(rule=rule, subject="models/m.safetensors", claim=claim, waived=waived)


def report(verdict: Verdict, *findings: Finding) -> Report:
    model = ModelReport(
        subject="models/m.safetensors",
        kind="single",
        files=("models/m.safetensors",),
        declared=(),
        resolved_base="",
        findings=findings,
        exhibits=(),
        weights=None,
        previous=None,
        activations=None,
    )
    return Report(
        verdict=verdict,
        headline="a headline",
        base="b" * 40,
        head="a" * 40,
        models=(model,),
        notes=(),
        policy_digest=default().digest,
        settings=default().settings(),
        version="1",
        reproduce="",
        seconds=0.0,
    )


HIGH = finding(found("the weights do not support the declared base", severity=Level.HIGH, confidence=Level.HIGH, numbers={"n": 1}))
LOW = finding(found("a small thing", severity=Level.LOW, confidence=Level.HIGH, numbers={"n": 1}), "log-gap")
WAIVED = finding(HIGH.claim, waived="known (somebody, until 2099-01-01)")
FINE = finding(ok("looked at"))
OPEN = Finding(rule="r", subject="s", claim=Claim(status=Status.UNKNOWN, text="why", why="why"), absence=Absence.BROKEN)


@pytest.mark.parametrize(
    ("verdict", "findings", "codes"),
    [
        (Verdict.CONSISTENT, (FINE,), {"inconclusive": 0, "violation": 0, "warning": 0, "never": 0}),
        (Verdict.CONSISTENT, (LOW,), {"inconclusive": 0, "violation": 0, "warning": 1, "never": 0}),
        (Verdict.CONSISTENT, (WAIVED,), {"inconclusive": 0, "violation": 0, "warning": 0, "never": 0}),
        (Verdict.CANNOT_DETERMINE, (OPEN,), {"inconclusive": 2, "violation": 0, "warning": 2, "never": 0}),
        (Verdict.CANNOT_DETERMINE, (OPEN, LOW), {"inconclusive": 2, "violation": 0, "warning": 1, "never": 0}),
        (Verdict.INCONSISTENT, (HIGH,), {"inconclusive": 1, "violation": 1, "warning": 1, "never": 0}),
    ],
)
def test_fail_on_decides_what_fails(verdict: Verdict, findings: tuple[Finding, ...], codes: Mapping[str, int]) -> None:
    assert {wish: int(action.exit_code(report(verdict, *findings), wish)) for wish in action.CHOICES["fail-on"]} == codes
    assert action.read_inputs({"INPUT_FAIL-ON": ""}).fail_on == "inconclusive"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FAIL-ON", "always"),
        ("COMMENT", "yes"),
        ("ACTIVATIONS", "true"),
        ("MAX-DOWNLOAD", "a lot"),
        ("MAX-DOWNLOAD", "-1"),
        ("CONFIGURATION", "x"),
        ("POLICY-TOKENS", "x"),
        ("ID", "a b"),
        ("ID", "-->"),
        ("FAIL_ON", "never"),
        ("ARGS", "--help"),
    ],
)
def test_an_input_that_is_not_understood_is_a_bad_request(job: Job, capsys: pytest.CaptureFixture[str], name: str, value: str) -> None:
    with pytest.raises(BadRequest, match=name.lower()):
        action.read_inputs({f"INPUT_{name}": value})
    job.environ[f"INPUT_{name}"] = value
    assert job.run() == ExitCode.BAD_REQUEST
    (error,) = runner.run(capsys.readouterr().out)
    assert name.lower() in error.data
    assert job.outputs == {"verdict": "cannot-determine"}


def test_inputs_that_are_understood(job: Job) -> None:
    plain = action.read_inputs({"INPUT_FAIL-ON": "", "INPUT_REGISTRY": "", "OTHER": "x"})
    assert (plain.token, plain.fail_on, plain.comment, plain.activations, plain.max_download) == ("", "inconclusive", "", "auto", None)
    sizes = {"0": 0, "17": 17, "20GiB": 20 << 30, "3 mib": 3 << 20}
    assert {text: action.read_inputs({"INPUT_MAX-DOWNLOAD": text}).max_download for text in sizes} == sizes
    secret = action.read_inputs({"INPUT_GITHUB-TOKEN": "ghs_secret"})
    assert secret.token == "ghs_secret"
    assert "secret" not in repr(secret)


def test_a_pull_request_that_touches_no_model_gets_no_comment_unless_asked(job: Job) -> None:
    job.change({"src/main.py": b"pass\n"})
    code = job.run()
    assert code == EXIT_CODES[Verdict(job.outputs["verdict"])]
    assert not job.github.comments(7)
    assert job.run(comment="always") == code
    assert len(job.github.comments(7)) == 1


def test_a_model_is_audited_and_said_so_everywhere(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    head = job.change({"models/m.safetensors": weights(1), "models/README.md": b"# a model\n"})
    code = job.run()
    assert code in (0, 1, 2)
    outputs, document, (comment,) = job.outputs, job.document, job.github.comments(7)
    assert code == EXIT_CODES[Verdict(outputs["verdict"])]
    assert outputs["verdict"] == document["verdict"]
    assert outputs["report-path"] == str(job.temp / "modelguard/report.json")
    assert outputs["comment-url"].endswith(f"#issuecomment-{comment.id}")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", outputs["policy-digest"])
    assert outputs["findings-count"].isdecimal()
    assert comment.body.startswith(f"<!-- modelguard:comment id=default head={head} verdict={outputs['verdict']} -->\n")
    page, results = Path(outputs["html-path"]).read_text(), json.loads(Path(outputs["sarif-path"]).read_text())
    assert page.startswith("<!doctype html>")
    assert head[:12] in page
    assert results["runs"][0]["properties"]["verdict"] == outputs["verdict"]
    summary = Path(job.environ["GITHUB_STEP_SUMMARY"]).read_text()
    assert summary.strip() == (job.temp / "modelguard/report.md").read_text().strip()
    assert summary.strip() in comment.body
    assert "Traceback" not in capsys.readouterr().out


def test_a_second_run_edits_the_same_comment(job: Job) -> None:
    job.change({"models/m.safetensors": weights(1)})
    job.run()
    first = job.outputs["comment-url"]
    head = job.change({"models/m.safetensors": weights(2)})
    job.run()
    (comment,) = job.github.comments(7)
    assert f"head={head}" in comment.body
    assert job.outputs["comment-url"] == first


def test_a_fork_cannot_be_commented_on_and_nothing_else_changes(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    job.change({"models/m.safetensors": weights(1)}, fork=True)
    allowed = job.run()
    verdict = job.outputs["verdict"]
    Path(job.environ["GITHUB_OUTPUT"]).unlink()
    job.github.refuse("POST", 403)
    job.github.refuse("PATCH", 403)
    capsys.readouterr()
    job.change({"models/m.safetensors": weights(2)}, fork=True)
    assert job.run() == allowed
    assert (job.outputs["verdict"], "comment-url" in job.outputs) == (verdict, False)
    (warning,) = [command for command in runner.run(capsys.readouterr().out) if command.name == "warning"]
    assert "403" in warning.data
    assert "fork" in warning.data


@pytest.mark.parametrize("wish", [{"comment": "never"}, {"github_token": ""}])
def test_no_comment_is_no_request(job: Job, wish: dict[str, str]) -> None:
    job.change({"models/m.safetensors": weights(1)})
    job.run(**wish)
    assert not job.github.requests
    assert "comment-url" not in job.outputs


def test_hostile_names_are_no_commands_and_no_markup(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    job.change({HOSTILE: b"\x08\0\0\0\0\0\0\0{garbage", "models/ok.safetensors": weights(3)})
    assert job.run() in (1, 2)
    written = capsys.readouterr()
    assert {command.name for command in runner.run(written.out)} <= {"error", "warning"}
    said = {command.name for line in written.out.splitlines() for command in runner.parse(line)}
    assert len(said - {"error", "warning", "stop-commands"}) == 1  # the token that ends the pause, and nothing of the name's
    assert "Traceback" not in written.out + written.err
    assert not any(line.startswith((r"\x3a", "`|<b>")) for line in written.out.splitlines())  # no name begins a line of its own
    (comment,) = job.github.comments(7)
    assert HOSTILE not in comment.body
    assert "##[error]" not in "".join(job.outputs.values())


def test_commits_that_are_not_there_are_a_bad_request_with_advice(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    job.event({"before": "1" * 40, "after": job.base})
    job.environ["GITHUB_EVENT_NAME"] = "push"
    assert job.run() == ExitCode.BAD_REQUEST
    (error,) = runner.run(capsys.readouterr().out)
    assert "fetch-depth: 0" in error.data


def test_a_push_without_new_commits_has_nothing_to_look_at(job: Job) -> None:
    job.event({"before": job.base, "after": "0" * 40})
    job.environ["GITHUB_EVENT_NAME"] = "push"
    assert job.run() == 0
    assert job.outputs["findings-count"] == "0"


def test_a_merge_group_is_audited_and_answers_on_no_pull_request(job: Job) -> None:
    head = commit(job.repo, {"models/m.safetensors": weights(1)})
    job.event({"action": "checks_requested", "merge_group": {"base_sha": job.base, "head_sha": head}})
    job.environ["GITHUB_EVENT_NAME"] = "merge_group"
    code = job.run()
    assert code == EXIT_CODES[Verdict(job.outputs["verdict"])]
    assert [model["subject"] for model in job.document["models"]] == ["models/m.safetensors"]
    assert not job.github.requests


def test_a_schedule_audits_every_model_of_the_default_branch(job: Job) -> None:
    commit(job.repo, {"models/a.safetensors": weights(1)})
    commit(job.repo, {"models/b.safetensors": weights(2)})
    job.environ["GITHUB_SHA"] = commit(job.repo, {"README.md": b"# Now\n"})
    job.event({"schedule": "0 3 * * 1"})
    job.environ["GITHUB_EVENT_NAME"] = "schedule"
    assert job.run() in (1, 2)
    assert sorted(model["subject"] for model in job.document["models"]) == ["models/a.safetensors", "models/b.safetensors"]
    assert "--whole" in str(job.document["reproduce"])


def second_stage(job: Job, head: str) -> None:
    """The event of a fork's first stage that ended."""
    run = {"event": "pull_request", "head_sha": head, "head_branch": "topic", "head_repository": {"full_name": "someone/models"}}
    job.event({"repository": {"full_name": job.github.repository}, "workflow_run": {**run, "pull_requests": []}})
    job.environ["GITHUB_EVENT_NAME"] = "workflow_run"


def test_the_second_stage_finds_the_forks_pull_request_and_comments(job: Job) -> None:
    head = job.change({"models/m.safetensors": weights(1)}, fork=True)
    second_stage(job, head)
    assert job.run() == EXIT_CODES[Verdict(job.outputs["verdict"])]
    (comment,) = job.github.comments(7)
    assert f"head={head}" in comment.body
    assert "memory" in job.document["run"]["confined"]


@pytest.mark.parametrize("event", ["pull_request", "pull_request_target"])
def test_in_the_bases_context_files_are_opened_without_secrets(job: Job, capsys: pytest.CaptureFixture[str], event: str) -> None:
    job.change({"models/m.safetensors": weights(1)}, fork=True)
    job.environ["GITHUB_EVENT_NAME"] = event
    assert job.run() == EXIT_CODES[Verdict(job.outputs["verdict"])]
    assert ("confined" in job.document["run"]) == (event == "pull_request_target")
    assert ("  confined: models/m.safetensors: " in capsys.readouterr().out) == (event == "pull_request_target")
    told = {finding["rule"]: finding["status"] for finding in job.document["findings"]}
    assert told["checkpoint-readable"] == "ok"


def test_the_second_stage_of_a_commit_that_no_pull_request_stands_at_says_so(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    head = job.change({"models/m.safetensors": weights(1)}, fork=True)
    second_stage(job, head)
    job.github.add_pull(7, head="c" * 40, fork=True)
    assert job.run() == ExitCode.CANNOT_DETERMINE
    (error,) = runner.run(capsys.readouterr().out)
    assert "stand at" in error.data
    assert job.run(github_token="") == ExitCode.BAD_REQUEST
    assert not job.github.comments(7)


def test_what_blocks_has_a_review_thread_until_it_is_gone(job: Job) -> None:
    doing = Activity(event="pull_request", base="b" * 40, head="a" * 40, number=7)
    job.github.add_pull(7, head="a" * 40)
    wish = delivery.Wish(token=TOKEN, comment="")
    delivery.deliver(report(Verdict.INCONSISTENT, HIGH, HIGH, LOW, WAIVED, OPEN), doing, wish, Step(job.environ))
    (thread,) = job.github.threads(7)  # two findings of one rule on one subject share it; what does not block has none
    assert thread.path == "models/m.safetensors"
    assert thread.body.count("do not support the declared base") == 2
    assert "small thing" not in thread.body
    delivery.deliver(report(Verdict.CONSISTENT, FINE), doing, wish, Step(job.environ))
    assert thread.resolved
    assert len(job.github.threads(7)) == 1


def test_a_pull_request_that_stops_touching_models_keeps_one_line(job: Job) -> None:
    job.change({"models/m.safetensors": weights(1)})
    job.run()
    git(job.repo, "rm", "--quiet", "models/m.safetensors")
    head = job.change({"src/main.py": b"pass\n"})
    assert job.run() == 0
    (comment,) = job.github.comments(7)
    assert comment.body.splitlines()[1] == f"✅ modelguard: no model files changed as of `{head[:12]}`."
    assert "the previous verdict" in comment.body
    assert len(job.github.requests) <= 12


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_an_event_that_cannot_be_read_is_a_bad_request(job: Job, content: bytes | None) -> None:
    path = Path(job.environ["GITHUB_EVENT_PATH"])
    path.write_bytes(content) if content is not None else path.unlink(missing_ok=True)
    assert job.run() == ExitCode.BAD_REQUEST


def test_a_crash_is_two_and_one_line(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    job.change({"models/m.safetensors": weights(1)})
    job.environ["GITHUB_STEP_SUMMARY"] = str(job.repo)  # a directory cannot be appended to
    assert job.run(fail_on="never") == ExitCode.CANNOT_DETERMINE
    written = capsys.readouterr().out
    commands = runner.run(written)
    assert [command.name for command in commands] == ["error"]
    assert "Traceback" not in written
    assert "crashed (IsADirectoryError)" in commands[0].data
    assert job.outputs["verdict"] == "cannot-determine"
    job.environ["MODELGUARD_DEBUG"] = "1"
    assert job.run() == ExitCode.CANNOT_DETERMINE
    assert "Traceback (most recent call last):" in capsys.readouterr().out
    job.environ["GITHUB_OUTPUT"] = str(job.repo)
    assert job.run(fail_on="never") == ExitCode.CANNOT_DETERMINE


def test_a_planted_link_is_replaced_not_followed(job: Job, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("untouched")
    del job.environ["RUNNER_TEMP"]
    job.change({"src/main.py": b"pass\n"})
    folder = job.repo / ".modelguard-report"
    folder.mkdir()
    (folder / "report.json").symlink_to(precious)
    job.run(comment="never")
    assert precious.read_text() == "untouched"
    assert json.loads((folder / "report.json").read_text())
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path)
    assert job.run(comment="never") == ExitCode.BAD_REQUEST
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize("count", [0, 1, 10, 11, 40])
def test_blocking_findings_are_annotated_up_to_ten(count: int) -> None:
    lines = list(delivery.blocking_annotations(report(Verdict.INCONSISTENT, *[HIGH] * count, LOW, WAIVED, FINE, OPEN)))
    commands = [command for line in lines for command in runner.parse(line)]
    assert len(lines) == len(commands) == min(count, 10)
    assert all(command.name == "error" for command in commands)
    if count:
        assert commands[0].properties == {"file": "models/m.safetensors", "title": "modelguard weights-support-base"}
        assert "do not support" in commands[0].data
    if count > 10:
        assert commands[-1].data.startswith(f"{count - 9} more")


@pytest.mark.parametrize(
    ("wish", "verdict", "findings", "expected"),
    [
        ("on-findings", Verdict.CONSISTENT, (FINE,), False),
        ("on-findings", Verdict.CONSISTENT, (LOW,), True),
        ("on-findings", Verdict.CANNOT_DETERMINE, (OPEN,), True),
        ("always", Verdict.CONSISTENT, (FINE,), True),
        ("", Verdict.CONSISTENT, (FINE,), True),
    ],
)
def test_when_a_comment_is_begun(wish: str, verdict: Verdict, findings: tuple[Finding, ...], expected: bool) -> None:
    assert delivery.worth_a_comment(report(verdict, *findings), wish) is expected


def entrypoint(*options: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, *options, str(ROOT / "entrypoint.py"))
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **environ}, check=False)


def test_the_entry_point_returns_the_code_of_the_action(job: Job) -> None:
    done = entrypoint(environ={})
    assert (done.returncode, done.stderr) == (ExitCode.BAD_REQUEST, "")
    job.change({"src/main.py": b"pass\n"})
    done = entrypoint(environ={**job.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == EXIT_CODES[Verdict(job.outputs["verdict"])]
    assert done.stderr == ""


def test_an_entry_point_that_cannot_start_is_two_and_one_line() -> None:
    done = entrypoint("-I", "-S", environ={})
    assert done.returncode == ExitCode.CANNOT_DETERMINE
    assert done.stdout == "::error title=modelguard::could not run (ModuleNotFoundError)\n"
    assert done.stderr == ""


def test_action_yml_lists_exactly_what_is_implemented() -> None:
    document = yaml.safe_load((ROOT / "action.yml").read_text())
    assert set(document["inputs"]) == set(action.INPUTS)
    assert not any("default" in entry for entry in document["inputs"].values())
    assert all(entry["description"] and entry["required"] is False for entry in document["inputs"].values())
    assert list(document["outputs"]) == [
        "verdict",
        "findings-count",
        "report-path",
        "sarif-path",
        "html-path",
        "policy-digest",
        "comment-url",
    ]
    assert document["runs"] == {"using": "docker", "image": "Dockerfile"}


def test_the_image_copies_only_what_it_installs() -> None:
    text = (ROOT / "Dockerfile").read_text()
    stages = re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE)
    assert stages == ["common", "full", "slim"]
    assert 'ENTRYPOINT ["python", "/entrypoint.py"]' in text
    assert not re.search(r"^(USER|WORKDIR)\b", text, re.MULTILINE)
    assert re.search(r"^COPY \. ", text, re.MULTILINE) is None


HOOK_FILES = {
    "models/a.safetensors": True,
    "model-00001-of-00002.safetensors": True,
    "model.safetensors.index.json": True,
    "x/pytorch_model.BIN": True,
    "m.gguf": True,
    "adapter_config.json": True,
    "x/config.json": True,
    "x/trainer_state.json": True,
    "README.md": True,
    "runs/events.out.tfevents.1.host": True,
    "train_log.jsonl": True,
    ".modelguard.yml": True,
    "src/main.py": False,
    "package.json": False,
    "docs/guide.md": False,
    "tokenizer.json": False,
}


def test_the_hooks_are_as_pre_commit_wants_them() -> None:
    hooks = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    assert {name: hook["entry"] for name, hook in hooks.items()} == {
        "modelguard": "modelguard hook --staged",
        "modelguard-deep": "modelguard hook --push",
    }
    assert hooks["modelguard"]["stages"] == ["pre-commit", "pre-merge-commit", "manual"]
    assert hooks["modelguard-deep"]["stages"] == ["pre-push", "manual"]
    for hook in hooks.values():
        assert (hook["language"], hook["pass_filenames"], hook["require_serial"]) == ("python", False, True)
        assert hook["minimum_pre_commit_version"] == "3.2.0"
        search: Callable[[str], object] = re.compile(hook["files"]).search
        assert {name: bool(search(name)) for name in HOOK_FILES} == HOOK_FILES
