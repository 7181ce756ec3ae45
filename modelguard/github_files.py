"""Reads files of GitHub repositories at a commit, through the REST interface: policies of an organisation and its repositories."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

from modelguard.errors import BadRequest, CannotFetch
from modelguard.github.api import PAGE, Api, Destination, Json, Meaning, Refused

MAX_BYTES = 1 << 20
MAX_REPOSITORIES = 5_000
PLACE = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)//(?P<path>[^@\s]+)@(?P<ref>[\w./-]+)", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
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
        raise CannotFetch(f"{place} could not be read (HTTP 404)", advice=ADVICE[Meaning.NOT_FOUND])
    return data, commit


def look_for(access: Access, place: FilePlace) -> tuple[bytes | None, str]:
    """As `read_file`, with None for a file that the repository, which can be seen, does not have at that commit."""

    def read(api: Api) -> tuple[bytes | None, str]:
        commit = str(_object(api.get(f"/commits/{quote(place.ref, safe='')}"), place).get("sha", ""))
        if COMMIT.fullmatch(commit) is None:
            raise CannotFetch(f"{place}: GitHub's answer names no commit", advice=LATER)
        try:
            found = api.get(f"/contents/{quote(place.path, safe='')}", {"ref": commit})
        except Refused as refused:
            if refused.meaning is Meaning.NOT_FOUND:
                return None, commit
            raise
        return _content(found, place), commit

    return _asked(access, str(place), read, repository=place.repository)


def repositories_of(access: Access, organisation: str) -> tuple[tuple[str, str], ...]:
    """(owner/name, default branch) of an organisation's repositories that are neither archived nor empty, by name. Raises CannotFetch."""
    if re.fullmatch(r"[\w.-]+", organisation, re.ASCII) is None:
        raise BadRequest(f"{organisation[:80]!a} is no organisation's name", advice="write it as in its address")

    def listed(api: Api) -> tuple[tuple[str, str], ...]:
        everything = api.listed(f"/orgs/{organisation}/repos", {}, pages=MAX_REPOSITORIES // PAGE)
        live = (item for item in everything if item.get("archived") is not True and item.get("default_branch"))
        return tuple(sorted((str(item.get("full_name", "")), str(item["default_branch"])) for item in live))

    return _asked(access, f"the repositories of {organisation}", listed)


def _content(found: object, place: FilePlace) -> bytes:
    """The bytes of a file as the interface gives them: in base64, up to a size that no policy reaches."""
    item = found if isinstance(found, dict) else {}
    text, size = item.get("content"), item.get("size")
    if item.get("type") != "file" or item.get("encoding") != "base64" or not isinstance(text, str) or not isinstance(size, int):
        raise CannotFetch(f"{place} is no file of at most {MAX_BYTES} bytes", advice="name the policy's file itself")
    try:
        data = base64.b64decode(text) if size <= MAX_BYTES else b""
    except binascii.Error:
        data = b""
    if len(data) != size:
        raise CannotFetch(f"{place} is no file of at most {MAX_BYTES} bytes", advice="name the policy's file itself")
    return data


def _asked(access: Access, what: str, question: Callable[[Api], Value], *, repository: str = "") -> Value:
    """The answer to a question to GitHub; refusals and broken connections become one reason."""
    calls = MAX_REPOSITORIES // PAGE + CALLS
    api = Api(Destination(api_url=access.api_url, repository=repository, number=0, token=access.token, calls=calls))
    api.begin(f"{what} could not be read", ADVICE)
    try:
        return question(api)
    except Refused as refused:
        raise CannotFetch(str(refused), advice=refused.advice) from None
    finally:
        api.close()


def _object(found: object, place: FilePlace) -> Json:
    if not isinstance(found, dict):
        raise CannotFetch(f"{place}: GitHub's answer was not understood", advice=LATER)
    return found


CALLS = 10  # beside the pages of a list
LATER = "GitHub may be unwell: run it again later"
ADVICE = {
    Meaning.UNKNOWN_TOKEN: "the token is not valid",
    Meaning.PERMISSION: "the token may not read it",
    Meaning.NOT_FOUND: "check its name; a private repository needs a token that may read it (the input policy-token)",
    Meaning.INVALID: "there is no such ref: check what stands behind the @",
    Meaning.LIMIT: "GitHub asks for fewer requests: run it again later",
    Meaning.UNWELL: LATER,
}
