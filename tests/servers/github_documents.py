"""Documents as GitHub writes them: its own published examples where they are installed, with this server's values in their place."""

from __future__ import annotations

from collections.abc import Mapping

from tests.servers.github_description import description

TIME = "2026-01-01T00:00:00Z"


def merged(example: str, ours: Mapping[str, object]) -> dict[str, object]:
    """GitHub's example of that name with our values in it; ours alone where no description is installed."""
    found = description()
    return _over(found.example(example), ours) if found is not None else dict(ours)


def user(url: str, login: str) -> dict[str, object]:
    """A user, or a bot."""
    kind = "Bot" if login.endswith("[bot]") else "User"
    address = f"{url}/users/{login.replace('[', '%5B').replace(']', '%5D')}"
    links = ("followers", "following", "gists", "starred", "subscriptions", "organizations", "repos", "events", "received_events")
    return {
        "login": login,
        "id": 1,
        "node_id": "MDQ6VXNlcjE=",
        "avatar_url": f"{address}.png",
        "gravatar_id": "",
        "url": address,
        "html_url": address,
        **{f"{link}_url": f"{address}/{link}" for link in links},
        "type": kind,
        "site_admin": False,
    }


def pull(url: str, repository: str, number: int, head: str, base: str, head_repository: str) -> dict[str, object]:
    """A pull request."""
    api = f"{url}/repos/{repository}"
    ours: dict[str, object] = {
        "id": number,
        "number": number,
        "state": "open",
        "url": f"{api}/pulls/{number}",
        "issue_url": f"{api}/issues/{number}",
        "html_url": f"https://github.example/{repository}/pull/{number}",
        "user": user(url, "someone"),
        "requested_teams": [],  # the published example lacks a property that the description requires of a team
        "head": {"ref": "topic", "sha": head, "label": "x:topic", "repo": {"full_name": head_repository}},
        "base": {"ref": "main", "sha": base, "label": "org:main", "repo": {"full_name": repository}},
    }
    return merged("pull-request", ours)  # a list's shorter form is part of it


def issue_comment(url: str, repository: str, identifier: int, number: int, login: str, body: str) -> dict[str, object]:
    """A comment on the conversation."""
    api = f"{url}/repos/{repository}"
    return {
        "id": identifier,
        "node_id": f"IC_{identifier}",
        "url": f"{api}/issues/comments/{identifier}",
        "html_url": f"https://github.example/{repository}/pull/{number}#issuecomment-{identifier}",
        "issue_url": f"{api}/issues/{number}",
        "body": body.replace("\n", "\r\n"),
        "user": user(url, login) if login else None,
        "created_at": TIME,
        "updated_at": TIME,
        "author_association": "NONE",
        "performed_via_github_app": None,
    }


def review_comment(
    url: str, repository: str, identifier: int, number: int, login: str, body: str, path: str, commit: str
) -> dict[str, object]:
    """A comment of a review, on a file."""
    api, page = f"{url}/repos/{repository}", f"https://github.example/{repository}/pull/{number}"
    here = f"{api}/pulls/comments/{identifier}"
    return {
        "id": identifier,
        "node_id": f"PRRC_{identifier}",
        "pull_request_review_id": identifier + 1,
        "url": here,
        "html_url": f"{page}#discussion_r{identifier}",
        "pull_request_url": f"{api}/pulls/{number}",
        "diff_hunk": "",
        "path": path,
        "commit_id": commit,
        "original_commit_id": commit,
        "subject_type": "file",
        "user": user(url, login),
        "body": body.replace("\n", "\r\n"),
        "created_at": TIME,
        "updated_at": TIME,
        "author_association": "NONE",
        "_links": {
            "self": {"href": here},
            "html": {"href": f"{page}#discussion_r{identifier}"},
            "pull_request": {"href": f"{api}/pulls/{number}"},
        },
    }


def check_run(url: str, repository: str, identifier: int, body: Mapping[str, object], notes: int) -> dict[str, object]:
    """A check run on a commit."""
    here = f"{url}/repos/{repository}/check-runs/{identifier}"
    output = body["output"]
    assert isinstance(output, Mapping)
    ours: dict[str, object] = {
        "id": identifier,
        "node_id": f"CR_{identifier}",
        "url": here,
        "html_url": f"https://github.example/{repository}/runs/{identifier}",
        "details_url": body.get("details_url"),
        "started_at": TIME,
        "completed_at": TIME,
        "check_suite": {"id": 1},
        "pull_requests": [],
        "app": None,
        "output": {
            "title": output["title"],
            "summary": output["summary"],
            "text": None,
            "annotations_count": notes,
            "annotations_url": f"{here}/annotations",
        },
    }
    return merged("check-run", ours | {key: body[key] for key in ("name", "head_sha", "external_id", "status", "conclusion")})


def _over(example: dict[str, object], ours: Mapping[str, object]) -> dict[str, object]:
    """The example, with our values in their place, to any depth."""
    laid = dict(example)
    for key, value in ours.items():
        before = laid.get(key)
        laid[key] = _over(before, value) if isinstance(before, dict) and isinstance(value, Mapping) else value
    return laid
