"""Delivers words to GitHub: one comment that is edited in place, and the files and commands by which a step talks to its job."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from modelguard.errors import BadRequest, CannotPost
from modelguard.render.text import workflow_data, workflow_property

if TYPE_CHECKING:
    from github import Github
    from github.IssueComment import IssueComment
    from github.PullRequest import PullRequest

MAX_BODY = 65_536  # characters; GitHub refuses longer ones
MAX_SUMMARY_BYTES = 1 << 20  # a longer job summary is dropped whole
BODY_LIMIT = MAX_BODY - 256  # what is left beside the marker
ACTIONS_LOGIN = "github-actions[bot]"  # whom GITHUB_TOKEN writes as; that token may not ask
RETRIES = 3
TIMEOUT_SECONDS = 20
PAGE = 100
_IDENTITY = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_MARKER = re.compile(r"<!-- modelguard:comment id=([a-z0-9-]{1,64}) head=([0-9a-f]{40,64}) -->")


class Delivery(StrEnum):
    """What became of the comment."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"  # the comment there is already about the pull request's newest commit, and this run is not
    NOT_WANTED = "not-wanted"  # there is none, and none was to be created


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a comment goes. The token stays out of every message and out of `repr`."""

    api_url: str
    repository: str
    number: int
    token: str

    def __repr__(self) -> str:
        return f"Destination({self.repository}#{self.number} at {self.api_url})"


@dataclass(frozen=True, slots=True)
class Posted:
    """A comment's address ("" when there is none) and what was done to it."""

    url: str
    delivery: Delivery


def marker(identity: str, head: str) -> str:
    """The invisible first line by which a later run finds its comment again, with the commit that it is about."""
    line = f"<!-- modelguard:comment id={identity} head={head} -->"
    if _IDENTITY.fullmatch(identity) is None or _MARKER.fullmatch(line) is None:
        raise BadRequest("a comment's identity is lower-case letters, digits and hyphens, its head a full commit id")
    return line


def post_comment(to: Destination, body: str, *, head: str, identity: str = "default", create: bool = True) -> Posted:
    """Creates the comment or edits it in place; an equal one is left alone. Raises CannotPost."""
    import requests
    from github import GithubException

    text = within_limit(f"{marker(identity, head)}\n{body}")
    try:
        return _post(to, text, head, identity, create)
    except GithubException as error:
        raise _refused(error.status, to) from None
    except requests.RequestException as error:
        advice = "GitHub may be unwell, or GITHUB_API_URL wrong: run the job again"
        raise CannotPost(f"the comment on #{to.number} was not posted: {type(error).__name__}", advice=advice) from None


def within_limit(text: str) -> str:
    """The text, or its first whole lines with a count of those left out: the last resort behind the renderer's own limit."""
    if len(text) <= MAX_BODY:
        return text
    kept = text[: MAX_BODY - 100].rpartition("\n")[0]
    return f"{kept}\n\n({text.count(chr(10)) - kept.count(chr(10))} more lines are in the report.)"


def append_summary(path: Path, body: str) -> None:
    """Adds to the job summary. What would make GitHub drop it whole is cut at a line's end."""
    data = body.encode("utf-8", "backslashreplace")
    if len(data) >= MAX_SUMMARY_BYTES:
        data = data[: MAX_SUMMARY_BYTES - 100].rpartition(b"\n")[0] + b"\n\n(The rest is in the report.)"
    with path.open("ab") as file:
        file.write(data + b"\n")


def append_outputs(path: Path, outputs: Mapping[str, str]) -> None:
    """Sets a step's outputs: single-line printable ASCII values, each fenced by a delimiter that nobody can guess."""
    lines = []
    for name, value in outputs.items():
        if not (value.isascii() and value.isprintable()):
            raise BadRequest(f"the output {name} is not a line of printable ASCII")
        fence = f"modelguard_{secrets.token_hex(16)}"
        lines += [f"{name}<<{fence}", value, fence]
    with path.open("a", encoding="ascii") as file:
        file.write("".join(f"{line}\n" for line in lines))


def annotation(level: str, message: str, *, title: str, file: str = "") -> str:
    """A workflow command that shows a message on the run and beside the file."""
    properties = {"file": file, "title": title}
    written = ",".join(f"{key}={workflow_property(value)}" for key, value in properties.items() if value)
    return f"::{level} {written}::{workflow_data(message, 1000)}"


def _post(to: Destination, text: str, head: str, identity: str, create: bool) -> Posted:
    client = _client(to)
    try:
        pull = client.get_repo(to.repository).get_pull(to.number)
        mine = _own_comment(pull, _login(client), identity)
        return _write(pull, mine, text, head) if mine or create else Posted("", Delivery.NOT_WANTED)
    finally:
        client.close()


def _write(pull: PullRequest, mine: IssueComment | None, text: str, head: str) -> Posted:
    if mine is None:
        return Posted(pull.create_issue_comment(text).html_url, Delivery.CREATED)
    if _normal(mine.body) == _normal(text):
        return Posted(mine.html_url, Delivery.UNCHANGED)
    if _marked_head(mine.body) == pull.head.sha != head:
        return Posted(mine.html_url, Delivery.SUPERSEDED)
    mine.edit(text)
    return Posted(mine.html_url, Delivery.UPDATED)


def _own_comment(pull: PullRequest, login: str, identity: str) -> IssueComment | None:
    """The first comment that carries the marker and was written by us: anyone can write a marker, nobody else as us."""
    for comment in pull.get_issue_comments():
        match = _MARKER.match(comment.body or "")
        if match and match[1] == identity and getattr(comment.user, "login", None) == login:
            return comment
    return None


def _login(client: Github) -> str:
    from github import GithubException

    try:
        return client.get_user().login
    except GithubException as error:
        if error.status != 403:
            raise
        return ACTIONS_LOGIN


def _client(to: Destination) -> Github:
    from github import Auth, Github
    from urllib3 import Retry

    # POST is not repeated: an answer that got lost would leave two comments. Waits are ours: a server cannot stretch them.
    retry = Retry(
        total=RETRIES,
        backoff_factor=0.25,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=("GET", "PATCH"),
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    return Github(
        auth=Auth.Token(to.token),
        base_url=to.api_url.rstrip("/"),
        timeout=TIMEOUT_SECONDS,
        per_page=PAGE,
        retry=retry,
        seconds_between_requests=0,  # a handful of requests, one after the other
        seconds_between_writes=0,
    )


def _refused(status: int, to: Destination) -> CannotPost:
    advice = {
        401: "the token is not valid: check the input github-token",
        403: "give the job `permissions: pull-requests: write`; on pull requests from forks the token may only read: see the job summary",
        404: "the token cannot see the pull request: give the job `permissions: pull-requests: write`",
        422: "GitHub refused the comment as invalid: please report it",
        429: "GitHub asks for fewer requests: run the job again later",
    }.get(status, "GitHub may be unwell: run the job again")
    return CannotPost(f"the comment on #{to.number} was not posted (HTTP {status})", advice=advice)


def _normal(body: str) -> str:
    """A body as compared: GitHub stores line ends as CR LF and drops white space at the end."""
    return body.replace("\r\n", "\n").rstrip()


def _marked_head(body: str) -> str:
    match = _MARKER.match(body)
    return match[2] if match else ""
