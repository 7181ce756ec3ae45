"""Checkpoints as an operator names them on the command line. Nothing that a pull request says comes here."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelguard.adapted import SIGN, on_base, parted
from modelguard.blobs.base import Folder, read_small
from modelguard.blobs.git_object import GitFolder
from modelguard.blobs.http import TRUSTED, Client, Reachable, origin, shown, trusted_origins
from modelguard.blobs.hub import open_hub, parse_reference
from modelguard.blobs.local import LocalFolder
from modelguard.blobs.web import web_file, with_neighbours
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.opening import find_entry, open_checkpoint
from modelguard.checkpoints.sharded import MAX_INDEX_BYTES, SUFFIX, shard_names
from modelguard.errors import BadRequest, CannotFetch
from modelguard.git import Git

WEB = ("https://", "http://")
REGISTRY = "registry:"
PAPERS = ("config.json", "adapter_config.json")


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Where references may lead: a repository for `git:`, limits for `hf:` and `https:`."""

    repo: Path = Path()
    offline: bool = False
    max_download: int = 20 << 30
    token: str | None = None
    progress: Callable[[str, int, int], None] | None = None


def open_reference(text: str, reach: Reach) -> tuple[Folder, Checkpoint]:
    """The folder and the checkpoint that a reference names: a directory, a file, `hf:…`, `git:REV:path`, `https://…`, or `BASE+ADAPTER`.

    A `+` may as well belong to a name: what is there as it is written is one checkpoint, and so is an address unless an adapter follows.
    """
    if SIGN not in text or text.startswith(REGISTRY) or (not text.startswith(WEB) and _there(text, reach)):
        return _opened(text, reach)
    try:
        base, adapter = parted(text, lambda side: _there(side, reach))
    except CannotFetch:
        if text.startswith(WEB):
            return _opened(text, reach)
        raise
    return on_base(_opened(base, reach), _opened(adapter, reach))


def _there(text: str, reach: Reach) -> bool:
    """Whether a reference names something: a path or a part of a commit that exists; of the web and the hub, something that may."""
    if text.startswith(WEB):
        return True
    try:
        if text.startswith("git:"):
            folder, entry = _in_commit(text, reach)
            return bool(entry or folder.sizes)
        if text.startswith("hf:"):
            return bool(parse_reference(text))
        return bool(text) and Path(text).exists()
    except (BadRequest, OSError):
        return False


def _opened(text: str, reach: Reach) -> tuple[Folder, Checkpoint]:
    """What a reference to one checkpoint names."""
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
    if text.startswith(WEB):
        return _on_the_web(text, reach)
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


def _on_the_web(url: str, reach: Reach) -> tuple[Folder, str]:
    """A file behind an address, read by ranges, with the shards that it names and the papers beside it. Public hosts only, and the
    origins that the machine's operator trusts."""
    operators = trusted_origins(os.environ)
    if not url.startswith("https://") and origin(url) not in operators:
        advice = f"give an https:// address, or name the origin in {TRUSTED} if it is yours"
        raise BadRequest(f"{shown(url)!a}: plain http can be changed on its way", advice=advice)
    if reach.offline:
        raise CannotFetch(f"{shown(url)}: not read, because --offline is given", advice="download it, and name the copy")
    client = Client(Reachable(operators=operators))
    folder, name = web_file(client, url)
    names = set(shard_names(read_small(folder.open(name), MAX_INDEX_BYTES), name).values()) if name.endswith(SUFFIX) else ()
    folder = with_neighbours(client, folder, url, sorted(names), optional=PAPERS)
    total = sum(folder.sizes.values())
    if total > reach.max_download:
        reason = f"{shown(url)}: {total:,} bytes, the limit is {reach.max_download:,}"
        raise CannotFetch(reason, advice="raise it with --max-download")
    return folder, name


def _is_weights(name: str, _size: int) -> bool:
    return name.endswith(".safetensors") and "/" not in name
