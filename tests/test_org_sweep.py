"""A sweep over an organisation that GitHub lists: each default branch fetched by git, what cannot be looked at named, trends carried on."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modelguard.bare_clones import cloned
from modelguard.errors import BadRequest, CannotFetch
from modelguard.git import Git
from modelguard.github.repositories import repositories
from tests.repositories import Repository
from tests.servers.github_files import FilesServer
from tests.test_org import HONEST, POLICY, Run, clones, rows, run
from tests.test_weakening import ONLY_LOGS, log

__all__ = ("clones", "run")  # fixtures
TOKEN = "a-token"


@pytest.fixture
def acme(clones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FilesServer]:
    """An organisation whose repositories lie where git finds them: honest, gap, plain, empty, one archived, one that git does not find."""
    served = tmp_path / "server/acme"
    served.mkdir(parents=True)
    for clone in clones.iterdir():
        subprocess.run(
            ("git", "clone", "--quiet", "--bare", str(clone), str(served / f"{clone.name}.git")), check=True, capture_output=True
        )
    monkeypatch.setenv("GITHUB_SERVER_URL", f"file://{tmp_path}/server")
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    with FilesServer(token=TOKEN, page=2) as server:
        monkeypatch.setenv("GITHUB_API_URL", server.url)
        for name in ("honest", "gap", "plain", "empty", "old", "lost"):
            server.put(f"acme/{name}", {})
        server.archived.add("acme/old")
        yield server


def push(tmp_path: Path, clone: Path) -> None:
    target = tmp_path / f"server/acme/{clone.name}.git"
    subprocess.run(("git", "-C", str(clone), "push", "--quiet", str(target), "main"), check=True, capture_output=True)


def test_an_organisation_is_swept_whole(run: Run, acme: FilesServer, tmp_path: Path) -> None:
    code, text = run("audit", "--organisation", "acme", "--format", "json", "--out", tmp_path / "out")
    found = rows(text)
    assert code == 1
    assert {name: row["verdict"] for name, row in found.items()} == {
        "acme/gap": "inconsistent",
        "acme/honest": "consistent",
        "acme/lost": "cannot-determine",
        "acme/plain": "consistent",
    }
    assert "could not be fetched" in found["acme/lost"]["why"]
    left_out = {item["repository"]: item["why"] for item in json.loads(text)["left_out"]}
    assert {name: why.split(",")[0].split(":")[0] for name, why in left_out.items()} == {"acme/empty": "empty", "acme/old": "archived"}
    table = (tmp_path / "out/sweep.md").read_text()
    assert "6 repositories: 1 inconsistent, 1 cannot determine, 2 consistent, 2 not audited" in table
    assert "| `acme/old` |  | `not audited` |" in table
    assert "<td>acme/empty</td>" in (tmp_path / "out/sweep.html").read_text()
    assert TOKEN not in text + table


def test_verdicts_are_those_of_named_clones(run: Run, acme: FilesServer, clones: Path) -> None:
    through = rows(run("audit", "--organisation", "acme", "--format", "json")[1])
    named = rows(run("audit", clones, "--format", "json")[1])
    for name in ("honest", "gap", "plain"):
        ours, theirs = through[f"acme/{name}"], named[name]
        assert {**ours, "repository": ""} == {**theirs, "repository": ""}


def test_a_policy_is_rehearsed_on_an_organisation(run: Run, acme: FilesServer, tmp_path: Path) -> None:
    proposed = tmp_path / "proposed.yml"
    proposed.write_text("version: 1\nrequire: [log]\n")
    code, text = run("policy", "check", proposed, "--organisation", "acme", "--format", "json")
    found = rows(text)
    assert code in (1, 2)
    assert [model["subject"] for model in found["acme/gap"]["models"]] == ["m/model.safetensors"]
    assert found["acme/lost"]["answer"] == "unread"
    assert {item["repository"] for item in json.loads(text)["left_out"]} == {"acme/empty", "acme/old"}


def test_trends_go_back_over_all_sweeps(run: Run, clones: Path, tmp_path: Path) -> None:
    courses: list[dict[str, Any]] = []
    previous: tuple[object, ...] = ()
    for number, whole in enumerate((False, True, False)):
        Repository(clones / "gap").commit({"m/trainer_state.json": log(whole=whole)})
        if number == 1:
            Repository(clones / "young").commit({**HONEST, POLICY: ONLY_LOGS.encode()})
        run("audit", clones, "--out", tmp_path / f"{number}", *previous)
        previous = ("--previous", tmp_path / f"{number}/sweep.json")
        courses.append(json.loads((tmp_path / f"{number}/sweep.json").read_text()))
    last = {row["repository"]: row for row in courses[-1]["repositories"]}
    assert last["gap"]["history"] == ["inconsistent", "consistent"]
    assert (last["gap"]["trend"], last["gap"]["before"]) == ("was consistent", "consistent")
    assert last["young"]["history"] == ["", "consistent"]
    assert [(item["inconsistent"], item["consistent"]) for item in courses[-1]["earlier"]] == [(1, 2), (0, 4)]
    assert [item["at"] for item in courses[-1]["earlier"]] == [course["run"]["at"] for course in courses[:-1]]
    table = (tmp_path / "2/sweep.md").read_text()
    assert "| ✗✓✗ |" in table
    assert "| ·✓✓ |" in table
    assert "Sweep by sweep" in (tmp_path / "2/sweep.html").read_text()
    assert "Sweep by sweep" not in (tmp_path / "0/sweep.html").read_text()


def test_a_sweep_of_an_older_version_is_taken_up(run: Run, clones: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text('{"repositories": [{"repository": "gap", "verdict": "consistent", "before": "", "trend": "new"}]}')
    row = rows(run("audit", clones / "gap", "--previous", old, "--format", "json")[1])["gap"]
    assert (row["history"], row["trend"]) == (["consistent"], "was consistent")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"repositories": 1}',
        '{"repositories": [{"repository": "a", "verdict": "fine"}]}',
        '{"repositories": [{"repository": "a", "verdict": "consistent", "history": ["fine"]}]}',
        '{"repositories": [], "earlier": [{"at": 1}]}',
        '{"repositories": [], "run": 1}',
    ],
)
def test_what_is_no_sweep_is_refused(run: Run, clones: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    code, said = run("audit", clones / "honest", "--previous", tmp_path / "other.json")
    assert (code, "no sweep of ours" in said) == (3, True)


def test_an_organisation_that_cannot_be_listed_is_one_line(run: Run, acme: FilesServer) -> None:
    for status, word in ((404, "check the organisation's name"), (401, "token"), (403, "may not list them")):
        acme.allow()
        acme.refuse("GET", status, path="orgs")
        code, said = run("audit", "--organisation", "acme")
        assert (code, said.count("\n"), word in said) == (2, 1, True), said
    assert run("audit", "--organisation", "../acme")[0] == 3
    assert run("audit")[0] == 3


def test_repositories_are_listed_page_by_page_archived_ones_too(acme: FilesServer) -> None:
    listed = repositories(acme.url, TOKEN, "acme")
    assert [item.name for item in listed] == [f"acme/{name}" for name in ("empty", "gap", "honest", "lost", "old", "plain")]
    assert [item.name for item in listed if item.archived] == ["acme/old"]


@pytest.mark.parametrize("name", ["../etc", "a/b", ".", "..", "", "a b", 7, None])
def test_a_name_that_is_none_is_not_fetched(acme: FilesServer, name: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelguard.github.repositories import _sound

    with pytest.raises(CannotFetch, match="not one of GitHub's"):
        _sound([{"name": "good", "default_branch": "main"}, {"name": name}], "acme")
    assert _sound([{"name": "good.model_1-x", "default_branch": "main"}], "acme")[0].name == "acme/good.model_1-x"


class Backend(BaseHTTPRequestHandler):
    """Git's smart protocol through git http-backend, for whoever shows the token."""

    root: Path
    seen: list[str]

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self._serve(self.rfile.read(length))

    def _serve(self, body: bytes) -> None:
        self.seen.append(self.headers.get("Authorization") or "")
        path, _, query = self.path.partition("?")
        if self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/acme/gap.git/info/refs?{query}")
            self.end_headers()
            return
        environ = {"GIT_PROJECT_ROOT": str(self.root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query}
        environ |= {"REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""), "PATH": "/usr/bin:/bin"}
        environ |= {"HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")}
        done = subprocess.run(("git", "http-backend"), input=body, env=environ, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = [line.decode().partition(": ") for line in head.split(b"\r\n")]
        status = next((value for name, _, value in fields if name == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, _, value in fields:
            if name not in ("Status", ""):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """The tests read `seen` instead."""


@pytest.fixture
def backend(acme: FilesServer, tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []
    handler = type("Handler", (Backend,), {"root": tmp_path / "server", "seen": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()


def test_git_fetches_over_the_network_with_the_token_and_follows_no_redirect(backend: tuple[str, list[str]]) -> None:
    url, seen = backend
    trusted = {"MODELGUARD_TRUSTED_ORIGINS": url}
    with cloned(f"{url}/acme/gap.git", "se-cret", trusted) as clone:
        git = Git(clone)
        assert "m/model.safetensors" in git.tree(git.resolve("HEAD"))
        git.close()
        assert "se-cret" not in (clone / "config").read_text()
    assert not clone.exists()
    assert set(seen) == {"Basic eC1hY2Nlc3MtdG9rZW46c2UtY3JldA=="}
    with pytest.raises(CannotFetch, match="could not be fetched") as refused, cloned(f"{url}/elsewhere/gap.git", "se-cret", trusted):
        pass
    assert "se-cret" not in str(refused.value)
    with pytest.raises(BadRequest, match="plain http"), cloned(f"{url}/acme/gap.git", "", {}):
        pass


@pytest.mark.parametrize(
    "address", ["ext::sh -c id", "git@host:acme/gap.git", "ssh://host/x", "https://user:pw@host/x", "/tmp", "https:///x"]
)
def test_only_plain_addresses_are_fetched_from(address: str) -> None:
    with pytest.raises(BadRequest, match="no address to fetch from"), cloned(address, "", {}):
        pass


def test_a_clone_brings_no_history_and_runs_nothing(acme: FilesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Repository(tmp_path / "clones/gap").commit({"README.md": b"later\n"})
    push(tmp_path, tmp_path / "clones/gap")
    marker = tmp_path / "ran"
    (tmp_path / "config").write_text(f"[core]\n\tfsmonitor = touch {marker}\n[init]\n\ttemplateDir = {tmp_path}/t\n[uploadpack]\n\tx = y\n")
    (tmp_path / "t/hooks").mkdir(parents=True)
    (tmp_path / "t/hooks/post-checkout").write_text(f"#!/bin/sh\ntouch {marker}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    with cloned(f"file://{tmp_path}/server/acme/gap.git", TOKEN, {}) as clone:
        done = subprocess.run(("git", "-C", str(clone), "rev-list", "--count", "HEAD"), capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "1"
        assert not (clone / "hooks/post-checkout").exists()
    assert not marker.exists()
