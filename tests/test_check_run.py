"""The check run: on the audited commit where the job's own check does not tell the verdict there, within GitHub's limits, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard import delivery, verdict_check
from modelguard.action import read_inputs
from modelguard.activity import Activity
from modelguard.github.api import MAX_CALLS, Api, Destination, Meaning, Refused
from modelguard.github.check_run import MAX_NOTES, MAX_TEXT, CheckRun, Conclusion, Note, conclude, post, within
from modelguard.step import Step
from modelguard.types.findings import Verdict
from tests.servers import runner
from tests.servers.github import Answer, Fault, GitHubServer
from tests.test_action import FINE, HIGH, LOW, OPEN, TOKEN, WAIVED, Job, commit, finding, report, weights
from tests.test_github_faults import BURST, HOURLY, NO, answer

HEAD = "a" * 40
CHECKS = "/check-runs"
JOB = {"GITHUB_SERVER_URL": "https://github.example", "GITHUB_REPOSITORY": "org/models", "GITHUB_RUN_ID": "42"}
SECOND = Activity(event="workflow_run", base="b" * 40, head=HEAD, number=7)
FIRST = replace(SECOND, event="pull_request")


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with GitHubServer(token=TOKEN) as server:
        server.add_pull(7, head=HEAD)
        yield server


@pytest.fixture
def job(tmp_path: Path, github: GitHubServer) -> Job:
    return Job(tmp_path, github)


def posted(github: GitHubServer, check: CheckRun) -> str:
    api = Api(Destination(api_url=github.url, repository=github.repository, number=0, token=TOKEN, patience=3, timeout=1))
    try:
        return post(api, check)
    finally:
        assert api.calls <= len(github.requests) <= MAX_CALLS
        api.close()


def check(*notes: Note, summary: str = "the report") -> CheckRun:
    return CheckRun(head=HEAD, conclusion=Conclusion.NEUTRAL, title="cannot determine", summary=summary, notes=notes)


def note(number: int) -> Note:
    return Note(path=f"m/{number}.safetensors", title="a-rule", message="what it says", blocks=number % 2 == 0)


@pytest.mark.parametrize(
    ("verdict", "fails", "conclusion"),
    [
        (Verdict.CONSISTENT, False, "success"),
        (Verdict.CONSISTENT, True, "failure"),  # fail-on: warning
        (Verdict.CANNOT_DETERMINE, False, "neutral"),  # fail-on: violation
        (Verdict.CANNOT_DETERMINE, True, "failure"),
        (Verdict.INCONSISTENT, False, "neutral"),  # fail-on: never
        (Verdict.INCONSISTENT, True, "failure"),
    ],
)
def test_the_check_fails_where_the_step_does_and_passes_for_a_pass_alone(verdict: Verdict, fails: bool, conclusion: str) -> None:
    assert conclude(verdict, fails=fails) == conclusion


@pytest.mark.parametrize("event", ["pull_request", "pull_request_target", "merge_group", "push", "schedule"])
@pytest.mark.parametrize(("fail_on", "expected"), [("inconclusive", False), ("warning", False), ("violation", True), ("never", True)])
def test_a_job_that_tells_the_verdict_by_itself_needs_no_second_check(event: str, fail_on: str, expected: bool) -> None:
    doing = replace(FIRST, event=event)
    assert verdict_check.wanted("auto", doing, fail_on) is expected
    assert verdict_check.wanted("auto", replace(doing, event="workflow_run"), fail_on)
    assert verdict_check.wanted("auto", replace(doing, event="workflow_dispatch"), fail_on)
    assert verdict_check.wanted("on", doing, fail_on)
    assert not verdict_check.wanted("off", replace(doing, event="workflow_run"), fail_on)


def test_what_is_let_through_without_a_pass_is_neutral(job: Job, github: GitHubServer) -> None:
    job.change({"models/m.safetensors": weights(1)})
    assert job.run() == 2
    assert not github.checks  # the job itself is red
    assert job.run(fail_on="violation", id="chat", comment="never") == 0
    (made,) = github.checks
    assert (made.body["conclusion"], made.body["name"], made.notes) == ("neutral", "modelguard verdict (chat)", [])
    assert str(made.output["title"]).startswith("cannot determine: ")


def test_a_queue_has_a_check_too_where_it_is_wanted(job: Job, github: GitHubServer) -> None:
    head = commit(job.repo, {"models/m.safetensors": weights(1)})
    job.event({"action": "checks_requested", "merge_group": {"base_sha": job.base, "head_sha": head}})
    job.environ["GITHUB_EVENT_NAME"] = "merge_group"
    assert job.run(check="on") == 2
    assert [made.body["head_sha"] for made in github.checks] == [head]
    assert len(github.requests) == 1


@pytest.mark.parametrize(
    "given",
    [
        answer(403, NO),
        answer(403, "Resource not accessible by personal access token"),
        answer(403, "Resource protected by organization SAML enforcement."),
        answer(403, "Repository was archived so is read-only."),
        answer(403, HOURLY, x_ratelimit_remaining="0", x_ratelimit_reset="99999999999"),
        answer(403, BURST, retry_after="3600"),
        answer(429, "Too many requests", retry_after="3600"),
        answer(404, "Not Found"),
        answer(422, "No commit found for SHA"),
    ],
    ids=["permission", "personal", "single-sign-on", "archived", "hourly", "burst", "429", "404", "422"],
)
def test_a_check_that_is_refused_is_one_line_and_changes_nothing_else(
    job: Job, github: GitHubServer, given: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    job.change({"models/m.safetensors": weights(1)})
    github.fail(Fault(method="POST", path=CHECKS, answer=given))
    assert job.run(fail_on="violation") == 0
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.startswith("no check: ")]
    assert not runner.run(said)  # no warning: it was not asked for
    assert len(github.comments(7)) == 1
    assert job.run(fail_on="violation", check="on") == 0
    (warning,) = runner.run(capsys.readouterr().out)
    assert warning.name == "warning"
    assert f"HTTP {given.status}" in warning.data
    assert given.body["message"] != NO or "checks: write" in warning.data  # type: ignore[index]


def test_without_a_token_nobody_is_asked(job: Job, github: GitHubServer, capsys: pytest.CaptureFixture[str]) -> None:
    job.change({"models/m.safetensors": weights(1)})
    assert job.run(check="on", comment="never", github_token="") == 2
    assert "no check: the input github-token is not set" in capsys.readouterr().out
    assert job.run(check="off", fail_on="violation", comment="never") == 0
    assert not github.requests


@pytest.mark.parametrize("count", [0, 1, 50, 51, MAX_NOTES, MAX_NOTES + 30])
def test_annotations_are_taken_fifty_at_a_time(github: GitHubServer, count: int) -> None:
    assert posted(github, check(*map(note, range(count)))).startswith("https://github.example/")
    (made,) = github.checks
    assert [item["path"] for item in made.notes] == [note(number).path for number in range(min(count, MAX_NOTES))]
    assert {item["annotation_level"] for item in made.notes} <= {"failure", "warning"}
    assert len(github.made("PATCH")) == (1 if count > 50 else 0)


def test_a_check_whose_annotations_are_refused_stands_without_them(github: GitHubServer) -> None:
    github.refuse("POST", 422, path=CHECKS, times=1)
    posted(github, check(note(0), note(1)))
    (made,) = github.checks
    assert made.notes == []
    github.refuse("POST", 422, path=CHECKS)
    with pytest.raises(Refused) as refused:
        posted(github, check())
    assert refused.value.meaning is Meaning.INVALID
    assert len(github.checks) == 1


@pytest.mark.parametrize("lost", [Answer(502, {"message": "Server Error"}), None])
def test_an_answer_that_got_lost_is_asked_for_again(github: GitHubServer, lost: Answer | None) -> None:
    github.fail(Fault(method="POST", path=CHECKS, answer=lost, done=True, times=1))
    posted(github, check())
    assert [made.body["conclusion"] for made in github.checks] == ["neutral", "neutral"]  # of one name: GitHub shows the newer


@pytest.mark.parametrize("line", ["plain", "é" * 40, "🦙" * 40])
def test_a_summary_keeps_to_githubs_limit_in_bytes(github: GitHubServer, line: str) -> None:
    posted(github, check(summary="\n".join([line] * 30_000)))
    written = str(github.checks[0].output["summary"])
    assert len(written.encode()) <= MAX_TEXT
    assert written.startswith(line + "\n" + line)
    assert written.endswith("(The rest is in the report.)")


@given(st.text(), st.integers(0, 4000))
def test_the_limit_holds_for_any_text(line: str, count: int) -> None:
    written = within("\n".join([line] * count))
    assert len(written.encode()) <= MAX_TEXT


def test_a_long_report_drops_rows_and_keeps_its_verdict() -> None:
    many = [
        finding(replace(HIGH.claim, text=f"the weights of layer {number} do not support " + "✗" * 90), f"rule-{number}")
        for number in range(900)
    ]
    made = verdict_check.check_of(report(Verdict.INCONSISTENT, *many), SECOND, (), fails=True, identity="default", environ={})
    assert made.summary.startswith("### ❌ modelguard: inconsistent")
    assert 1000 < len(made.summary.encode()) <= MAX_TEXT
    assert within(made.summary) == made.summary


def test_what_blocks_is_annotated_first_and_only_where_the_jobs_annotations_stand_elsewhere(github: GitHubServer, job: Job) -> None:
    shown = report(Verdict.INCONSISTENT, LOW, WAIVED, FINE, OPEN, HIGH)
    wish = delivery.Wish(token=TOKEN, comment="never", check="on", fails=True)
    delivery.deliver(shown, FIRST, wish, Step(job.environ))
    delivery.deliver(shown, SECOND, wish, Step(job.environ))
    first, second = github.checks
    assert first.notes == []
    assert [(item["title"], item["annotation_level"]) for item in second.notes] == [
        ("weights-support-base", "failure"),
        ("log-gap", "warning"),
    ]
    assert {item["path"] for item in second.notes} == {"models/m.safetensors"}


def test_check_comment_and_threads_together_keep_to_thirty_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with GitHubServer(token=TOKEN, page=20) as github:
        job = Job(tmp_path, github)
        github.add_pull(7, head=HEAD)
        for number in range(110):
            github.add_comment(7, f"chatter {number}")
        many = [finding(HIGH.claim, f"rule-{number}") for number in range(120)]
        wish = delivery.Wish(token=TOKEN, comment="", check="auto", fails=True)
        delivery.deliver(report(Verdict.INCONSISTENT, *many), SECOND, wish, Step(job.environ))
        assert len(github.requests) <= MAX_CALLS
        assert [len(made.notes) for made in github.checks] == [MAX_NOTES]
        assert len([comment for comment in github.comments(7) if comment.login == github.writer]) == 1
        assert 1 <= len(github.threads(7)) <= 10
        assert "left to the next run" in capsys.readouterr().out


def test_enterprise_addresses_have_a_path() -> None:
    with GitHubServer(token=TOKEN, prefix="/api/v3") as github:
        assert posted(github, check(note(1))).startswith("https://github.example/")
        assert len(github.checks) == 1


def test_a_page_that_is_none_is_left_out() -> None:
    made = [
        verdict_check.check_of(report(Verdict.CONSISTENT, FINE), FIRST, (), fails=False, identity="default", environ=environ).details_url
        for environ in (JOB, {**JOB, "GITHUB_RUN_ID": "x"}, {**JOB, "GITHUB_SERVER_URL": "javascript:x"}, {})
    ]
    assert made == ["https://github.example/org/models/actions/runs/42", "", "", ""]


def test_the_input_is_off_auto_or_on() -> None:
    assert read_inputs({}).check == "auto"
    assert read_inputs({"INPUT_CHECK": "on"}).check == "on"
