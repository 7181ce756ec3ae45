"""Finds the pull request that a workflow's run was about, believing nothing of what the run itself says."""

from __future__ import annotations

import re

from modelguard.errors import CannotFetch
from modelguard.github.api import Api

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def standing_at(api: Api, branch: str, head: str) -> tuple[int, str]:
    """(number, base commit) of the one open pull request from `branch` (owner:name) that stands at `head`. Raises ModelguardError."""
    api.begin(f"the pull request of {head[:12]} was not found")
    found = []
    for pull in api.listed("/pulls", {"head": branch, "state": "open"}):
        number, base, theirs = pull.get("number"), pull.get("base"), pull.get("head")
        if isinstance(number, int) and isinstance(base, dict) and isinstance(theirs, dict) and theirs.get("sha") == head:
            found.append((number, str(base.get("sha", ""))))
    if len(found) != 1 or _COMMIT.fullmatch(found[0][1]) is None:
        advice = "it was pushed to, closed, or has a twin: the run of its newest commit reports on it"
        raise CannotFetch(f"{len(found)} open pull requests stand at {head[:12]}, not one", advice=advice)
    return found[0]
