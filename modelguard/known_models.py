"""Looks a checkpoint up in the registry that a policy or an operator names, and reads the weights of what is found."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from modelguard.attempt import attempt
from modelguard.blobs.git_object import open_entry
from modelguard.checkpoints.base import Checkpoint
from modelguard.errors import BadRequest, CannotFetch, Malformed
from modelguard.fingerprint.compare import compare
from modelguard.fingerprint.meter import Metered
from modelguard.git import Git
from modelguard.references import REGISTRY
from modelguard.registry.base import Store, independent_entries
from modelguard.registry.opening import open_foreign, open_registry
from modelguard.sketches.comparison import compare_sketches
from modelguard.sketches.kinship import SECOND, UNDECLARED, kinship
from modelguard.sketches.search import search
from modelguard.sketches.sketch import fingerprint
from modelguard.types.activations import ActivationFingerprint
from modelguard.types.changes import BaseReference, TreeEntry
from modelguard.types.findings import Missing
from modelguard.types.registry import Candidate, Entry, Fingerprint, Hit, Kinship, Search
from modelguard.types.weights import FINGERPRINT_ALONE, Comparison, Relation, Undecided

MAX_REGISTRY = 2 << 30  # bytes of a registry in a commit
CHUNK = 4 << 20
T = TypeVar("T")
CONFIRMED = 2  # entries whose own weights are read
Opener = Callable[[str], Checkpoint]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the registry is: an operator's address, or a file of the commit that policy comes from."""

    address: str
    git: Git | None = None
    tree: Mapping[str, TreeEntry] | None = None
    worktree: Path | None = None
    store: Store | None = None  # one that is open already, and that somebody else closes


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is known beside a checkpoint: its version before the change, how weights of known models are read where they may be, and why
    the declared bases are not at hand where they are not.
    """

    alpha: float
    previous: Checkpoint | None = None
    opener: Opener | None = None
    why: str = ""


@contextmanager
def opened(place: Place) -> Iterator[Store]:
    """The registry, closed afterwards. A commit's file is copied out first, and nothing in it is trusted."""
    if place.store is not None:
        yield place.store
        return
    if place.git is None or place.tree is None:
        with closing(open_registry(place.address)) as store:
            yield store
        return
    if "://" in place.address or place.address not in place.tree:
        raise BadRequest(
            f"the policy's registry {place.address[:80]!a} is no file of the base commit",
            advice="commit the registry there, or name one with --registry",
        )
    with tempfile.TemporaryDirectory(prefix="modelguard-") as folder:
        copy = Path(folder) / "registry.sqlite"
        _copy(place.git, place.tree[place.address], place.worktree, copy)
        with closing(open_foreign(copy, place.address)) as store:
            yield store


def among_known(
    checkpoint: Checkpoint,
    bases: Sequence[Checkpoint],
    declared: Sequence[BaseReference],
    place: Place,
    more: Surroundings,
) -> Kinship:
    """The checkpoint among the known models. A declared base whose weights are not at hand is taken from the registry by its name."""
    previous, opener = more.previous, more.opener
    made = fingerprint(checkpoint)
    with opened(place) as store:
        sketched = [(base.ref, fingerprint(base)) for base in bases] or _named(store, declared, made.method)
        entries = tuple(store.entries(method=made.method, shape=made.shape)) if made.shape else ()
        known, where = store.count(), store.where
    before = None if previous is None else attempt(lambda: fingerprint(previous), what="sketching the version before this change")
    found = kinship(
        made,
        sketched,
        entries,
        alpha=more.alpha,
        registry=where,
        known=known,
        previous=None if isinstance(before, Missing) else before,
        why=more.why if not sketched else "",
    )
    if opener is None:
        return found
    return replace(found, search=confirmed(found.search, checkpoint, _references(entries), opener, standings=(UNDECLARED, SECOND)))


def by_fingerprint(checkpoint: Checkpoint, declared: Sequence[BaseReference], place: Place, alpha: float, why: str) -> Comparison:
    """The checkpoint against the registry's fingerprints of the declared bases, whose weights are not to be had for the reason `why`.

    Raises CannotFetch where the registry has none of them.
    """
    made = fingerprint(checkpoint)
    with opened(place) as store:
        known, where = _named(store, declared, made.method), store.where
    if not known:
        raise CannotFetch(f"{where}: has no fingerprint of the declared base", advice="add it with `modelguard registry add`")
    compared = [compare_sketches(made, theirs, (checkpoint.ref, f"{REGISTRY}{name}"), alpha=alpha) for name, theirs in known]
    best = next((one for one in compared if one.relation is not Relation.INCONCLUSIVE), compared[0])
    source = Undecided(what=FINGERPRINT_ALONE, why=f"{why}; judged by its fingerprint in {where}")
    return replace(best, unknown=(source, *best.unknown))


def look_up(checkpoint: Checkpoint, store: Store, *, alpha: float, secret: bytes = b"") -> tuple[Search, tuple[Entry, ...]]:
    """What an operator's search finds, and the entries that were searched."""
    metered = Metered(checkpoint)
    made = fingerprint(metered, secret)
    entries = tuple(store.entries(method=made.method, shape=made.shape)) if made.shape else ()
    found = search(made, entries, alpha=alpha, registry=store.where, known=store.count())
    total = sum(info.nbytes for info in checkpoint.tensors.values())
    return replace(found, cost=replace(found.cost, bytes_read=metered.bytes_read, bytes_total=total)), entries


def confirmed(
    found: Search, checkpoint: Checkpoint, references: Mapping[str, str], opener: Opener, standings: Sequence[str] = ("",)
) -> Search:
    """The search with the first hits and candidates held against their own weights, as far as those can be had."""

    def relation(item: Hit | Candidate) -> str:
        reference = references.get(item.name, "")
        if not reference:
            return ""
        told = attempt(lambda: compare(checkpoint, opener(reference), depth="sample").relation.value, what=f"comparing with {item.name}")
        return "" if isinstance(told, Missing) else told

    chosen = [hit.name for hit in found.hits if hit.standing in standings][:CONFIRMED]
    hits = tuple(replace(hit, confirmed=relation(hit)) if hit.name in chosen else hit for hit in found.hits)
    candidates = found.candidates if found.hits else tuple(replace(item, confirmed=relation(item)) for item in found.candidates[:CONFIRMED])
    return replace(found, hits=hits, candidates=candidates + found.candidates[len(candidates) :])


def controls(written: Sequence[str], place: Place | None, opener: Callable[[str], T]) -> tuple[T, ...]:
    """What `opener` makes of the models that a policy's `controls` name. Raises what `named` raises."""
    return tuple(opener(reference) for reference in dict.fromkeys(reference for _, reference in named(written, place, key="controls")))


def named(written: Sequence[str], place: Place | None, *, key: str) -> tuple[tuple[str, str], ...]:
    """(what outputs call it, where its weights are) of every model that a policy's key names: `hf:…`, `registry:name`, or `registry:` for
    every entry marked independent.

    Raises BadRequest for another reference, CannotFetch for an entry whose weights cannot be had.
    """
    references: list[tuple[str, str]] = []
    for name in written:
        if name.startswith("hf:"):
            references.append((name, name))
        elif not name.startswith(REGISTRY) or place is None:
            raise BadRequest(f"{key}: {name[:80]!a} names no model", advice="hf:organisation/name, or registry:name with a registry")
        else:
            with opened(place) as store:
                references += _in_registry(store, name.removeprefix(REGISTRY))
    return tuple(references)


def _in_registry(store: Store, name: str) -> list[tuple[str, str]]:
    if not name:
        return [(entry.shown, entry.reference) for entry in independent_entries(store)]
    entry = by_name(store, name)
    if not entry.reference:
        raise CannotFetch(f"{store.where}: {name[:80]!a} has no reference to its weights", advice="add it again with --reference")
    return [(entry.shown, entry.reference)]


def by_name(store: Store, name: str) -> Entry:
    """The entry that `registry:name` names."""
    entry = store.get(name)
    if entry is None:
        raise CannotFetch(f"{store.where}: no entry {name[:80]!a}", advice="`modelguard registry list` lists them")
    return entry


def _references(entries: Sequence[Entry]) -> dict[str, str]:
    """Where the weights of public entries can be had."""
    return {entry.shown: entry.reference for entry in entries if entry.reference and not entry.private}


def stored_behaviour(place: Place, base: BaseReference) -> tuple[str, ActivationFingerprint] | Missing:
    """What a declared base does on the probes, as the registry that policy or the operator names has it, and what the entry is called."""
    with opened(place) as store:
        for entry in _entries_of(store, [base]):
            made = store.activations(entry.name)
            if made is not None:
                return entry.shown, made
        return Missing(f"{store.where}: holds no activation fingerprint of {base.text[:80]!a}", advice="registry add --activations")


def _named(store: Store, declared: Sequence[BaseReference], method: str) -> list[tuple[str, Fingerprint]]:
    """The declared bases as the registry knows them, by name or by reference."""
    return [(entry.shown, entry.fingerprint) for entry in _entries_of(store, declared) if entry.fingerprint.method == method]


def _entries_of(store: Store, declared: Sequence[BaseReference]) -> tuple[Entry, ...]:
    """The entries of declared bases, each once."""
    names = [name for base in declared for name in (base.text, base.name, f"hf:{base.text}", f"hf:{base.name}")]
    found = (store.get(name) for name in dict.fromkeys(names))
    return tuple({entry.name: entry for entry in found if entry is not None}.values())


def digests_of(place: Place, declared: Sequence[BaseReference]) -> tuple[tuple[str, str], ...]:
    """(name, digest of the whole file) of those declared bases that the registry knows one of."""
    with opened(place) as store:
        entries = _entries_of(store, declared)
    return tuple((f"{REGISTRY}{entry.shown}", entry.fingerprint.digest) for entry in entries if entry.fingerprint.digest)


def _copy(git: Git, entry: TreeEntry, worktree: Path | None, target: Path) -> None:
    blob = open_entry(git, entry, worktree)
    if blob.size > MAX_REGISTRY:
        raise Malformed(f"{entry.path}: {blob.size} bytes, more than the {MAX_REGISTRY} that are read of a registry")
    buffer = memoryview(bytearray(CHUNK))
    with target.open("wb") as file:
        for start in range(0, blob.size, CHUNK):
            piece = buffer[: min(CHUNK, blob.size - start)]
            blob.readinto(start, piece)
            file.write(piece)
