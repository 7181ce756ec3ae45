"""Check runs as the GitHub of the tests keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.servers import github_documents as documents
from tests.servers.github_state import Answer, Request

MAX_SUMMARY = 65_535  # bytes
REFUSED = {"message": "Validation Failed", "documentation_url": "https://docs.github.com/rest/checks/runs"}


@dataclass
class Check:
    """One check run as it was written; `notes` are its annotations of all requests."""

    id: int
    body: dict[str, object]
    notes: list[dict[str, object]] = field(default_factory=list)

    @property
    def output(self) -> dict[str, object]:
        output = self.body["output"]
        assert isinstance(output, dict)
        return output


def create(checks: list[Check], url: str, repository: str, request: Request) -> Answer:
    """A new check run. GitHub takes any commit of the repository, those of its pull requests from forks among them."""
    assert isinstance(request.body, dict)
    check = Check(5000 + len(checks), request.body)
    checks.append(check)
    return _annotated(check, url, repository, request.body, 201)


def update(checks: list[Check], url: str, repository: str, request: Request, identifier: int) -> Answer:
    """More annotations for a check run: they are added to those that it has."""
    assert isinstance(request.body, dict)
    (check,) = (check for check in checks if check.id == identifier)
    return _annotated(check, url, repository, request.body, 200)


def _annotated(check: Check, url: str, repository: str, body: dict[str, object], status: int) -> Answer:
    output = body["output"]
    assert isinstance(output, dict)
    if len(str(output["summary"]).encode()) > MAX_SUMMARY:
        return Answer(422, REFUSED)
    check.notes += output.get("annotations", [])
    return Answer(status, documents.check_run(url, repository, check.id, check.body, len(check.notes)))
