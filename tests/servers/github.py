"""A GitHub with state on the loopback interface: pull requests, their comments and review threads.

Every request and every answer is held against GitHub's own OpenAPI description, and every query against its GraphQL schema, where
those are installed (`tests/servers/github_description.py`). What they do not allow is a violation; leaving the context with violations
fails the test. `Fault` scripts what may go wrong.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from tests.servers import github_checks
from tests.servers import github_documents as documents
from tests.servers.github_description import description
from tests.servers.github_graphql import answer_query
from tests.servers.github_state import Answer, Comment, Fault, Pull, Request

__all__ = ["Answer", "Fault", "GitHubServer", "Request"]

MAX_BODY = 65_536
MESSAGES = {403: "Resource not accessible by integration", 422: "Validation Failed", 429: "API rate limit exceeded", 502: "Server Error"}


class GitHubServer:
    """`with GitHubServer() as github:` serves `github.url`. `login` is the token's user; None is a token that may not ask (GITHUB_TOKEN).

    `github.refuse("POST", 403)` makes requests of a method fail until `github.allow()`; `times` limits how many.
    """

    def __init__(
        self, repository: str = "org/models", *, login: str | None = None, token: str = "a-token", page: int = 30, prefix: str = ""
    ) -> None:
        self.repository, self.login, self.token, self.page, self.prefix = repository, login, token, page, prefix
        self.may_resolve = True
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.pulls: dict[int, Pull] = {}
        self.everything: list[Comment] = []
        self.checks: list[github_checks.Check] = []
        self._faults: list[list[object]] = []
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

    def add_comment(self, number: int, body: str, login: str = "someone", path: str = "", commit: str = "") -> Comment:
        with self._lock:
            comment = Comment(1000 + len(self.everything), number, login, body, path=path, commit=commit)
            self.everything.append(comment)
            return comment

    def comments(self, number: int) -> tuple[Comment, ...]:
        """The conversation of a pull request."""
        with self._lock:
            return tuple(comment for comment in self.everything if comment.number == number and not comment.path)

    def threads(self, number: int) -> tuple[Comment, ...]:
        """The first comments of its review threads."""
        with self._lock:
            return tuple(comment for comment in self.everything if comment.number == number and comment.path and not comment.answers)

    def refuse(self, method: str, status: int, *, path: str = "", times: int = 1 << 30) -> None:
        """Answers requests of a method, whose path holds `path`, with an error."""
        headers = {"Retry-After": "3600"} if status == 429 else {}
        answer = Answer(status, {"message": MESSAGES.get(status, "refused")}, headers)
        self.fail(Fault(method=method, path=path, answer=answer, times=times))

    def fail(self, *faults: Fault) -> None:
        """Scripts what goes wrong; the first fault that matches a request is taken."""
        self._faults += [[fault, fault.times] for fault in faults]

    def allow(self) -> None:
        """Takes every fault back."""
        self._faults.clear()

    def made(self, method: str) -> tuple[Request, ...]:
        """The requests of a method; a GraphQL query, though posted, is none that writes."""
        return tuple(request for request in self.requests if request.method == method and not request.path.endswith("/graphql"))

    def answer(self, request: Request, headers: Mapping[str, str]) -> Answer | Fault:
        with self._lock:
            self.requests.append(request)
            fault = self._fault(request)
            if fault and fault.before:
                fault.before(self)
            if fault and not (fault.done or fault.goes_on):
                return fault.answer or fault
            if headers.get("authorization", "").partition(" ")[2] != self.token:
                return Answer(401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"})
            answer = self._checked(request, headers)
            return (fault.answer or fault) if fault and fault.done else answer

    def _checked(self, request: Request, headers: Mapping[str, str]) -> Answer:
        """The answer, with request and answer held against the description."""
        if request.path.endswith("/graphql"):
            return answer_query(self, request)
        found = description()
        if found is not None:
            self.violations += found.request_faults(request.method, request.path, request.query, request.body)
        answer = self._route(request, headers)
        if found is not None:
            self.violations += found.answer_faults(request.method, request.path, answer.status, answer.body)
        return answer

    def _route(self, request: Request, headers: Mapping[str, str]) -> Answer:
        repository = re.escape(self.repository)
        routes: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
            ("GET", r"/user", self._user),
            ("GET", rf"/repos/{repository}/pulls", self._pulls),
            ("GET", rf"/repos/{repository}/pulls/(\d+)", self._pull),
            ("GET", rf"/repos/{repository}/(?:issues|pulls)/(\d+)/comments", self._list),
            ("POST", rf"/repos/{repository}/issues/(\d+)/comments", self._create),
            ("POST", rf"/repos/{repository}/pulls/(\d+)/comments", self._open),
            ("PATCH", rf"/repos/{repository}/(?:issues|pulls)/comments/(\d+)", self._update),
            ("POST", rf"/repos/{repository}/check-runs", self._check),
            ("PATCH", rf"/repos/{repository}/check-runs/(\d+)", self._more),
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
        """Whose token it is: a person's tells it, an App's does not."""
        if self.writer.endswith("[bot]"):
            return Answer(403, {"message": MESSAGES[403], "documentation_url": "https://docs.github.com/rest"})
        example = "private-user-response-with-public-and-private-profile-information"
        return Answer(200, documents.merged(example, {"login": self.writer, "user_view_type": "private"}))

    def _pull(self, request: Request, number: int) -> Answer:
        pull = self.pulls.get(number)
        return Answer(200, self._pull_document(pull)) if pull else _not_found()

    def _pulls(self, request: Request) -> Answer:
        """Pull requests; `head` (owner:branch) keeps those from that owner (every branch here is called topic)."""
        owner, _, branch = request.query.get("head", ":").partition(":")
        kept = [pull for pull in self.pulls.values() if pull.head_repository.partition("/")[0] == owner and branch == "topic"]
        return Answer(200, [self._pull_document(pull) for pull in kept])

    def _list(self, request: Request, number: int) -> Answer:
        """A page, with the Link header by which the next one is found. A client may ask for at most 100 a page; we give fewer."""
        if number not in self.pulls:
            return _not_found()
        page = int(request.query.get("page", "1"))
        size = min(int(request.query.get("per_page", "30")), self.page)
        everything = self.comments(number) if "/issues/" in request.path else self.threads(number)
        here = everything[(page - 1) * size : page * size]
        last = max(1, -(-len(everything) // size))
        base = f"{self.url}{request.path}?per_page={size}"
        links = [f'<{base}&page={page + 1}>; rel="next"', f'<{base}&page={last}>; rel="last"'] if page < last else []
        return Answer(200, [self._comment_document(comment) for comment in here], {"Link": ", ".join(links)} if links else {})

    def _create(self, request: Request, number: int) -> Answer:
        if number not in self.pulls:
            return _not_found()
        return _too_long(request) or Answer(201, self._comment_document(self.add_comment(number, request.text, self.writer)))

    def _open(self, request: Request, number: int) -> Answer:
        """A review thread on a whole file; GitHub refuses files that the pull request does not change, and commits that are not its own."""
        pull, body = self.pulls.get(number), request.body
        if pull is None or not isinstance(body, dict):
            return _not_found()
        known = pull.files is None or body.get("path") in pull.files
        if body.get("subject_type") != "file" or not known or body.get("commit_id") != pull.head:
            error = {"resource": "PullRequestReviewComment", "code": "custom", "field": "pull_request_review_thread.path"}
            return Answer(422, {"message": MESSAGES[422], "documentation_url": "https://docs.github.com/rest", "errors": [error]})
        made = self.add_comment(number, request.text, self.writer, str(body["path"]), str(body["commit_id"]))
        return _too_long(request) or Answer(201, self._comment_document(made))

    def _update(self, request: Request, identifier: int) -> Answer:
        comment = next((comment for comment in self.everything if comment.id == identifier), None)
        if comment is None or bool(comment.path) != ("/pulls/" in request.path):
            return _not_found()
        refused = _too_long(request)
        if refused:
            return refused
        if comment.login != self.writer:
            return Answer(403, {"message": MESSAGES[403]})
        comment.body, comment.edits = request.text, comment.edits + 1
        return Answer(200, self._comment_document(comment))

    def _check(self, request: Request) -> Answer:
        return github_checks.create(self.checks, self.url, self.repository, request)

    def _more(self, request: Request, identifier: int) -> Answer:
        return github_checks.update(self.checks, self.url, self.repository, request, identifier)

    def _fault(self, request: Request) -> Fault | None:
        for entry in self._faults:
            fault, times = entry
            assert isinstance(fault, Fault)
            assert isinstance(times, int)
            if fault.method == request.method and fault.path in request.path and times > 0:
                entry[1] = times - 1
                return fault
        return None

    def _pull_document(self, pull: Pull) -> dict[str, object]:
        return documents.pull(self.url, self.repository, pull.number, pull.head, pull.base, pull.head_repository)

    def _comment_document(self, item: Comment) -> dict[str, object]:
        if item.path:
            place = (item.number, item.login, item.body, item.path, item.commit)
            return documents.review_comment(self.url, self.repository, item.id, *place)
        return documents.issue_comment(self.url, self.repository, item.id, item.number, item.login, item.body)


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
        if not split.path.startswith((self.github.prefix, "/api/graphql")):
            self.github.violations.append(f"{self.command} {split.path}: outside {self.github.prefix}")
        if data and headers.get("content-type") != "application/json":
            self.github.violations.append(f"{self.command} {split.path}: content type {headers.get('content-type')}")
        answer = self.github.answer(request, headers)
        if isinstance(answer, Answer):
            self._send(answer)
        elif answer.raw is not None:
            self._write(200, answer.raw, {})
        else:
            time.sleep(answer.stall)
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve

    def _send(self, answer: Answer) -> None:
        self._write(answer.status, json.dumps(answer.body).encode(), answer.headers)

    def _write(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": "application/json; charset=utf-8", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Tests print nothing."""


def _not_found() -> Answer:
    return Answer(404, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"})


def _too_long(request: Request) -> Answer | None:
    """A body that is blank or too long, which the description does not tell."""
    if request.text.strip() and len(request.text) <= MAX_BODY:
        return None
    errors = [{"resource": "IssueComment", "code": "unprocessable", "field": "data", "message": "Body is too long or blank"}]
    return Answer(422, {"message": MESSAGES[422], "documentation_url": "https://docs.github.com/rest", "errors": errors})
