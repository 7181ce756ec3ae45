"""The Action on runners that check nothing out: a real git server and a GitHub on the loopback interface, from event to comment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from modelguard.errors import ExitCode
from modelguard.types.findings import Verdict
from modelguard.verdict import EXIT_CODES
from tests.repositories import pointer
from tests.servers import runner
from tests.servers.files import file_server
from tests.servers.git_http import GitServer, git_server
from tests.servers.github import GitHubServer
from tests.test_action import TOKEN, Job, commit, git, weights

MAX_CALLS = 30
CARD = b"---\nbase_model: lab/base\n---\n# a model\n"


class Remote(Job):
    """A job whose workspace is empty; its repository stands on the git server, with the refs that GitHub keeps for pull requests."""

    def __init__(self, root: Path, github: GitHubServer, server: GitServer) -> None:
        super().__init__(root, github)
        self.server, self.workspace = server, root / "empty"
        self.workspace.mkdir()
        place = server.root / f"{github.repository}.git"
        place.parent.mkdir(parents=True)
        place.symlink_to(self.repo)
        git(self.repo, "config", "uploadpack.allowFilter", "true")
        git(self.repo, "config", "uploadpack.allowAnySHA1InWant", "true")
        self.environ |= {
            "GITHUB_SERVER_URL": server.url,
            "GITHUB_WORKSPACE": str(self.workspace),
            "MODELGUARD_TRUSTED_ORIGINS": server.url,
        }

    def change(self, files: Mapping[str, bytes], *, fork: bool = False) -> str:
        head = super().change(files, fork=fork)
        git(self.repo, "update-ref", "refs/pull/7/head", head)
        return head

    def started_by(self, event: str, payload: object = None) -> None:
        self.environ["GITHUB_EVENT_NAME"] = event
        if payload is not None:
            self.event(payload)

    @property
    def left(self) -> list[str]:
        """What the run left on the runner."""
        return sorted(path.name for path in self.temp.iterdir())


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Remote]:
    with GitHubServer(token=TOKEN) as github, git_server(tmp_path / "served", TOKEN) as server:
        yield Remote(tmp_path, github, server)


def essence(document: dict[str, Any]) -> dict[str, Any]:
    """A report without what a clock wrote."""
    return {key: value for key, value in document.items() if key not in ("run", "seconds")}


def test_a_forks_pull_request_is_audited_in_the_bases_context_without_checkout(job: Remote) -> None:
    head = job.change({"models/m.safetensors": weights(1), "models/README.md": CARD}, fork=True)
    job.started_by("pull_request_target")
    assert job.run() == EXIT_CODES[Verdict(job.outputs["verdict"])]
    (comment,) = job.github.comments(7)
    assert f"head={head}" in comment.body
    assert [model["subject"] for model in job.document["models"]] == ["models/m.safetensors"]
    assert job.left == ["modelguard"]
    assert list(job.workspace.iterdir()) == []
    assert len(job.github.requests) <= MAX_CALLS
    assert len(job.server.asked) <= MAX_CALLS


@pytest.mark.parametrize("files", [{"models/m.safetensors": weights(1), "models/README.md": CARD}, {"src/main.py": b"pass\n"}])
def test_what_is_fetched_is_judged_as_what_is_checked_out(job: Remote, files: dict[str, bytes]) -> None:
    job.change(files)
    fetched = job.run(comment="never"), essence(job.document)
    assert job.server.asked
    job.server.asked.clear()
    job.environ["GITHUB_WORKSPACE"] = str(job.repo)
    assert (job.run(comment="never"), essence(job.document)) == fetched
    assert job.server.asked == []


def test_what_lies_in_the_workspace_of_a_job_with_rights_is_not_believed(job: Remote) -> None:
    """An earlier step checked a stranger's repository out: commits under the same names, and settings that run programs."""
    job.change({"models/m.safetensors": b"\x08\0\0\0\0\0\0\0{garbage"}, fork=True)
    git(job.workspace, "init", "--quiet")
    commit(job.workspace, {"README.md": b"# Nothing to see\n"})
    canary = job.temp / "canary"
    (job.workspace / ".git/config").write_text(f"[core]\n\tfsmonitor = touch {canary}\n\tsshCommand = touch {canary}\n")
    job.started_by("pull_request_target")
    assert job.run(comment="never") == ExitCode.CANNOT_DETERMINE
    assert [model["subject"] for model in job.document["models"]] == ["models/m.safetensors"]
    assert not canary.exists()


def test_the_heads_policy_links_and_submodules_steer_nothing(job: Remote) -> None:
    job.base = commit(job.repo, {".modelguard.yml": b"version: 1\nrequire: [log]\n"})
    (job.repo / "models").mkdir()
    (job.repo / "models/link.safetensors").symlink_to("/etc/passwd")
    job.change({".modelguard.yml": b"version: 1\nrules: {}\n", "models/m.safetensors": weights(1)}, fork=True)
    job.started_by("pull_request_target")
    assert job.run(comment="never") == ExitCode.CANNOT_DETERMINE
    notes = job.document["notes"]
    assert "this change edits .modelguard.yml: it was judged under the base version" in notes
    assert "models/link.safetensors: a symbolic link or submodule, not followed" in notes


@pytest.mark.parametrize("event", ["push", "merge_group", "workflow_dispatch", "schedule"])
def test_every_other_event_needs_no_checkout_either(job: Remote, event: str) -> None:
    head = commit(job.repo, {"models/m.safetensors": weights(1)})
    job.environ["GITHUB_SHA"] = head
    payloads: dict[str, object] = {
        "push": {"before": "0" * 40, "after": head, "commits": [{"id": head}]},
        "merge_group": {"action": "checks_requested", "merge_group": {"base_sha": job.base, "head_sha": head}},
        "workflow_dispatch": {"inputs": {"base": job.base, "head": head}},
        "schedule": {"schedule": "0 3 * * 1"},
    }
    job.started_by(event, payloads[event])
    assert job.run() == EXIT_CODES[Verdict(job.outputs["verdict"])]
    assert [model["subject"] for model in job.document["models"]] == ["models/m.safetensors"]
    assert {request.path for request in job.github.requests} <= {"/repos/org/models/check-runs"}


def test_a_token_that_will_not_do_is_two_and_one_line(job: Remote, capsys: pytest.CaptureFixture[str]) -> None:
    job.change({"models/m.safetensors": weights(1)})
    job.server.token = "another"
    assert job.run() == ExitCode.CANNOT_DETERMINE
    written = capsys.readouterr().out
    (error,) = runner.run(written)
    assert "the token was refused" in error.data
    assert "contents: read" in error.data
    assert TOKEN not in written
    assert job.outputs == {"verdict": "cannot-determine"}
    assert job.left == []
    assert job.run(github_token="") == ExitCode.CANNOT_DETERMINE
    (error,) = runner.run(capsys.readouterr().out)
    assert "a token is needed" in error.data


def test_a_pull_request_that_moved_on_is_left_to_its_next_run(job: Remote, capsys: pytest.CaptureFixture[str]) -> None:
    job.change({"models/m.safetensors": weights(1)}, fork=True)
    git(job.repo, "update-ref", "refs/pull/7/head", commit(job.repo, {"models/m.safetensors": weights(2)}))
    job.started_by("pull_request_target")
    assert job.run() == ExitCode.CANNOT_DETERMINE
    (error,) = runner.run(capsys.readouterr().out)
    assert "stands at" in error.data
    assert not job.github.comments(7)


def test_objects_behind_pointers_come_from_the_lfs_server(job: Remote) -> None:
    content = weights(1)
    with file_server() as files:

        def batch(body: bytes) -> tuple[int, bytes]:
            (asked,) = json.loads(body)["objects"]
            return 200, json.dumps({"objects": [{**asked, "actions": {"download": {"href": f"{files.url}/{asked['oid']}"}}}]}).encode()

        files.posts["/lfs/objects/batch"] = batch
        files.content[f"/{hashlib.sha256(content).hexdigest()}"] = content
        job.environ |= {"MODELGUARD_LFS_URL": f"{files.url}/lfs", "MODELGUARD_TRUSTED_ORIGINS": f"{job.server.url} {files.url}"}
        job.change({"models/m.safetensors": pointer(content)})
        job.run(comment="never")
    (model,) = job.document["models"]
    readable = next(found for found in model["findings"] if found["rule"] == "checkpoint-readable")
    assert readable["status"] == "ok"


def second_stage(job: Remote, head: str) -> None:
    """The event of a fork's first stage that ended."""
    run = {"event": "pull_request", "head_sha": head, "head_branch": "topic", "head_repository": {"full_name": "someone/models"}}
    job.event({"repository": {"full_name": job.github.repository}, "workflow_run": {**run, "pull_requests": []}})
    job.environ["GITHUB_EVENT_NAME"] = "workflow_run"


def test_the_second_stage_finds_the_forks_pull_request_and_comments(job: Remote) -> None:
    head = job.change({"models/m.safetensors": weights(1)}, fork=True)
    second_stage(job, head)
    assert job.run() == EXIT_CODES[Verdict(job.outputs["verdict"])]
    (comment,) = job.github.comments(7)
    assert f"head={head}" in comment.body


def test_the_second_stage_of_a_commit_that_no_pull_request_stands_at_says_so(job: Remote, capsys: pytest.CaptureFixture[str]) -> None:
    head = job.change({"models/m.safetensors": weights(1)}, fork=True)
    second_stage(job, head)
    job.github.add_pull(7, head="c" * 40, fork=True)
    assert job.run() == ExitCode.CANNOT_DETERMINE
    (error,) = runner.run(capsys.readouterr().out)
    assert "stand at" in error.data
    assert job.run(github_token="") == ExitCode.BAD_REQUEST
    assert not job.github.comments(7)


def test_the_second_stage_writes_the_check_on_the_forks_commit(job: Remote) -> None:
    head = job.change({"models/m.safetensors": weights(1)}, fork=True)
    second_stage(job, head)
    job.environ |= {"GITHUB_RUN_ID": "42"}
    code = job.run()
    (made,) = job.github.checks
    told = {key: made.body[key] for key in ("name", "head_sha", "status", "conclusion", "external_id", "details_url")}
    assert told == {
        "name": "modelguard verdict",
        "head_sha": head,
        "status": "completed",
        "conclusion": "failure" if code else "success",
        "external_id": "default",
        "details_url": f"{job.server.url}/org/models/actions/runs/42",
    }
    assert str(made.output["summary"]).startswith("### ")
    assert head[:12] in str(made.output["summary"])
    assert len(job.github.comments(7)) == 1  # and the comment as before
    assert len(job.github.requests) <= MAX_CALLS


def test_a_change_without_models_is_a_pass_that_says_so(job: Remote) -> None:
    second_stage(job, job.change({"src/main.py": b"pass\n"}, fork=True))
    assert job.run() == 0
    (made,) = job.github.checks
    assert made.body["conclusion"] == "success"
    assert "no model files changed" in str(made.output["title"])
    assert not job.github.comments(7)


def test_a_run_without_a_report_does_not_leave_an_earlier_check_standing(job: Remote) -> None:
    second_stage(job, job.change({"src/main.py": b"pass\n"}, fork=True))
    assert job.run() == 0
    job.github.refuse("GET", 404, path="acme")
    assert job.run(policy="acme/.github//policy.yml@main") == 2
    assert job.run(models="nothing/**") == 3
    assert [made.body["conclusion"] for made in job.github.checks] == ["success", "failure", "failure"]
    assert "acme/.github//policy.yml@main could not be read" in str(job.github.checks[1].output["title"])
    assert "policy-token" in str(job.github.checks[1].output["summary"])
    assert "names no file of this repository" in str(job.github.checks[2].output["summary"])
    job.environ["GITHUB_EVENT_NAME"] = "workflow_dispatch"
    job.event({"inputs": {"base": "1" * 40, "head": "2" * 40}})
    assert job.run(check="off") == 2
    assert len(job.github.checks) == 3
