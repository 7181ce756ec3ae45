"""One run's calls to GitHub: at most thirty, repeated where that is safe, with the one meaning that a refusal has.

A 403 means three things: no permission, the hourly limit, the limit on bursts. Only the last two pass by waiting, and GitHub says how
long; a client that does not listen may be banned. A POST whose answer got lost is not repeated: that would leave two comments.
Source: "Rate limits for the REST API" and "Troubleshooting the REST API" of GitHub's documentation.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from modelguard.errors import CannotPost

if TYPE_CHECKING:
    from github import Github

MAX_CALLS = 30
RETRIES = 3
PAGE = 100
MAX_PAGES = 10
UNSTATED_WAIT = 60  # seconds that GitHub's documentation asks for where a refusal names none
BOT = "[bot]"  # how the names of Apps end, and those of no person
Json = Mapping[str, object]


class Meaning(StrEnum):
    """What a refusal means."""

    PERMISSION = "permission"
    LIMIT = "limit"
    UNKNOWN_TOKEN = "unknown-token"
    NOT_FOUND = "not-found"
    INVALID = "invalid"
    CLOSED = "closed"  # locked, archived
    UNWELL = "unwell"
    BUDGET = "budget"


ADVICE = {
    Meaning.PERMISSION: (
        "give the job `permissions: pull-requests: write`; on pull requests from forks the token may only read: see the job summary"
    ),
    Meaning.LIMIT: "GitHub asks for fewer requests: run the job again later",
    Meaning.UNKNOWN_TOKEN: "the token is not valid: check the input github-token",
    Meaning.NOT_FOUND: "the token cannot see the pull request: give the job `permissions: pull-requests: write`",
    Meaning.INVALID: "GitHub refused it as invalid: please report it",
    Meaning.CLOSED: "the pull request or its repository is closed to comments: see the job summary",
    Meaning.UNWELL: "GitHub may be unwell, or GITHUB_API_URL wrong: run the job again",
    Meaning.BUDGET: "the rest is brought up to date by the next run",
}
LIMIT_WORDS = ("rate limit", "abuse detection")
CLOSED_WORDS = ("is locked", "was archived", "locked conversation")


class Refused(CannotPost):
    """GitHub did not do it. `lost` is true where it may have done it nonetheless: the answer did not arrive, or said that it fell over."""

    def __init__(self, reason: str, meaning: Meaning, *, lost: bool = False, advice: str = "") -> None:
        super().__init__(reason, advice=advice or ADVICE[meaning])
        self.meaning = meaning
        self.lost = lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A pull request, and how long to wait for GitHub in all, and for one answer (seconds); `calls` is how many a run may make.

    Number 0 is no pull request, but the repository; without a repository, paths are those of the whole interface. Without a token
    GitHub is asked as anybody may. The token stays out of every message and out of `repr`.
    """

    api_url: str
    repository: str
    number: int
    token: str
    patience: float = 75.0
    timeout: int = 20
    calls: int = MAX_CALLS

    @property
    def root(self) -> str:
        return f"/repos/{self.repository}" if self.repository else ""

    def __repr__(self) -> str:
        return f"Destination({self.repository}#{self.number} at {self.api_url})"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    text: str


class Api:
    """The calls of one run.

    `task` says what fails when a call does: "the comment on #7 was not posted".
    """

    def __init__(self, to: Destination) -> None:
        self.to = to
        self.task = f"#{to.number} was not reached"
        self._advice: Mapping[Meaning, str] = {}
        self.calls = 0
        self._patience = to.patience
        self._client = _client(to)
        self._login: str | None = None  # "" where GitHub does not say

    def begin(self, task: str, advice: Mapping[Meaning, str] | None = None) -> None:
        """What the next calls are for, and what to do where they are refused, if that is another than usual."""
        self.task, self._advice = task, advice or {}

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()

    @property
    def left(self) -> int:
        """How many calls this run may still make."""
        return self.to.calls - self.calls

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> object:
        """A document. Raises Refused."""
        return self._call("GET", f"{self.to.root}{path}", parameters=parameters, again=True)[0]

    def pages(self, path: str) -> Iterator[Json]:
        """Every item of a list, page by page. Raises Refused, also for a list that is longer than anybody reads."""
        return self.listed(path, {})

    def listed(self, path: str, parameters: Mapping[str, str], *, pages: int = MAX_PAGES) -> Iterator[Json]:
        """As `pages`, of those items that the parameters ask for."""
        for page in range(1, pages + 1):
            asked = {**parameters, "per_page": str(PAGE), "page": str(page)}
            items, headers = self._call("GET", f"{self.to.root}{path}", parameters=asked, again=True)
            if not isinstance(items, list):
                raise self._senseless()
            yield from (item for item in items if isinstance(item, dict))
            if 'rel="next"' not in headers.get("link", ""):
                return
        raise self._refusal(f"{self.task}: more than {pages} pages to look through", Meaning.BUDGET)

    def create(self, path: str, body: Json, *, again: bool = False) -> Json:
        """Creates something, once; `again` where a second one takes the first one's place. Raises Refused; `lost` where it may stand
        there nonetheless.
        """
        return self._object(self._call("POST", f"{self.to.root}{path}", body=body, again=again)[0])

    def update(self, path: str, body: Json) -> Json:
        """Changes something; repeating it changes nothing more. Raises Refused."""
        return self._object(self._call("PATCH", f"{self.to.root}{path}", body=body, again=True)[0])

    def graphql(self, query: str, variables: Json) -> Json:
        """The data of a GraphQL query, or of a mutation that may be repeated. Raises Refused."""
        url = self._client.requester.graphql_url
        answer = self._object(self._call("POST", url, body={"query": query, "variables": variables}, again=True)[0])
        data = answer.get("data")
        if answer.get("errors") or not isinstance(data, dict):
            raise self._refusal(f"{self.task}: GitHub's GraphQL interface refused", Meaning.PERMISSION)
        return data

    def is_ours(self, user: Json) -> bool:
        """Whether a user, as a comment names its author, is whom the token writes as.

        An App's token whose name neither interface tells (GraphQL is closed to it, REST never says) may be any bot, and no person.
        """
        name, bot = str(user.get("login", "")), user.get("type") == "Bot"
        login = self.login()
        return bool(name) and (name == login or (bot and name == f"{login}[bot]") or (not login and bot and name.endswith(BOT)))

    def login(self) -> str:
        """Whom the token writes as; "" for an App's token where GitHub does not say."""
        if self._login is None:
            viewer = self._told(lambda: self.graphql("query Writer { viewer { login } }", {}).get("viewer"))
            user = viewer if isinstance(viewer, dict) else self._told(lambda: self._call("GET", "/user", again=True)[0])
            self._login = str(user.get("login", "")) if isinstance(user, dict) else ""
        return self._login

    def _told(self, question: Callable[[], object]) -> object:
        """The answer; None where this token may not ask."""
        try:
            return question()
        except Refused as refused:
            if refused.meaning not in (Meaning.PERMISSION, Meaning.NOT_FOUND):
                raise
            return None

    def live_head(self) -> str:
        """The commit that the pull request stands at now. Raises Refused."""
        head = self._object(self.get(f"/pulls/{self.to.number}")).get("head")
        return str(head.get("sha", "")) if isinstance(head, dict) else ""

    def _call(
        self, verb: str, path: str, *, parameters: Mapping[str, str] | None = None, body: Json | None = None, again: bool
    ) -> tuple[object, Mapping[str, str]]:
        for attempt in range(RETRIES + 1):
            answer = self._once(verb, path, parameters, body)
            if isinstance(answer, _Answer) and answer.status < 400:
                return self._read(answer), answer.headers
            refused = answer if isinstance(answer, Refused) else self._refused(answer)
            pause = self._pause(answer, refused, attempt, again)
            if attempt == RETRIES or pause is None or pause > self._patience:
                raise refused
            self._patience -= pause
            time.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _once(self, verb: str, path: str, parameters: Mapping[str, str] | None, body: Json | None) -> _Answer | Refused:
        import requests

        if self.left < 1:
            raise self._refusal(f"{self.task}: this run has made its {self.to.calls} calls", Meaning.BUDGET)
        self.calls += 1
        try:
            status, headers, text = self._client.requester.requestJson(verb, path, dict(parameters or {}), None, body)
        except (requests.RequestException, RuntimeError) as error:  # RuntimeError: sent elsewhere
            return self._refusal(f"{self.task}: {type(error).__name__}", Meaning.UNWELL, lost=verb == "POST")
        return _Answer(status, {str(key).lower(): str(value) for key, value in headers.items()}, str(text))

    def _pause(self, answer: _Answer | Refused, refused: Refused, attempt: int, again: bool) -> float | None:
        """Seconds until the call may be repeated; None where repeating it is of no use, or not safe."""
        if refused.meaning is Meaning.LIMIT and isinstance(answer, _Answer):
            return _asked_for(answer.headers)
        return 0.25 * 2**attempt if refused.meaning is Meaning.UNWELL and again else None

    def _refused(self, answer: _Answer) -> Refused:
        meaning = meaning_of(answer.status, answer.headers, _message(answer.text))
        wait = f", in {_asked_for(answer.headers):.0f} s" if meaning is Meaning.LIMIT else ""
        return self._refusal(f"{self.task} (HTTP {answer.status}{wait})", meaning, lost=answer.status >= 500)

    def _read(self, answer: _Answer) -> object:
        try:
            data: object = json.loads(answer.text)
        except (ValueError, RecursionError):
            raise self._senseless() from None
        return data

    def _object(self, data: object) -> Json:
        if not isinstance(data, dict):
            raise self._senseless()
        return data

    def _senseless(self) -> Refused:
        return self._refusal(f"{self.task}: the answer is not one of GitHub's", Meaning.UNWELL, lost=True)

    def _refusal(self, reason: str, meaning: Meaning, *, lost: bool = False) -> Refused:
        return Refused(reason, meaning, lost=lost, advice=self._advice.get(meaning, ""))


def meaning_of(status: int, headers: Mapping[str, str], message: str) -> Meaning:
    """What a refusal means, by its status, its headers (lower-case names) and its words."""
    words = message.lower()
    limited = headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers or any(part in words for part in LIMIT_WORDS)
    if status == 429 or (status == 403 and limited):
        return Meaning.LIMIT
    if status in (403, 410, 423):
        return Meaning.CLOSED if status != 403 or any(part in words for part in CLOSED_WORDS) else Meaning.PERMISSION
    if status in (400, 409, 422):
        return Meaning.INVALID
    return {401: Meaning.UNKNOWN_TOKEN, 404: Meaning.NOT_FOUND}.get(status, Meaning.UNWELL)


def _asked_for(headers: Mapping[str, str]) -> float:
    """Seconds that GitHub asks to wait: Retry-After, else until the limit is reset, else a minute."""
    after, reset = headers.get("retry-after", ""), headers.get("x-ratelimit-reset", "")
    if after.isdecimal() and len(after) < 10:
        return float(after)
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal() and len(reset) < 12:
        return max(0.0, float(reset) - time.time()) + 1
    return UNSTATED_WAIT


def _message(text: str) -> str:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    return str(document.get("message", "")) if isinstance(document, dict) else ""


def _client(to: Destination) -> Github:
    from github import Auth, Github

    return Github(
        auth=Auth.Token(to.token) if to.token else None,
        base_url=to.api_url.rstrip("/"),
        timeout=to.timeout,
        retry=0,  # repeated here, where it is known what may be
        seconds_between_requests=0,  # a handful of requests, one after the other
        seconds_between_writes=0,
    )
