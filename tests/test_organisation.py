"""The organisation's policy through the Action: fetched at its ref from a GitHub on loopback, above the repository's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelguard.errors import BadRequest, CannotFetch
from modelguard.github_files import Access, FilePlace, file_place, read_file, repositories_of
from modelguard.organisation import COPIES, fetched
from tests.servers.github import Answer, Fault
from tests.servers.github_files import FilesServer
from tests.test_action import TOKEN, Job
from tests.test_weakening import GAP, ONLY_LOGS

PLACE = "acme/.github//policies/modelguard.yml@main"
LENIENT = b"version: 1\nblock: {severity: high, confidence: high}\nrules:\n  log-gap: {enabled: false}\n"
FILES = {path: bytes(content) for path, content in GAP.items() if isinstance(content, bytes)}


@pytest.fixture
def github() -> Iterator[FilesServer]:
    with FilesServer(token=TOKEN) as server:
        yield server


@pytest.fixture
def job(tmp_path: Path, github: FilesServer) -> Job:
    return Job(tmp_path, github)


def access(github: FilesServer) -> Access:
    return Access(api_url=github.url, token=TOKEN)


def organisation(github: FilesServer, text: str = ONLY_LOGS) -> str:
    return github.put("acme/.github", {"policies/modelguard.yml": text.encode(), "policies/other.yml": b""})


def governed(job: Job) -> None:
    """A base commit whose own policy would let everything pass."""
    from tests.test_action import commit

    job.base = commit(job.repo, {".modelguard.yml": LENIENT})
    job.change(FILES)


def test_the_organisations_policy_stands_above_the_repositorys(job: Job, github: FilesServer) -> None:
    commit = organisation(github)
    governed(job)
    assert job.run(policy=PLACE) == 1
    assert any(f"{PLACE} ({commit[:12]})" in str(setting) for setting in job.document["policy"]["settings"])
    notes = str(job.document["notes"])
    assert "sets rules.log-gap.enabled to false: refused" in notes
    assert TOKEN not in notes


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_a_policy_that_cannot_be_had_leaves_the_verdict_open(
    job: Job, github: FilesServer, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    organisation(github)
    governed(job)
    github.refuse("GET", status, path="acme")
    assert job.run(policy=PLACE) == 2
    assert job.outputs["verdict"] == "cannot-determine"
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::error")]
    assert len(said) == 1
    assert PLACE.replace(":", "%3A") in said[0] or PLACE in said[0]


@pytest.mark.parametrize(
    "place", ["acme/.github", "acme//x@main", "acme/a//x", "acme/a//../x@main", "https://acme/a//x@main", "acme/a//x@"]
)
def test_a_place_that_is_none_is_a_wrong_configuration(job: Job, place: str) -> None:
    job.change(FILES)
    assert job.run(policy=place) == 3
    with pytest.raises(BadRequest, match="org/repo//path@ref"):
        file_place(place)


def test_a_policy_that_is_not_understood_is_a_wrong_configuration(job: Job, github: FilesServer) -> None:
    organisation(github, "version: 1\nblok: {}\n")
    job.change(FILES)
    assert job.run(policy=PLACE) == 3


def test_the_ref_is_resolved_and_the_file_read_at_that_commit(github: FilesServer) -> None:
    first = organisation(github, "version: 1\n")
    second = organisation(github, ONLY_LOGS)
    assert read_file(access(github), file_place(PLACE)) == (ONLY_LOGS.encode(), second)
    assert read_file(access(github), file_place(PLACE.replace("main", first))) == (b"version: 1\n", first)
    assert {request.query.get("ref") for request in github.made("GET") if "contents" in request.path} == {first, second}
    assert len(github.made("GET")) == 4


@pytest.mark.parametrize("path", ["policies", "policies/none.yml", "large.yml"])
def test_what_is_no_file_of_sound_size_is_not_had(github: FilesServer, path: str) -> None:
    github.put("acme/.github", {"policies/modelguard.yml": b"version: 1\n", "large.yml": b"#" * (2 << 20)})
    with pytest.raises(CannotFetch):
        read_file(access(github), file_place(f"acme/.github//{path}@main"))


def test_only_a_copy_that_says_so_stands_in_for_the_policy(github: FilesServer, tmp_path: Path) -> None:
    place = file_place(PLACE)
    for text, allowed in ((ONLY_LOGS, False), (ONLY_LOGS + "organisation: {unreachable: last-copy}\n", True)):
        organisation(github, text)
        assert fetched(access(github), place, tmp_path)[1] == ()
        github.refuse("GET", 500)
        if allowed:
            layer, notes = fetched(access(github), place, tmp_path)
            assert layer.document.organisation.unreachable == "last-copy"
            assert "last copy" in notes[0]
        else:
            with pytest.raises(CannotFetch):
                fetched(access(github), place, tmp_path)
        github.allow()
    github.refuse("GET", 500)
    with pytest.raises(CannotFetch):
        fetched(access(github), place, tmp_path / "empty")
    with pytest.raises(CannotFetch):
        fetched(access(github), place)


def test_the_action_uses_the_copy_and_says_so(job: Job, github: FilesServer, tmp_path: Path) -> None:
    organisation(github, ONLY_LOGS + "organisation: {unreachable: last-copy}\n")
    governed(job)
    job.environ[COPIES] = str(tmp_path / "copies")
    assert job.run(policy=PLACE) == 1
    github.refuse("GET", 500, path="acme")
    assert job.run(policy=PLACE) == 1
    assert any("last copy" in note for note in job.document["notes"])


def test_another_file_of_the_base_commit_may_be_the_repositorys_policy(job: Job) -> None:
    from tests.test_action import commit

    job.base = commit(job.repo, {"policies/models.yml": ONLY_LOGS.encode()})
    job.change({**FILES, "policies/models.yml": LENIENT})
    assert job.run(config="policies/models.yml") == 1
    assert any("edits policies/models.yml" in note for note in job.document["notes"])
    assert job.run(config="policies/none.yml") == 3


def test_a_ref_and_a_path_may_hold_slashes_and_odd_signs(github: FilesServer) -> None:
    commit = github.put("acme/.github", {"a b/ü#?.yml": b"version: 1\n"}, branch="release/1.x")
    place = FilePlace(repository="acme/.github", path="a b/ü#?.yml", ref="release/1.x")
    assert read_file(access(github), place) == (b"version: 1\n", commit)


def test_a_ref_that_is_none_and_a_repository_that_is_not_seen_are_told_apart(github: FilesServer) -> None:
    organisation(github)
    for place, advice in ((PLACE.replace("main", "nowhere"), "no such ref"), (PLACE.replace("acme", "nobody"), "policy-token")):
        with pytest.raises(CannotFetch) as refused:
            read_file(access(github), file_place(place))
        assert advice in refused.value.advice
        assert place in str(refused.value)


@pytest.mark.parametrize("content", ["bm90IHRoZSBzaXpl", "***", 7, None])
def test_an_answer_that_is_no_file_is_none(github: FilesServer, content: object) -> None:
    organisation(github)
    body = {"type": "file", "encoding": "base64", "size": 3, "content": content}
    github.fail(Fault(method="GET", path="/contents/", answer=Answer(200, body)))
    with pytest.raises(CannotFetch, match="no file"):
        read_file(access(github), file_place(PLACE))


def test_a_policy_that_is_public_is_read_without_a_token(tmp_path: Path) -> None:
    with FilesServer(token="") as github:
        commit = organisation(github)
        assert read_file(Access(api_url=github.url, token=""), file_place(PLACE)) == (ONLY_LOGS.encode(), commit)


def test_repositories_of_an_organisation_come_page_by_page() -> None:
    with FilesServer(token=TOKEN, page=3) as github:
        for index in range(8):
            github.put(f"acme/models-{index}", {})
        github.put("other/models", {})
        github.archived.add("acme/models-4")
        names = [name for name, _ in repositories_of(access(github), "acme")]
        assert names == [f"acme/models-{index}" for index in (0, 1, 2, 3, 5, 6, 7)]
