"""Where declared bases are: models of the hub, at one commit, and the file that opens each. Nothing of the weights is fetched for that.

The token goes to a base that the operator or the base commit's policy names, and to no other that anybody declares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from modelguard.blobs.base import Stating
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.opening import find_entry, open_checkpoint
from modelguard.errors import CannotFetch
from modelguard.policy import Policy
from modelguard.types.changes import BaseReference


class BaseFolder(Stating, Protocol):
    """A base's files, of which the weights may be too many to fetch."""

    def check_limit(self, names: Iterable[str]) -> None:
        """Raises CannotFetch when fetching these files as well would pass the limit."""
        ...


class Reach(Protocol):
    """How much of the hub may be had, and with which token."""

    @property
    def offline(self) -> bool: ...
    @property
    def max_download(self) -> int: ...
    @property
    def hub_token(self) -> str: ...
    @property
    def progress(self) -> Callable[[str, int, int], None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePlace:
    """A base's folder, the file in it that opens the model, and what to do where the hub does not show it."""

    folder: BaseFolder
    entry: str
    advice: str

    @property
    def ref(self) -> str:
        return f"{self.folder.ref}/{self.entry}"

    def open(self) -> Checkpoint:
        """The base's weights, fetched where they are not at hand. Raises CannotRead."""
        if self.entry.endswith(".json"):
            self.folder.check_limit(name for name in self.folder.sizes if name.endswith(".safetensors"))
        with _withheld(self.advice):
            return open_checkpoint(self.folder, self.entry)


def place_of(base: BaseReference, reach: Reach, policy: Policy) -> BasePlace:
    """The place of a base. Raises CannotFetch with what would let the audit judge it."""
    from modelguard.blobs.hub import open_hub

    named = base.pinned or policy.names(base.name)
    token = reach.hub_token if named else ""
    advice = _advice(base.name, named=named, token=bool(token))
    with _withheld(advice):
        folder = open_hub(
            base.name,
            revision=base.revision,
            max_download=reach.max_download,
            offline=reach.offline,
            progress=reach.progress,
            token=token or None,
        )
        return BasePlace(folder=folder, entry=find_entry(folder), advice=advice)


@contextmanager
def _withheld(advice: str) -> Iterator[None]:
    from modelguard.blobs.hub import Withheld

    try:
        yield
    except Withheld as error:
        raise CannotFetch(str(error), advice=advice) from None


def _advice(name: str, *, named: bool, token: bool) -> str:
    """What would let the audit judge a base that the hub does not show."""
    reading = "pass a token that may read it (hf-token)"
    if not named:
        reading = f"name it in the base policy (models: base: hf:{name}) and {reading}"
    elif token:
        reading = "check that the token (hf-token) may read it"
    return f"{reading}, or add its fingerprint to the registry that the policy names (modelguard registry add hf:{name})"
