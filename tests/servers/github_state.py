"""What the GitHub of the tests keeps, and what may go wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.servers.github import GitHubServer


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    body: object

    @property
    def text(self) -> str:
        return str(self.body["body"]) if isinstance(self.body, dict) else ""


@dataclass(frozen=True)
class Answer:
    """One answer to give."""

    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with the requests of a method whose path holds `path`, `times` times.

    `before` changes the world first. `done` has the request take effect although its answer is lost. Without an `answer` the connection
    breaks, after `stall` seconds; `raw` is sent as the body of an answer with the status 200.
    """

    method: str
    path: str = ""
    answer: Answer | None = None
    raw: bytes | None = None
    stall: float = 0.0
    done: bool = False
    before: Callable[[GitHubServer], None] | None = None
    goes_on: bool = False
    times: int = 1 << 30


@dataclass
class Comment:
    """One comment: on the conversation, or with a `path` on a file of the pull request."""

    id: int
    number: int
    login: str
    body: str
    edits: int = 0
    path: str = ""
    commit: str = ""
    resolved: bool = False
    answers: str = ""


@dataclass
class Pull:
    """One pull request; `files` are those that it changes (None: any)."""

    number: int
    head: str
    base: str
    head_repository: str
    files: tuple[str, ...] | None = None
