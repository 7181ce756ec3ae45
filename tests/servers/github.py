"""A GitHub with state on the loopback interface: pull requests and their comments, as the REST description has them.

It answers what PyGithub asks for posting a comment, refuses what GitHub refuses, and keeps a list of violations: requests
that GitHub's description of its REST interface does not allow. Leaving the context with violations fails the test.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

MAX_BODY = 65_536
TIME = "2026-01-01T00:00:00Z"
MESSAGES = {403: "Resource not accessible by integration", 422: "Validation Failed", 429: "API rate limit exceeded", 502: "Server Error"}


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


@dataclass
class Comment:
    """One issue comment."""

    id: int
    number: int
    login: str
    body: str
    edits: int = 0


@dataclass
class Pull:
    """One pull request."""

    number: int
    head: str
    base: str
    head_repository: str


class GitHubServer:
    """`with GitHubServer() as github:` serves `github.url`. `login` is the token's user; None is a token that may not ask (GITHUB_TOKEN).

    `github.refuse("POST", 403)` makes requests of a method fail until `github.allow()`; `times` limits how many.
    """

    def __init__(
        self, repository: str = "org/models", *, login: str | None = None, token: str = "a-token", page: int = 30, prefix: str = ""
    ) -> None:
        self.repository, self.login, self.token, self.page, self.prefix = repository, login, token, page, prefix
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.pulls: dict[int, Pull] = {}
        self._comments: list[Comment] = []
        self._refusals: list[tuple[str, str, int, int]] = []
        self._lock = threading.RLock()

    def __enter__(self) -> GitHubServer:
        handler = type("Handler", (_Handler,), {"github": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if kind is None and self.violations:
            raise AssertionError(f"requests that GitHub's REST description does not allow: {self.violations}")

    @property
    def url(self) -> str:
        """What GITHUB_API_URL is set to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{self.prefix}"

    @property
    def writer(self) -> str:
        return self.login or "github-actions[bot]"

    def add_pull(self, number: int, *, head: str, base: str = "b" * 40, fork: bool = False) -> None:
        self.pulls[number] = Pull(number, head, base, "someone/models" if fork else self.repository)

    def add_comment(self, number: int, body: str, login: str = "someone") -> Comment:
        with self._lock:
            comment = Comment(1000 + len(self._comments), number, login, body)
            self._comments.append(comment)
            return comment

    def comments(self, number: int) -> tuple[Comment, ...]:
        with self._lock:
            return tuple(comment for comment in self._comments if comment.number == number)

    def refuse(self, method: str, status: int, *, path: str = "", times: int = 1 << 30) -> None:
        """Answers requests of a method, whose path holds `path`, with an error."""
        self._refusals.append((method, path, status, times))

    def allow(self) -> None:
        """Takes every refusal back."""
        self._refusals.clear()

    def made(self, method: str) -> tuple[Request, ...]:
        return tuple(request for request in self.requests if request.method == method)

    def answer(self, request: Request, headers: Mapping[str, str]) -> Answer:
        with self._lock:
            self.requests.append(request)
            refused = self._refused(request)
            if refused:
                return refused
            if headers.get("authorization", "").partition(" ")[2] != self.token:
                return Answer(401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"})
            return self._route(request, headers)

    def _route(self, request: Request, headers: Mapping[str, str]) -> Answer:
        repository = re.escape(self.repository)
        routes: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
            ("GET", "/user", self._user),
            ("GET", rf"/repos/{repository}", self._repo),
            ("GET", rf"/repos/{repository}/pulls/(\d+)", self._pull),
            ("GET", rf"/repos/{repository}/issues/(\d+)/comments", self._list),
            ("POST", rf"/repos/{repository}/issues/(\d+)/comments", self._create),
            ("PATCH", rf"/repos/{repository}/issues/comments/(\d+)", self._update),
        )
        if not headers.get("user-agent"):
            return Answer(403, {"message": "Request forbidden by administrative rules: a User-Agent is needed"})
        for method, pattern, action in routes:
            match = re.fullmatch(pattern, request.path)
            if method == request.method and match:
                return action(request, *map(int, match.groups()))
        self.violations.append(f"{request.method} {request.path}: no such operation here")
        return _not_found()

    def _user(self, request: Request) -> Answer:
        return Answer(403, {"message": MESSAGES[403]}) if self.login is None else Answer(200, self._user_document(self.login))

    def _repo(self, request: Request) -> Answer:
        address = f"{self.url}/repos/{self.repository}"
        name = self.repository.partition("/")[2]
        return Answer(200, {"id": 1, "name": name, "full_name": self.repository, "url": address, "private": False, "fork": False})

    def _pull(self, request: Request, number: int) -> Answer:
        pull = self.pulls.get(number)
        return Answer(200, self._pull_document(pull)) if pull else _not_found()

    def _list(self, request: Request, number: int) -> Answer:
        """A page, with the Link header by which the next one is found. A client may ask for at most 100 a page; we give fewer."""
        if number not in self.pulls:
            return _not_found()
        self._check_page(request)
        page = int(request.query.get("page", "1"))
        size = min(int(request.query.get("per_page", "30")), self.page)
        everything = self.comments(number)
        here = everything[(page - 1) * size : page * size]
        last = max(1, -(-len(everything) // size))
        base = f"{self.url}{request.path}?per_page={size}"
        links = [f'<{base}&page={page + 1}>; rel="next"', f'<{base}&page={last}>; rel="last"'] if page < last else []
        return Answer(200, [self._comment_document(comment) for comment in here], {"Link": ", ".join(links)} if links else {})

    def _create(self, request: Request, number: int) -> Answer:
        if number not in self.pulls:
            return _not_found()
        refused = self._check_comment(request)
        return refused or Answer(201, self._comment_document(self.add_comment(number, request.text, self.writer)))

    def _update(self, request: Request, identifier: int) -> Answer:
        comment = next((comment for comment in self._comments if comment.id == identifier), None)
        if comment is None:
            return _not_found()
        refused = self._check_comment(request)
        if refused:
            return refused
        if comment.login != self.writer:
            return Answer(403, {"message": MESSAGES[403]})
        comment.body, comment.edits = request.text, comment.edits + 1
        return Answer(200, self._comment_document(comment))

    def _check_comment(self, request: Request) -> Answer | None:
        """issues/create-comment and issues/update-comment: an object whose only property is the required string `body`."""
        body = request.body
        if not isinstance(body, dict) or set(body) != {"body"} or not isinstance(body["body"], str):
            self.violations.append(f"{request.method} {request.path}: the body must be an object with exactly the string `body`")
            return Answer(422, {"message": MESSAGES[422]})
        if not body["body"].strip() or len(body["body"]) > MAX_BODY:
            errors = [{"resource": "IssueComment", "code": "unprocessable", "field": "data", "message": "Body is too long or blank"}]
            return Answer(422, {"message": MESSAGES[422], "errors": errors})
        return None

    def _check_page(self, request: Request) -> None:
        for key, value in request.query.items():
            if key not in ("page", "per_page", "since") or (key != "since" and not value.isdecimal()):
                self.violations.append(f"GET {request.path}: the parameter {key}={value} is not described")
        if int(request.query.get("per_page", "30")) > 100:
            self.violations.append(f"GET {request.path}: per_page is at most 100")

    def _refused(self, request: Request) -> Answer | None:
        for index, (method, path, status, times) in enumerate(self._refusals):
            if method == request.method and path in request.path and times > 0:
                self._refusals[index] = (method, path, status, times - 1)
                return Answer(status, {"message": MESSAGES.get(status, "refused")}, {"Retry-After": "3600"} if status == 429 else {})
        return None

    def _user_document(self, login: str) -> dict[str, object]:
        kind = "Bot" if login.endswith("[bot]") else "User"
        return {"login": login, "id": 1, "type": kind, "url": f"{self.url}/users/{login}", "site_admin": False}

    def _pull_document(self, pull: Pull) -> dict[str, object]:
        repository = f"{self.url}/repos/{self.repository}"
        return {
            "id": pull.number,
            "number": pull.number,
            "state": "open",
            "url": f"{repository}/pulls/{pull.number}",
            "issue_url": f"{repository}/issues/{pull.number}",
            "html_url": f"https://github.example/{self.repository}/pull/{pull.number}",
            "user": self._user_document("someone"),
            "head": {"ref": "topic", "sha": pull.head, "label": "x:topic", "repo": {"full_name": pull.head_repository}},
            "base": {"ref": "main", "sha": pull.base, "label": "org:main", "repo": {"full_name": self.repository}},
        }

    def _comment_document(self, comment: Comment) -> dict[str, object]:
        repository = f"{self.url}/repos/{self.repository}"
        return {
            "id": comment.id,
            "node_id": f"IC_{comment.id}",
            "url": f"{repository}/issues/comments/{comment.id}",
            "html_url": f"https://github.example/{self.repository}/pull/{comment.number}#issuecomment-{comment.id}",
            "issue_url": f"{repository}/issues/{comment.number}",
            "body": comment.body.replace("\n", "\r\n"),
            "user": self._user_document(comment.login) if comment.login else None,
            "created_at": TIME,
            "updated_at": TIME,
            "author_association": "NONE",
            "performed_via_github_app": None,
        }


class _Handler(BaseHTTPRequestHandler):
    """Turns HTTP into requests and answers."""

    github: GitHubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        split = urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {key.lower(): value for key, value in self.headers.items()}
        query = {key: values[-1] for key, values in parse_qs(split.query, keep_blank_values=True).items()}
        request = Request(self.command, split.path.removeprefix(self.github.prefix), query, json.loads(data) if data else None)
        if not split.path.startswith(self.github.prefix):
            self.github.violations.append(f"{self.command} {split.path}: outside {self.github.prefix}")
        if data and headers.get("content-type") != "application/json":
            self.github.violations.append(f"{self.command} {split.path}: content type {headers.get('content-type')}")
        self._send(self.github.answer(request, headers))

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve

    def _send(self, answer: Answer) -> None:
        data = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for key, value in {"Content-Type": "application/json; charset=utf-8", "Content-Length": str(len(data)), **answer.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Tests print nothing."""


def _not_found() -> Answer:
    return Answer(404, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"})
