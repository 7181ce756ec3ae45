"""The ruleset and the required workflow that put modelguard before every default branch of an organisation."""

from __future__ import annotations

import json
import re

from modelguard.errors import BadRequest
from modelguard.github_files import file_place

NAME = "modelguard"  # of the job: a required check is found by it, so it never changes
USES = re.compile(r"[\w.-]+/[\w.-]+(/[\w./-]+)?@[\w.-]+", re.ASCII)
WORKFLOW = """\
# Required by the organisation's ruleset: it runs from this repository whatever a pull request does to its own workflows.
# No path filter: a required check that never starts would block. No concurrency: a cancelled check would block as well.
name: modelguard
on:  # zizmor: ignore[concurrency-limits] a run that is cancelled, or replaced while it waits, would leave its commit unjudged
  pull_request:
  merge_group:
permissions: {{}}
jobs:
  {name}:
    name: {name}
    runs-on: ubuntu-latest
    timeout-minutes: 60
    permissions:
      contents: read  # for the commits under audit
      pull-requests: write  # for the review comment
    steps:
      - uses: {uses}  # it fetches the commits itself, as data: nothing is checked out
        with:
          github-token: ${{{{ github.token }}}}
"""


def workflow(uses: str, policy: str | None) -> str:
    """The required workflow, as text to commit."""
    if USES.fullmatch(uses) is None:
        raise BadRequest(f"{uses[:120]!a} names no Action", advice="write owner/repository@ref")
    text = WORKFLOW.format(name=NAME, uses=uses)
    return text if policy is None else f"{text}          policy: {file_place(policy)}\n"


def ruleset(repository_id: int, path: str, ref: str, enforcement: str) -> str:
    """The body of POST /orgs/ORG/rulesets, as text."""
    required = {"path": path, "ref": ref, "repository_id": repository_id}
    document = {
        "name": NAME,
        "target": "branch",
        "enforcement": enforcement,
        "bypass_actors": [],
        "conditions": {
            "ref_name": {"include": ["~DEFAULT_BRANCH"], "exclude": []},
            "repository_name": {"include": ["~ALL"], "exclude": [], "protected": True},
        },
        "rules": [{"type": "workflows", "parameters": {"do_not_enforce_on_create": True, "workflows": [required]}}],
    }
    return json.dumps(document, indent=2) + "\n"
