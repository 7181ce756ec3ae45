"""The repositories that `modelguard org …` looks at: clones that are named, and those of an organisation, fetched one after the other."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from modelguard.bare_clones import cloned
from modelguard.blobs.lfs_batch import Store
from modelguard.blobs.lfs_remote import store_at
from modelguard.errors import BadRequest
from modelguard.git import Git
from modelguard.github.repositories import ListedRepository, repositories
from modelguard.types.sweep import LeftOut

API, SERVER = "https://api.github.com", "https://github.com"
ARCHIVED = "archived, so nothing can be merged into it: not looked at"
EMPTY = "empty: it has no default branch yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository by name: `opened` gives a clone of it for as long as it is looked at, `store` its Git LFS server where that is known.
    `branch` is the default branch of one that is fetched.
    """

    name: str
    opened: Callable[[], AbstractContextManager[Path]]
    store: Callable[[], Store | None]
    branch: str = ""

    @property
    def fetched(self) -> bool:
        return bool(self.branch)


def chosen(options: argparse.Namespace) -> tuple[tuple[Repository, ...], tuple[LeftOut, ...]]:
    """What the operator names, and what of it there is nothing to look at in. Raises BadRequest, CannotFetch."""
    if not options.clones and not options.organisation:
        raise BadRequest("no repository is named", advice="name clones, or --organisation")
    named = tuple(_clone(name, path) for name, path in clones(options.clones).items())
    listed, left_out = _of_organisation(options) if options.organisation else ((), ())
    return named + listed, left_out


def clones(paths: Sequence[Path]) -> Mapping[str, Path]:
    """Clones by name: those named, and those in a named directory that is none itself."""
    found: dict[str, Path] = {}
    for path in paths:
        below = [path] if _is_clone(path) else sorted(child for child in path.iterdir() if _is_clone(child)) if path.is_dir() else []
        if not below:
            raise BadRequest(f"{path}: neither a clone nor a directory of clones", advice="clone the repositories first")
        for clone in below:
            name = clone.resolve().name.removesuffix(".git")
            found[name if name not in found else str(clone)] = clone
    return found


def holds_commit(clone: Path) -> bool:
    """Whether there is anything on a clone's HEAD."""
    git = Git(clone)
    try:
        return bool(git.head())
    finally:
        git.close()


def api_of(options: argparse.Namespace) -> str:
    """GitHub's interface, as the operator or the environment names it."""
    return str(options.api_url or os.environ.get("GITHUB_API_URL") or API)


def token() -> str:
    """The operator's token for GitHub."""
    return os.environ.get("GITHUB_TOKEN", "")


def _is_clone(path: Path) -> bool:
    return (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir())


def _clone(name: str, path: Path) -> Repository:
    return Repository(name=name, opened=lambda: nullcontext(path), store=lambda: None)


def _of_organisation(options: argparse.Namespace) -> tuple[tuple[Repository, ...], tuple[LeftOut, ...]]:
    server = (os.environ.get("GITHUB_SERVER_URL") or SERVER).rstrip("/")
    found = repositories(api_of(options), token(), options.organisation)
    left_out = [
        LeftOut(repository=item.name, why=ARCHIVED if item.archived else EMPTY) for item in found if item.archived or not item.branch
    ]
    live = (item for item in found if item.branch and not item.archived)
    return tuple(_listed(item, f"{server}/{item.name}.git") for item in live), tuple(left_out)


def _listed(item: ListedRepository, address: str) -> Repository:
    @contextmanager
    def opened() -> Iterator[Path]:
        with cloned(address, token(), os.environ) as clone:
            yield clone

    def store() -> Store | None:
        web = address.startswith(("https://", "http://"))
        return store_at(f"{address}/info/lfs", token(), os.environ) if web else None

    return Repository(name=item.name, opened=opened, store=store, branch=item.branch)
