"""`modelguard org policy check`: a change of policy tried on repositories' settings and on the models of their default branches."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from modelguard.attempt import attempt
from modelguard.checks.base import select
from modelguard.commands.org_repositories import EMPTY, Repository, api_of, chosen, holds_commit, token
from modelguard.commands.org_sweep import layer_of, request_of
from modelguard.errors import BadRequest, CannotRead, ExitCode
from modelguard.git import Git
from modelguard.github_files import Access, FilePlace, look_for
from modelguard.policy import FILE_NAME, Layer, Policy, layered, read_layer
from modelguard.rehearsal import rehearse
from modelguard.render import policy_check as render
from modelguard.render.json_v1 import dumps
from modelguard.types.findings import Missing, Verdict
from modelguard.types.sweep import LeftOut, Tried

Result = tuple[int, str]


def check_policy(options: argparse.Namespace) -> Result:
    """`modelguard org policy check`.

    1 where a repository's own policy would lose a setting or is not understood, or a model would newly be inconsistent; 2 where
    something could not be read, or a model's answer would newly stay open.
    """
    proposed, current = layer_of(options.file), None if options.current is None else layer_of(options.current)
    select(layered(proposed, None))
    repositories, left_out = chosen(options)
    tried = []
    for repository in repositories:
        row = (_settings if options.settings_only else _whole)(repository, options, proposed, current)
        tried += [row] if isinstance(row, Tried) else []
        left_out += (row,) if isinstance(row, LeftOut) else ()
    rows = tuple(tried)
    text = dumps(render.document(rows, left_out, proposed.origin)) if options.format == "json" else render.as_markdown(rows, left_out)
    return max(map(_code, rows), key=WEIGHT.index, default=ExitCode.CONSISTENT), text


WEIGHT = (ExitCode.CONSISTENT, ExitCode.CANNOT_DETERMINE, ExitCode.INCONSISTENT)


def _code(row: Tried) -> ExitCode:
    stopped = {model.after for model in row.models if model.stopped}
    if row.answer in ("refused", "not understood") or Verdict.INCONSISTENT in stopped:
        return ExitCode.INCONSISTENT
    return ExitCode.CANNOT_DETERMINE if row.answer == "unread" or row.why or stopped else ExitCode.CONSISTENT


def _whole(repository: Repository, options: argparse.Namespace, proposed: Layer, current: Layer | None) -> Tried | LeftOut:
    """One repository with its models; whatever goes wrong with it is said in its row, and stops no other."""

    def look() -> Tried | LeftOut:
        with repository.opened() as clone:
            if repository.fetched and not holds_commit(clone):
                return LeftOut(repository=repository.name, why=EMPTY)
            row = _tried(repository.name, partial(_own_of_clone, clone), proposed, current)
            if row.answer in ("unread", "not understood"):
                return row
            request = request_of(repository, clone, options)
            models = attempt(lambda: rehearse(request, current, proposed), what=f"auditing {repository.name}")
            return replace(row, why=models.why) if isinstance(models, Missing) else replace(row, models=models)

    looked = attempt(look, what=f"looking at {repository.name}")
    return Tried(repository=repository.name, answer="unread", details=(looked.why,)) if isinstance(looked, Missing) else looked


def _settings(repository: Repository, options: argparse.Namespace, proposed: Layer, current: Layer | None) -> Tried:
    """One repository's settings alone: of an organisation's, its policy is read through the interface and nothing else."""
    if repository.fetched:
        access = Access(api_url=api_of(options), token=token())
        return _tried(repository.name, partial(_own_on_github, access, repository), proposed, current)
    with repository.opened() as clone:
        return _tried(repository.name, partial(_own_of_clone, clone), proposed, current)


def _tried(name: str, read: Callable[[], Layer | None], proposed: Layer, current: Layer | None) -> Tried:
    """One repository's settings under the proposed policy: what would be refused, and what would be different from today."""
    try:
        own = read()
        policy = layered(proposed, own)
        select(policy)
        today = layered(current, own)
    except BadRequest as error:
        return Tried(repository=name, answer="not understood", details=(str(error),))
    except CannotRead as error:
        return Tried(repository=name, answer="unread", details=(str(error),))
    changed = tuple(_differences(today, policy))
    answer = "refused" if policy.refused else "changed" if changed else "unchanged"
    return Tried(repository=name, answer=answer, details=(*policy.refused, *changed), digest=policy.digest)


def _own_on_github(access: Access, repository: Repository) -> Layer | None:
    """The policy of a repository on GitHub; None where its default branch has none."""
    data, commit = look_for(access, FilePlace(repository=repository.name, path=FILE_NAME, ref=repository.branch))
    return None if data is None else read_layer(data, f"{FILE_NAME} at {commit[:12]}")


def _own_of_clone(clone: Path) -> Layer | None:
    git = Git(clone)
    try:
        commit = git.head()
        if not commit:
            raise CannotRead(f"{clone} holds no commit", advice="clone it again")
        entry = git.tree(commit).get(FILE_NAME)
        return None if entry is None else read_layer(git.read(entry.oid, 1 << 20), f"{FILE_NAME} at {commit[:12]}")
    finally:
        git.close()


def _differences(today: Policy, proposed: Policy) -> Iterator[str]:
    before, after = ({item.key: item.value for item in policy.settings() if "." not in item.key} for policy in (today, proposed))
    yield from (f"{key}: {before.get(key)} becomes {after[key]}" for key in after if after[key] != before.get(key))
