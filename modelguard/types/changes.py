"""What a pull request changes, and what its authors say about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ELSEWHERE = "linked"  # the format of what a symbolic link or a submodule puts in the place of weights
NOT_AT_HAND = "Git LFS"  # the format of what cannot be looked into, because its object was not fetched


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEntry:
    """One file of a git tree: path, mode, object id and size in bytes."""

    path: str
    mode: str
    oid: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedFile:
    """One path between merge base and head. `before` and `after` are None where it did not or does not exist."""

    path: str
    before: TreeEntry | None
    after: TreeEntry | None


class ModelKind(StrEnum):
    """How a model's tensors are laid out in files."""

    SINGLE = "single"
    SHARDED = "sharded"
    ADAPTER = "adapter"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChange:
    """One model that a pull request touches: the unit of an audit.

    `entry` is the file that opens it (the safetensors file or the shard index), `before_entry` the same file before the change
    (None when it is new), `card`, `config` and `logs` the papers beside it, `touched` every changed path that concerns it.
    """

    subject: str
    kind: ModelKind
    entry: str
    before_entry: str | None
    card: str | None
    config: str | None
    adapter_config: str | None
    logs: tuple[str, ...]
    touched: tuple[str, ...]
    weights_touched: bool
    format_note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseReference:
    """A base model as somebody names it. `source` says who: a card, an adapter's configuration, a policy, the operator."""

    name: str
    revision: str | None
    source: str
    pinned: bool = False

    @property
    def text(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What the authors say: where the weights come from, and how."""

    bases: tuple[BaseReference, ...]
    relation: str | None
    source: str
    notes: tuple[str, ...] = ()
