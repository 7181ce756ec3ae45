"""Commits of the repository that a job runs in, fetched as data into a bare repository: nothing of the head is checked out or run.

Two steps keep a fetch small and the merge base exact. The history comes first as commits alone (`tree:0`); a shallow history would be
smaller still, but its cut can make an older commit look like the merge base. Then come the trees of the three commits that an audit reads.
What was left out has no promise to fetch it, so that no later command of git asks the network.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from modelguard.activity import Activity
from modelguard.blobs.http import origin, shown, trusted_origins
from modelguard.errors import BadRequest, CannotFetch
from modelguard.git import Git
from modelguard.transport import Broken, Limits, Source, Transport

WITH_RIGHTS = ("pull_request_target", "workflow_run")
BASE, HEAD = "refs/modelguard/base", "refs/modelguard/head"
PAUSES = (2.0, 8.0)  # seconds before the second and the third attempt
AUTHORITIES = ("GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The two commits to hold against each other, and the pull request that is to stand at `head` (None: there is none).

    They may be the same commit. `base` may be written `COMMIT^`, its parent.
    """

    base: str
    head: str
    number: int | None = None


def needs_fetching(event: str, workspace: Path) -> bool:
    """Whether the commits are to be fetched: nothing is checked out, or the job has rights and believes nothing that lies there."""
    return event in WITH_RIGHTS or not (workspace / ".git").exists()


def source_of_job(environ: Mapping[str, str], token: str) -> Source:
    """The repository that a workflow runs in. The token goes to its server alone. Raises BadRequest.

    Plain http needs the server's origin in MODELGUARD_TRUSTED_ORIGINS. A server with a private certificate is trusted by the bundle that
    GIT_SSL_CAINFO, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE or SSL_CERT_FILE names.
    """
    server, repository = environ.get("GITHUB_SERVER_URL", "").rstrip("/"), environ.get("GITHUB_REPOSITORY", "")
    if not server or re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII) is None:
        reason = "the commits are to be fetched, and GITHUB_SERVER_URL or GITHUB_REPOSITORY does not say where from"
        raise BadRequest(reason, advice="run as a step of a workflow")
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise BadRequest(f"GITHUB_SERVER_URL is {shown(server)!a}, which is no server", advice="it reads https://host")
    if parts.scheme == "http" and origin(server) not in trusted_origins(environ):
        reason = f"GITHUB_SERVER_URL is {shown(server)!a}: plain http can be changed on its way"
        raise BadRequest(reason, advice="name its origin in MODELGUARD_TRUSTED_ORIGINS if it is yours")
    authority = next((environ[name] for name in AUTHORITIES if environ.get(name)), "")
    return Source(url=f"{server}/{repository}.git", token=token, authority=authority)


@contextmanager
def repository(doing: Activity, environ: Mapping[str, str], token: str) -> Iterator[Path]:
    """The repository to audit an event in: the one that was checked out, or a bare one that is fetched and gone afterwards.

    Raises CannotFetch, BadRequest.
    """
    workspace = Path(environ["GITHUB_WORKSPACE"])
    if not needs_fetching(doing.event, workspace):
        yield workspace
        return
    asked = Wanted(base=doing.base, head=doing.head, number=doing.number)
    with fetched(source_of_job(environ, token), asked, Path(environ.get("RUNNER_TEMP") or tempfile.gettempdir())) as folder:
        yield folder


@contextmanager
def fetched(
    source: Source, asked: Wanted, parent: Path, limits: Limits | None = None, pauses: tuple[float, ...] = PAUSES
) -> Iterator[Path]:
    """A bare repository below `parent` that has both commits, their merge base and the history between; it is gone afterwards.

    Raises CannotFetch, also when the pull request stands at another commit by now.
    """
    folder = Path(tempfile.mkdtemp(prefix="modelguard-repository-", dir=parent))
    try:
        transport = Transport(folder, source, limits or Limits())
        transport.create(sha256=len(asked.head) == 64)
        _patiently(lambda: transport.commits(_refspecs(asked)), pauses)
        _still_there(folder, asked)
        trees = _trees(folder, asked)
        if _present(folder, trees):
            transport.check()
        else:
            _patiently(lambda: transport.contents(trees), pauses)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refspecs(asked: Wanted) -> tuple[str, ...]:
    """A pull request's head by its ref, which the base repository has for forks too; everything else by its id."""
    head = asked.head if asked.number is None else f"refs/pull/{asked.number}/head"
    return (f"+{head}:{HEAD}", f"+{asked.base.removesuffix('^')}:{BASE}")


def _still_there(folder: Path, asked: Wanted) -> None:
    """Raises CannotFetch when the pull request's head is not the commit that the event is about."""
    stands = Git(folder).resolve(HEAD)
    if stands != asked.head:
        reason = f"pull request {asked.number} stands at {stands[:12]} by now, this run is about {asked.head[:12]}"
        raise CannotFetch(reason, advice="the run of the newer commit answers")


def _trees(folder: Path, asked: Wanted) -> tuple[str, ...]:
    """The trees that an audit reads: of the base for its policy, of the head, and of the commit where the head forked off."""
    git = Git(folder)
    base, head = git.resolve(asked.base), git.resolve(asked.head)
    try:
        fork = git.merge_base(base, head)
    except BadRequest:
        reason = f"{base[:12]} and {head[:12]} have no common ancestor"
        raise CannotFetch(reason, advice="start the audit with commits of one history") from None
    return tuple(dict.fromkeys(git.tree_of(commit) for commit in (base, head, fork)))


def _present(folder: Path, trees: tuple[str, ...]) -> bool:
    """Whether the server sent everything at once, because it cannot leave objects out."""
    git = Git(folder)
    try:
        return all(git.tree(tree) is not None for tree in trees)
    except BadRequest:
        return False


def _patiently(fetch: Callable[[], None], pauses: tuple[float, ...]) -> None:
    """Fetches, again where the server was unwell or the connection broke."""
    for pause in pauses:
        try:
            return fetch()
        except Broken:
            time.sleep(pause)
    fetch()
