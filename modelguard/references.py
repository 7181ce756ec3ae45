"""Checkpoints as an operator names them on the command line. Nothing that a pull request says comes here."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelguard.blobs.base import Folder
from modelguard.blobs.git_object import GitFolder
from modelguard.blobs.hub import open_hub
from modelguard.blobs.local import LocalFolder
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.opening import find_entry, open_checkpoint
from modelguard.errors import BadRequest
from modelguard.git import Git

LATER = ("https://", "http://")
REGISTRY = "registry:"


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Where references may lead: a repository for `git:`, limits for `hf:`."""

    repo: Path = Path()
    offline: bool = False
    max_download: int = 20 << 30
    token: str | None = None
    progress: Callable[[str, int, int], None] | None = None


def open_reference(text: str, reach: Reach) -> tuple[Folder, Checkpoint]:
    """The folder and the checkpoint that a reference names: a directory, a file, `hf:org/name@revision` or `git:REV:path`."""
    folder, entry = _place(text, reach)
    return folder, open_checkpoint(folder, entry or find_entry(folder))


def _place(text: str, reach: Reach) -> tuple[Folder, str]:
    """The folder that holds a reference, and the file in it where the reference names one."""
    if text.startswith("hf:"):
        limits = {"max_download": reach.max_download, "offline": reach.offline}
        return open_hub(text, revision=None, progress=reach.progress, token=reach.token, wanted=_is_weights, **limits), ""  # type: ignore[arg-type]
    if text.startswith("git:"):
        return _in_commit(text, reach)
    if text.startswith(REGISTRY):
        why = "is a fingerprint without weights"
        raise BadRequest(f"{text[:80]!a}: {why}", advice="`compare` and `registry search` take one; elsewhere name the weights")
    if text.startswith(LATER):
        raise BadRequest(f"{text[:80]!a}: this version does not read such references", advice="name a directory, a file, hf:… or git:…")
    path = Path(text)
    if path.is_dir():
        return LocalFolder(path, ref=text), ""
    return LocalFolder(path.parent, ref=str(path.parent)), path.name


def _in_commit(text: str, reach: Reach) -> tuple[Folder, str]:
    revision, colon, path = text.removeprefix("git:").partition(":")  # a revision holds no colon, a path may
    if not colon or not revision:
        raise BadRequest(f"{text[:80]!a}: not git:REV:path", advice="write git:HEAD~1:models/chat or git:v1:model.safetensors")
    git = Git(reach.repo)
    commit = git.resolve(revision)
    tree = git.tree(commit)
    path = posixpath.normpath(path.strip("/") or ".")
    directory, entry = posixpath.split(path) if path in tree else ("" if path == "." else path, "")
    return GitFolder(git, tree, directory, ref=f"git:{commit[:12]}:{directory or '.'}", worktree=reach.repo), entry


def _is_weights(name: str, _size: int) -> bool:
    return name.endswith(".safetensors") and "/" not in name
