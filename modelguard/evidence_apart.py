"""The evidence on one model, collected in a process without secrets: it opens and parses, compares and runs; this one keeps the tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any

import msgspec

from modelguard.blobs.git_object import GitFolder
from modelguard.confined_world import world_of
from modelguard.confinement.apart import run_apart
from modelguard.confinement.broker import Broker, named, text
from modelguard.confinement.data import decode, encode
from modelguard.confinement.inside import Desk
from modelguard.confinement.limits import Limits
from modelguard.declaration import reference
from modelguard.declared_bases import BaseFolder, BasePlace
from modelguard.errors import CannotRead, Malformed, ModelguardError
from modelguard.evidence import collect
from modelguard.known_models import opened
from modelguard.policy import Document, Policy
from modelguard.registry.base import Store
from modelguard.types.changes import BaseReference, ModelChange
from modelguard.types.evidence import EVIDENCE_NAMES, Evidence
from modelguard.types.findings import Absence, Missing
from modelguard.types.registry import Entry
from modelguard.world import World

TASK = f"{__name__}:confined"
PAGE = 64  # entries of the registry that travel at once
MAX_BASES = 256  # models of the hub that one model of a change may have opened


def collect_apart(
    change: ModelChange, wanted: frozenset[str], world: World, policy: Policy, limits: Limits
) -> tuple[Evidence, tuple[str, ...]]:
    """What `collect` gives, from a confined process, and what held that.

    Where it ends without an answer, nothing was looked at, and each piece of evidence says so.
    """
    with ExitStack() as stack:
        broker = Broker(limits, hands_over=True)
        clerk = _Clerk(change, world, policy, stack, broker)
        broker.answers("head", lambda given: clerk.offered(world.folder(text(given), clerk.places)))
        broker.answers("before", lambda given: broker.folder(world.folder_before(text(given))))
        broker.answers("base", clerk.base)
        broker.answers("stated", clerk.stated)
        broker.answers("at-hand", clerk.at_hand)
        broker.answers("limit", clerk.limit)
        broker.answers("file", lambda given: broker.blob(world.open(clerk.path(given))))
        broker.answers("file-before", lambda given: broker.blob(world.open_before(clerk.path_before(given))))
        broker.answers("registry", lambda _given: [clerk.store.where, clerk.store.count()])
        broker.answers("entry", clerk.entry)
        broker.answers("entries", clerk.entries)
        broker.answers("activations", clerk.activations)
        what = f"looking at {change.subject}"
        try:
            given = _given(change, wanted, world, policy)
            evidence: Evidence = decode(Evidence, run_apart(TASK, given, broker, limits, what=what, progress=world.progress))
        except ModelguardError as error:
            return _nothing(change, wanted, Missing(str(error), advice=error.advice, kind=Absence.BROKEN)), broker.walls
    return (replace(evidence, change=change) if "change" in wanted else evidence), broker.walls


def confined(given: Any, desk: Desk) -> Any:
    """What the child does."""
    rules = Policy(document=msgspec.convert(given["policy"], Document), origin="", digest="")
    world = world_of(given["world"], desk)
    return encode(collect(decode(ModelChange, given["change"]), frozenset(given["wanted"]), world, rules))


def _given(change: ModelChange, wanted: frozenset[str], world: World, policy: Policy) -> dict[str, object]:
    """What the child is told: names, sizes and settings. Of the policy, what evidence depends on."""
    document = policy.document
    told = Document(
        version=document.version, models=document.models, alpha=document.alpha, controls=document.controls, behaviour=document.behaviour
    )
    return {
        "change": encode(change),
        "wanted": sorted(wanted),
        "policy": msgspec.to_builtins(told),
        "world": {
            "tree": {path: [entry.mode, entry.oid, entry.size] for path, entry in world.tree.items()},
            "before_tree": {path: [entry.mode, entry.oid, entry.size] for path, entry in world.before_tree.items()},
            "committed": world.committed,
            "offline": world.offline,
            "activations": world.activations,
            "registry": "the parent's" if world.registry is not None else "",
        },
    }


def _nothing(change: ModelChange, wanted: frozenset[str], why: Missing) -> Evidence:
    unasked = Missing("no enabled rule asks for it", kind=Absence.INAPPLICABLE)
    missing: dict[str, Any] = {name: why if name in wanted else unasked for name in EVIDENCE_NAMES}
    return Evidence(**missing | ({"change": change} if "change" in wanted else {}))


class _Clerk:
    """Looks up what the child may know. The child's questions are a stranger's."""

    def __init__(self, change: ModelChange, world: World, policy: Policy, stack: ExitStack, broker: Broker) -> None:
        self._change, self._world, self._policy, self._stack, self._broker = change, world, policy, stack, broker
        self._bases: list[BasePlace] = []
        self._files: list[GitFolder | BaseFolder] = []
        self._paged: tuple[str, str, int] = ("", "", -1)
        self._pages: Iterator[Entry] = iter(())

    def path(self, given: object) -> str:
        """A path of the head. Raises CannotRead."""
        path = text(given)
        if path not in self._world.tree:
            raise CannotRead("a path that is not in the commit")
        return path

    def path_before(self, given: object) -> str:
        """A path of the merge base. Raises CannotRead."""
        path = text(given)
        if path not in self._world.before_tree:
            raise CannotRead("a path that is not in the merge base")
        return path

    def offered(self, folder: GitFolder | BaseFolder) -> dict[str, object]:
        """A folder of which more can be asked than its bytes."""
        told = self._broker.folder(folder)
        self._files.append(folder)
        return told | {"files": len(self._files) - 1}

    def places(self) -> tuple[BasePlace, ...]:
        """The bases that were asked for so far."""
        return tuple(self._bases)

    def base(self, given: object) -> dict[str, object]:
        """A model of the hub, by a name that a card could hold. What policy pins is what policy says, not what the child says."""
        asked: BaseReference = decode(BaseReference, given)
        if len(self._bases) >= MAX_BASES:
            raise CannotRead("more models of the hub were asked for than any audit needs")
        pin = self._policy.base_of(self._change.entry)
        if asked.pinned and (pin is None or asked != reference(pin, "policy", pinned=True)):
            raise Malformed("a base that no policy pins")
        place = self._world.base(reference(asked.text, asked.source[:200], pinned=asked.pinned), self._policy)
        self._bases.append(place)
        return {"folder": self.offered(place.folder), "entry": place.entry, "advice": place.advice}

    def stated(self, given: object) -> list[object] | None:
        """What is stated of a file."""
        number, name = named(given, len(self._files))
        found = self._files[number].stated(name)
        return None if found is None else [found.sha256, found.size]

    def at_hand(self, given: object) -> bool:
        """Whether a file of the head can be read without asking a server."""
        number, name = named(given, len(self._files))
        folder = self._files[number]
        return isinstance(folder, GitFolder) and folder.at_hand(name)

    def limit(self, given: object) -> None:
        """Raises CannotFetch when fetching these files of a base as well would pass the limit."""
        if not isinstance(given, list) or len(given) != 2 or not isinstance(given[1], list):
            raise Malformed("no files of a base")
        number, _ = named([given[0], ""], len(self._files))
        folder = self._files[number]
        if not isinstance(folder, GitFolder):
            folder.check_limit([name for name in map(text, given[1]) if name in folder.sizes])

    @cached_property
    def store(self) -> Store:
        """The registry, opened when it is first asked for. Raises what opening it raises."""
        if self._world.registry is None:
            raise CannotRead("no registry of known models is named")
        return self._stack.enter_context(opened(self._world.registry))

    def entry(self, given: object) -> Any:
        """One entry by its name."""
        found = self.store.get(text(given))
        return None if found is None else encode(_public(found))

    def activations(self, given: object) -> Any:
        """What the model of an entry does on the probes."""
        return encode(self.store.activations(text(given)))

    def entries(self, given: object) -> Any:
        """One page of the entries of a method and shape; pages are asked for in order."""
        if not isinstance(given, list) or len(given) != 3 or type(given[2]) is not int:
            raise Malformed("no page of a registry")
        method, shape, number = text(given[0]), text(given[1]), given[2]
        if number == 0:
            self._pages = iter(self.store.entries(method=method, shape=shape))
        elif (method, shape, number - 1) != self._paged:
            raise Malformed("a page of a registry out of order")
        self._paged = (method, shape, number)
        return [encode(_public(entry)) for entry in islice(self._pages, PAGE)]


def _public(entry: Entry) -> Entry:
    """An entry without what a private one keeps for itself: its name, and where its weights are unless controls are taken from it."""
    if not entry.private:
        return entry
    return replace(entry, name=entry.alias, reference=entry.reference if entry.independent else "")
