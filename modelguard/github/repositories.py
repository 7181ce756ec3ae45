"""The repositories of an organisation, as GitHub lists them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

from modelguard.errors import BadRequest, CannotFetch
from modelguard.github.api import RETRIES, Api, Destination, Json, Meaning, Refused

ORGANISATION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,98}[A-Za-z0-9])?", re.ASCII)
NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)
PAGES = 50  # of a hundred repositories each
LATER = "GitHub may be unwell: run it again later"
ADVICE = {
    Meaning.PERMISSION: "the token may not list them",
    Meaning.LIMIT: "GitHub asks for fewer requests: run it again later",
    Meaning.UNKNOWN_TOKEN: "the token in GITHUB_TOKEN is not valid",
    Meaning.NOT_FOUND: "check the organisation's name, and that the token in GITHUB_TOKEN may see it",
    Meaning.BUDGET: "name clones of its repositories instead",
    Meaning.UNWELL: LATER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRepository:
    """A repository as it is listed: `name` is owner/name, `branch` its default branch."""

    name: str
    branch: str
    archived: bool


def repositories(api_url: str, token: str, organisation: str) -> tuple[ListedRepository, ...]:
    """Every repository of an organisation that the token sees, by name, archived ones included. Raises BadRequest, CannotFetch."""
    if ORGANISATION.fullmatch(organisation) is None:
        raise BadRequest(f"{organisation[:80]!a} is no organisation's name", advice="write it as in its address")
    to = Destination(api_url=api_url, repository="", number=0, token=token, calls=PAGES + RETRIES)
    with closing(Api(to)) as api:
        api.begin(f"the repositories of {organisation} could not be listed", ADVICE)
        try:
            items = tuple(api.listed(f"/orgs/{organisation}/repos", {"type": "all"}, pages=PAGES))
        except Refused as refused:
            raise CannotFetch(str(refused), advice=refused.advice) from None
    return _sound(items, organisation)


def _sound(items: Iterable[Json], organisation: str) -> tuple[ListedRepository, ...]:
    """The listed repositories by name; each once, as pages move while they are read."""
    found = {}
    for item in items:
        name = item.get("name")
        if not isinstance(name, str) or NAME.fullmatch(name) is None or name in (".", ".."):
            raise CannotFetch(f"the repositories of {organisation}: the answer is not one of GitHub's", advice=LATER)
        branch = item.get("default_branch")
        whole = f"{organisation}/{name}"
        found[whole] = ListedRepository(name=whole, branch=branch if isinstance(branch, str) else "", archived=item.get("archived") is True)
    return tuple(found[name] for name in sorted(found))
