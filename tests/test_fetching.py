"""Fetching what an event names from a real git server: enough, exactly, as data, with a token that shows nowhere, and within limits."""

from __future__ import annotations

import base64
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from modelguard.errors import BadRequest, CannotFetch
from modelguard.fetching import Wanted, fetched, needs_fetching, source_of_job
from modelguard.git import Git
from modelguard.transport import Limits, Source, environment
from tests.repositories import Link, Repository, Submodule
from tests.servers.git_http import GitServer, git_server

TOKEN = "ghs_canary-of-the-tests"
SECRETS = (TOKEN, base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with git_server(tmp_path / "served", TOKEN) as running:
        yield running


class Pull:
    """Pull request 7 of a repository: main goes on after the head forked off, and every commit before has weights of its own."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.old = [repository.commit({"m/model.safetensors": f"weights {number}".encode(), "README.md": b"# m\n"}) for number in range(5)]
        self.fork = self.old[-1]
        repository.git("checkout", "--quiet", "--detach")
        repository.commit({"m/model.safetensors": b"a first try"})
        self.head = repository.commit({"m/model.safetensors": b"weights of the head", "new": b"new"})
        repository.git("update-ref", "refs/pull/7/head", self.head)
        repository.git("checkout", "--quiet", "--force", "main")
        repository.git("reset", "--quiet", "--hard")
        self.base = repository.commit({".modelguard.yml": b"version: 1\n"})
        repository.git("gc", "--quiet")

    @property
    def wanted(self) -> Wanted:
        return Wanted(base=self.base, head=self.head, number=7)


@pytest.fixture
def pull(server: GitServer) -> Pull:
    return Pull(server.repository("org/models"))


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    folder = tmp_path / "temp"
    folder.mkdir()
    return folder


def source(server: GitServer, token: str = TOKEN) -> Source:
    return Source(url=f"{server.url}/org/models.git", token=token)


def refused(server: GitServer, asked: Wanted, parent: Path, token: str = TOKEN, limits: Limits | None = None) -> CannotFetch:
    """How a fetch that cannot go well ends: with one line, nothing left behind, and no secret in the words."""
    with pytest.raises(CannotFetch) as caught, fetched(source(server, token), asked, parent, limits, pauses=(0.0,)):
        pass
    assert list(parent.iterdir()) == []
    assert "\n" not in str(caught.value)
    assert not any(secret in f"{caught.value}{caught.value.advice}" for secret in SECRETS)
    return caught.value


def test_what_an_audit_reads_is_there_and_nothing_else(server: GitServer, pull: Pull, parent: Path) -> None:
    with fetched(source(server), pull.wanted, parent) as folder:
        git = Git(folder)
        assert git.merge_base(pull.base, pull.head) == pull.fork
        assert git.read(git.tree(pull.head)["m/model.safetensors"].oid, 100) == b"weights of the head"
        assert git.read(git.tree(pull.fork)["m/model.safetensors"].oid, 100) == b"weights 4"
        assert git.read(git.tree(pull.base)[".modelguard.yml"].oid, 100) == b"version: 1\n"
        assert git.committed(pull.head) > 0
        requests = len(server.asked)
        with pytest.raises(CannotFetch):
            git.read(pull.repository.git("rev-parse", f"{pull.old[0]}:m/model.safetensors"), 100)
        with pytest.raises(BadRequest):
            git.tree(pull.old[0])
        git.close()
        assert len(server.asked) == requests, "what was left out is asked for later"
    assert list(parent.iterdir()) == []


def test_the_repository_is_bare_with_no_hook_and_no_secret(server: GitServer, pull: Pull, parent: Path) -> None:
    with fetched(source(server), pull.wanted, parent) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert not (folder / "hooks").exists()
        assert "bare = true" in (folder / "config").read_text()
        assert "remote" not in (folder / "config").read_text()
        for path in folder.rglob("*"):
            data = path.read_bytes() if path.is_file() else b""
            assert not any(secret.encode() in data for secret in SECRETS), path


def test_a_server_that_cannot_leave_objects_out_gives_all(server: GitServer, parent: Path) -> None:
    pull = Pull(server.repository("org/models", filters=False))
    with fetched(source(server), pull.wanted, parent) as folder:
        git = Git(folder)
        assert git.merge_base(pull.base, pull.head) == pull.fork
        assert git.read(git.tree(pull.head)["new"].oid, 100) == b"new"
        git.close()


def test_the_merge_base_is_the_one_of_the_whole_history(server: GitServer, parent: Path) -> None:
    """Both sides reach an old commit in one step and the true merge base by a long way: a shallow history would take the old one."""
    repository = server.repository("org/models")
    old = repository.commit({"a": b"old"})
    for number in range(60):
        true = repository.commit({"a": b"%d" % number})
    tree = repository.git("rev-parse", f"{true}^{{tree}}")
    sides = []
    for name in ("base", "head"):
        tip = true
        for number in range(60):
            tip = repository.git("commit-tree", "-p", tip, "-m", f"{name} {number}", tree)
        sides.append(repository.git("commit-tree", "-p", old, "-p", tip, "-m", name, tree))
    base, head = sides
    repository.git("update-ref", "refs/heads/main", base)
    repository.git("update-ref", "refs/pull/7/head", head)
    with fetched(source(server), Wanted(base=base, head=head, number=7), parent) as folder:
        assert Git(folder).merge_base(base, head) == true


def test_a_head_that_takes_everything_away_is_fetched(server: GitServer, pull: Pull, parent: Path) -> None:
    """Its tree, the empty one, is there before anything is fetched."""
    empty = pull.repository.git("hash-object", "-t", "tree", "/dev/null")
    head = pull.repository.git("commit-tree", "-p", pull.base, "-m", "x", empty)
    pull.repository.git("update-ref", "refs/pull/7/head", head)
    with fetched(source(server), Wanted(base=pull.base, head=head, number=7), parent) as folder:
        git = Git(folder)
        assert {file.path: file.after for file in git.changed(pull.base, head)}.keys() == git.tree(pull.base).keys()
        assert git.read(git.tree(pull.base)["m/model.safetensors"].oid, 100) == b"weights 4"
        git.close()


@pytest.mark.parametrize("written", ["{base}", "{base}^"])
def test_commits_without_a_pull_request_are_fetched_by_their_id(server: GitServer, pull: Pull, parent: Path, written: str) -> None:
    asked = Wanted(base=written.format(base=pull.base), head=pull.base)
    with fetched(source(server), asked, parent) as folder:
        git = Git(folder)
        expected = pull.base if written == "{base}" else pull.fork
        assert git.resolve(asked.base) == expected
        assert git.read(git.tree(expected)["m/model.safetensors"].oid, 100) == b"weights 4"
        git.close()


def test_a_public_repository_needs_no_token(server: GitServer, pull: Pull, parent: Path) -> None:
    server.token = ""
    with fetched(source(server, token=""), pull.wanted, parent) as folder:
        assert set(Git(folder).tree(pull.head)) == {"README.md", "m/model.safetensors", "new"}
    assert all("authorization" not in headers for _, _, headers in server.asked)


@pytest.mark.parametrize(("token", "words"), [("", "a token is needed"), ("wrong", "the token was refused")])
def test_a_token_that_will_not_do_is_one_clear_line(server: GitServer, pull: Pull, parent: Path, token: str, words: str) -> None:
    error = refused(server, pull.wanted, parent, token)
    assert str(error).endswith(words)
    assert "contents: read" in error.advice


def test_a_head_that_moved_on_ends_the_run(server: GitServer, pull: Pull, parent: Path) -> None:
    pull.repository.git("update-ref", "refs/pull/7/head", pull.base)
    error = refused(server, pull.wanted, parent)
    assert f"pull request 7 stands at {pull.base[:12]} by now, this run is about {pull.head[:12]}" in str(error)


@pytest.mark.parametrize("change", [{"number": 8}, {"base": "1" * 40}, {"head": "2" * 40, "number": None}])
def test_what_is_not_there_is_said(server: GitServer, pull: Pull, parent: Path, change: dict[str, object]) -> None:
    asked = {"base": pull.base, "head": pull.head, "number": 7} | change
    assert "not there" in str(refused(server, Wanted(**asked), parent))  # type: ignore[arg-type]


def test_histories_without_a_common_commit_are_said(server: GitServer, pull: Pull, parent: Path) -> None:
    orphan = pull.repository.git("commit-tree", "-m", "x", pull.repository.git("rev-parse", "main^{tree}"))
    pull.repository.git("update-ref", "refs/heads/other", orphan)
    assert "no common ancestor" in str(refused(server, Wanted(base=pull.base, head=orphan), parent))


def test_no_such_repository(server: GitServer, parent: Path) -> None:
    assert "no such repository" in str(refused(server, Wanted(base="1" * 40, head="2" * 40), parent))


def test_a_redirect_is_not_followed_and_takes_no_token(server: GitServer, pull: Pull, parent: Path, tmp_path: Path) -> None:
    with git_server(tmp_path / "served") as elsewhere:

        def redirect(handler: BaseHTTPRequestHandler) -> bool:
            handler.send_response(301)
            handler.send_header("Location", elsewhere.url + handler.path)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return True

        server.fault = redirect
        assert "redirects are not followed" in str(refused(server, pull.wanted, parent))
        assert elsewhere.asked == []


def failing(times: int, status: int = 503) -> object:
    left = [times]

    def fault(handler: BaseHTTPRequestHandler) -> bool:
        left[0] -= 1
        if left[0] < 0:
            return False
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    return fault


def test_a_server_that_was_unwell_is_asked_again(server: GitServer, pull: Pull, parent: Path) -> None:
    server.fault = failing(2)  # type: ignore[assignment]
    with fetched(source(server), pull.wanted, parent, pauses=(0.0, 0.0)) as folder:
        assert "new" in Git(folder).tree(pull.head)
    server.fault = failing(100)  # type: ignore[assignment]
    error = refused(server, pull.wanted, parent)
    assert "503" in str(error)
    assert "run the job again" in error.advice


def test_a_connection_that_breaks_off_is_tried_again(server: GitServer, pull: Pull, parent: Path) -> None:
    broken = [0]

    def cut(handler: BaseHTTPRequestHandler) -> bool:
        if handler.command == "POST" and broken[0] < 1:
            broken[0] += 1
            handler.close_connection = True
            return True
        return False

    server.fault = cut
    with fetched(source(server), pull.wanted, parent, pauses=(0.0, 0.0)) as folder:
        assert "new" in Git(folder).tree(pull.head)
    assert broken == [1]


def test_a_server_that_stalls_is_left_in_time(server: GitServer, pull: Pull, parent: Path) -> None:
    def stall(handler: BaseHTTPRequestHandler) -> bool:
        time.sleep(3)
        handler.close_connection = True
        return True

    server.fault = stall
    started = time.monotonic()
    error = refused(server, pull.wanted, parent, limits=Limits(seconds=0.5))
    assert "not fetched within" in str(error)
    assert time.monotonic() - started < 2.5


def test_more_than_the_limit_is_not_fetched(server: GitServer, pull: Pull, parent: Path) -> None:
    pull.repository.git("checkout", "--quiet", "--detach", pull.head)
    head = pull.repository.commit({"large": os.urandom(8 << 20)})
    pull.repository.git("update-ref", "refs/pull/7/head", head)
    asked = Wanted(base=pull.base, head=head, number=7)
    assert "more than the 1,048,576 bytes" in str(refused(server, asked, parent, limits=Limits(size=1 << 20)))
    with fetched(source(server), asked, parent, Limits(size=16 << 20)) as folder:
        assert Git(folder).tree(head)["large"].size == 8 << 20


def test_a_hostile_head_is_data(server: GitServer, pull: Pull, parent: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    script = f"#!/bin/sh\ntouch {canary}\n".encode()
    pull.repository.git("checkout", "--quiet", "--detach", pull.fork)
    head = pull.repository.commit(
        {
            ".gitattributes": b"* filter=evil diff=evil merge=evil\n",
            ".gitconfig": f'[filter "evil"]\n\tsmudge = touch {canary}\n\trequired = true\n'.encode(),
            ".gitmodules": b'[submodule "x"]\n\tpath = x\n\turl = https://elsewhere.invalid/x.git\n',
            ".lfsconfig": b"[lfs]\n\turl = https://elsewhere.invalid/\n",
            "config": f"[core]\n\tfsmonitor = touch {canary}\n".encode(),
            "hooks/reference-transaction": script,
            "hooks/post-checkout": script,
            "link": Link("/etc/passwd"),
            "objects/info/alternates": b"/\n",
            "x": Submodule(),
        }
    )
    pull.repository.git("update-ref", "refs/pull/7/head", head)
    with fetched(source(server), Wanted(base=pull.base, head=head, number=7), parent) as folder:
        git = Git(folder)
        tree = git.tree(head)
        assert (tree["link"].mode, tree["x"].mode) == ("120000", "160000")
        assert git.read(tree["hooks/post-checkout"].oid, 1000) == script
        git.close()
        assert not (folder / "hooks").exists()
        assert not (folder / "objects/info/alternates").exists()
    assert not canary.exists()
    assert all("elsewhere" not in path for _, path, _ in server.asked)


def literal(repository: Repository, entry: bytes) -> str:
    """A commit whose tree has one entry, as it is written."""
    blob = bytes.fromhex(repository.blob(b'[submodule "x"]\n\tpath = x\n\turl = --upload-pack=touch /tmp/x\n'))
    tree = repository.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=entry + b"\0" + blob)
    return repository.git("commit-tree", "-p", "main", "-m", "x", tree)


@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.parametrize("entry", [b"100644 .git", b"100644 ..", b"100644 a/b", b"120000 .gitmodules", b"100644 .gitmodules"])
def test_objects_that_are_made_to_harm_are_refused_in_one_line(
    server: GitServer, pull: Pull, parent: Path, entry: bytes, filters: bool
) -> None:
    pull.repository.git("config", "uploadpack.allowFilter", str(filters).lower())
    head = literal(pull.repository, entry)
    pull.repository.git("update-ref", "refs/pull/7/head", head)
    error = refused(server, Wanted(base=pull.base, head=head, number=7), parent)
    assert "git refused what it was sent" in str(error)


@pytest.mark.parametrize("filters", [True, False])
def test_an_old_flaw_of_an_honest_history_is_forgiven(server: GitServer, pull: Pull, parent: Path, filters: bool) -> None:
    pull.repository.git("config", "uploadpack.allowFilter", str(filters).lower())
    tree = pull.repository.git("rev-parse", "main^{tree}")
    text = f"tree {tree}\nparent {pull.base}\nauthor A <a@b> 1 +051800\ncommitter A <a@b> 1 +0000\n\nx\n".encode()
    head = pull.repository.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=text)
    pull.repository.git("update-ref", "refs/heads/odd", head)
    with fetched(source(server), Wanted(base=pull.base, head=head), parent) as folder:
        assert Git(folder).merge_base(pull.base, head) == pull.base


def test_nothing_of_the_machine_steers_git(
    server: GitServer, pull: Pull, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that rewrite the address, run a program, ask for a password or trace the token's header are not seen."""
    home, canary = tmp_path / "home", tmp_path / "canary"
    home.mkdir()
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {canary}\n")
    program.chmod(0o755)
    settings = f'[url "https://elsewhere.invalid/"]\n\tinsteadOf = {server.url}/\n[credential]\n\thelper = {program}\n'
    (home / ".gitconfig").write_text(f"{settings}[core]\n\tfsmonitor = {program}\n")
    trace = tmp_path / "trace"
    for name, value in {
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_ASKPASS": str(program),
        "SSH_ASKPASS": str(program),
        "GIT_PROXY_COMMAND": str(program),
        "GIT_TRACE_CURL": str(trace),
        "GIT_TRACE": str(trace),
        "GIT_TRACE_REDACT": "0",
        "GIT_DIR": str(pull.repository.path / ".git"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "url.https://elsewhere.invalid/.insteadOf",
        "GIT_CONFIG_VALUE_0": f"{server.url}/",
    }.items():
        monkeypatch.setenv(name, value)
    with fetched(source(server), pull.wanted, parent) as folder:
        monkeypatch.delenv("GIT_DIR")
        assert "new" in Git(folder).tree(pull.head)
    refused(server, pull.wanted, parent, token="wrong")
    assert not canary.exists()
    assert not trace.exists()


def test_the_token_is_in_no_argument(
    server: GitServer, pull: Pull, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A program called git that notes its arguments, and then is git."""
    real, programs, notes = shutil.which("git"), tmp_path / "programs", tmp_path / "notes"
    programs.mkdir()
    (programs / "git").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {notes}\nexec {real} "$@"\n')
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with fetched(source(server), pull.wanted, parent):
        pass
    arguments = notes.read_text()
    assert "refs/pull/7/head" in arguments
    assert not any(secret in arguments for secret in SECRETS)
    assert all("authorization" in headers for _, _, headers in server.asked)
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "")
    assert TOKEN not in repr(source(server))


def test_only_the_path_proxies_and_certificates_reach_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv("ACTIONS_RUNTIME_TOKEN", "another")
    given = environment(Path("/x"), Source(url="https://ghes.invalid/o/r.git", token=TOKEN, authority="/etc/own.pem"))
    assert given["HTTPS_PROXY"] == "http://proxy.invalid:3128"
    assert "another" not in given.values()
    assert given["GIT_ALLOW_PROTOCOL"] == "https"
    pairs = {given[f"GIT_CONFIG_KEY_{n}"]: given[f"GIT_CONFIG_VALUE_{n}"] for n in range(int(given["GIT_CONFIG_COUNT"]))}
    assert pairs["http.sslCAInfo"] == "/etc/own.pem"
    assert pairs["http.https://ghes.invalid/o/r.git.extraHeader"] == f"Authorization: Basic {SECRETS[1]}"


def test_the_source_is_the_repository_of_the_job() -> None:
    job = {"GITHUB_SERVER_URL": "https://ghes.example/", "GITHUB_REPOSITORY": "org/models", "REQUESTS_CA_BUNDLE": "/etc/own.pem"}
    made = source_of_job(job, TOKEN)
    assert (made.url, made.token, made.authority) == ("https://ghes.example/org/models.git", TOKEN, "/etc/own.pem")
    trusted = {**job, "GITHUB_SERVER_URL": "http://10.0.0.5:3000", "MODELGUARD_TRUSTED_ORIGINS": "http://10.0.0.5:3000"}
    assert source_of_job(trusted, "").url == "http://10.0.0.5:3000/org/models.git"


@pytest.mark.parametrize(
    "change",
    [
        {"GITHUB_SERVER_URL": ""},
        {"GITHUB_SERVER_URL": "file:///srv"},
        {"GITHUB_SERVER_URL": "ext::sh -c true"},
        {"GITHUB_SERVER_URL": "ssh://host"},
        {"GITHUB_SERVER_URL": "https://user:pass@host"},
        {"GITHUB_SERVER_URL": "http://ghes.example"},
        {"GITHUB_REPOSITORY": ""},
        {"GITHUB_REPOSITORY": "--upload-pack=x"},
        {"GITHUB_REPOSITORY": "a/b/c"},
    ],
)
def test_a_source_that_is_none_is_a_wrong_configuration(change: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as caught:
        source_of_job({"GITHUB_SERVER_URL": "https://ghes.example", "GITHUB_REPOSITORY": "org/models", **change}, TOKEN)
    assert caught.value.advice
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("event", ["pull_request", "push", "merge_group", "schedule", "workflow_dispatch"])
def test_a_checkout_is_used_where_the_job_has_no_rights(tmp_path: Path, event: str) -> None:
    assert needs_fetching(event, tmp_path)
    subprocess.run(("git", "init", "--quiet", str(tmp_path)), check=True)
    assert not needs_fetching(event, tmp_path)
    assert all(needs_fetching(other, tmp_path) for other in ("pull_request_target", "workflow_run"))


def test_fetches_at_the_same_time_do_not_meet(server: GitServer, pull: Pull, parent: Path) -> None:
    with ExitStack() as stack:
        folders = [stack.enter_context(fetched(source(server), pull.wanted, parent)) for _ in range(3)]
        assert len(set(folders)) == 3
