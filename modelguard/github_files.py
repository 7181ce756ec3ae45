"""Reads files of GitHub repositories at a commit, through the REST interface: policies of an organisation and its repositories."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from modelguard.errors import BadRequest, CannotFetch

if TYPE_CHECKING:
    from github import Github

RETRIES = 3
TIMEOUT_SECONDS = 20
MAX_BYTES = 1 << 20
MAX_REPOSITORIES = 5_000
PLACE = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)//(?P<path>[^@\s]+)@(?P<ref>[\w./-]+)", re.ASCII)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A GitHub and the token for it; the token stays out of every message and out of `repr`."""

    api_url: str
    token: str

    def __repr__(self) -> str:
        return f"Access({self.api_url})"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlace:
    """A file of a repository at a branch, a tag or a commit: `org/repo//path@ref`."""

    repository: str
    path: str
    ref: str

    def __str__(self) -> str:
        return f"{self.repository}//{self.path}@{self.ref}"


def file_place(text: str) -> FilePlace:
    """A place from its text. Raises BadRequest; the ref is not optional, because a policy should not change by itself unseen."""
    match = PLACE.fullmatch(text)
    if match is None or ".." in match["path"].split("/"):
        raise BadRequest(f"{text[:200]!a} is not org/repo//path@ref", advice="write it like acme/.github//modelguard.yml@main")
    return FilePlace(repository=match["repository"], path=match["path"].lstrip("/"), ref=match["ref"])


def read_file(access: Access, place: FilePlace) -> tuple[bytes, str]:
    """(content, commit) of a file: the ref is resolved first, so that both belong together. Raises CannotFetch."""
    data, commit = look_for(access, place)
    if data is None:
        raise CannotFetch(f"{place} could not be read (HTTP 404)", advice=ADVICE[404])
    return data, commit


def look_for(access: Access, place: FilePlace) -> tuple[bytes | None, str]:
    """As `read_file`, with None for a file that the repository, which can be seen, does not have at that commit."""

    def read(client: Github) -> tuple[bytes | None, str]:
        from github import UnknownObjectException

        repository = client.get_repo(place.repository)
        commit = repository.get_commit(place.ref).sha
        try:
            found = repository.get_contents(place.path, ref=commit)
        except UnknownObjectException:
            return None, commit
        if isinstance(found, list) or found.type != "file" or found.encoding != "base64" or found.size > MAX_BYTES:
            raise CannotFetch(f"{place} is no file of at most {MAX_BYTES} bytes", advice="name the policy's file itself")
        return found.decoded_content, commit

    return _asked(access, str(place), read)


def repositories_of(access: Access, organisation: str) -> tuple[tuple[str, str], ...]:
    """(owner/name, default branch) of an organisation's repositories that are neither archived nor empty, by name. Raises CannotFetch."""
    if re.fullmatch(r"[\w.-]+", organisation, re.ASCII) is None:
        raise BadRequest(f"{organisation[:80]!a} is no organisation's name", advice="write it as in its address")

    def listed(client: Github) -> Iterator[tuple[str, str]]:
        for repository, _ in zip(client.get_organization(organisation).get_repos(), range(MAX_REPOSITORIES), strict=False):
            if not repository.archived and repository.default_branch:
                yield repository.full_name, repository.default_branch

    return _asked(access, f"the repositories of {organisation}", lambda client: tuple(sorted(listed(client))))


def _asked(access: Access, what: str, question: Callable[[Github], Value]) -> Value:
    """The answer to a question to GitHub; refusals and broken connections become one reason."""
    import requests
    from github import Auth, Github, GithubException
    from urllib3 import Retry

    retry = Retry(
        total=RETRIES,
        backoff_factor=0.25,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=("GET",),
        respect_retry_after_header=False,  # waits are ours: a server cannot stretch them
        raise_on_status=False,
    )
    auth = Auth.Token(access.token) if access.token else None
    options = {"base_url": access.api_url.rstrip("/"), "timeout": TIMEOUT_SECONDS, "retry": retry, "per_page": 100}
    try:
        with closing(Github(auth=auth, seconds_between_requests=0, **options)) as client:  # type: ignore[arg-type]
            return question(client)
    except GithubException as error:
        raise CannotFetch(f"{what} could not be read (HTTP {error.status})", advice=ADVICE.get(error.status, LATER)) from None
    except requests.RequestException as error:
        raise CannotFetch(f"{what} could not be read ({type(error).__name__})", advice=LATER) from None
    except (AssertionError, TypeError, ValueError) as error:  # an answer that is not what GitHub's description promises
        raise CannotFetch(f"{what}: GitHub's answer was not understood ({type(error).__name__})", advice=LATER) from None


LATER = "GitHub may be unwell: run it again later"
ADVICE = {
    401: "the token is not valid",
    403: "the token may not read it, or GitHub asks for fewer requests",
    404: "check its name; a private repository needs a token that may read it (the input policy-token)",
    422: "there is no such ref: check what stands behind the @",
    429: "GitHub asks for fewer requests: run it again later",
}
