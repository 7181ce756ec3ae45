"""Identity without reading: a Git LFS pointer names its object's sha256, and so do the hub's listing and a registry's entry.

Equal sha256 are equal bytes. Of a model in shards, every tensor must lie in a shard of the same sha256 on both sides. The name says
nothing of what an object holds that nobody has: that it was not read stands in the result, and in the report.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence

from modelguard.attempt import attempt
from modelguard.blobs.base import Stated, Stating, read_small
from modelguard.checkpoints.sharded import MAX_INDEX_BYTES, SUFFIX, shard_names
from modelguard.errors import Malformed
from modelguard.known_objects import Places
from modelguard.types.changes import Declaration, ModelChange, ModelKind
from modelguard.types.findings import Missing
from modelguard.types.weights import Basis, Comparison, Cost, Relation, Side, Undecided
from modelguard.world import Outside

UNREAD = "object"  # what of a comparison's `unknown` says that nothing was read


def stated_comparison(
    change: ModelChange, declaration: Declaration | Missing, places: Places, world: Outside
) -> Comparison | Missing | None:
    """The comparison with a declared base that sha256 alone decide, or why it cannot be; None where the weights must be read.

    The bases are asked for only where the change commits pointers; a registry is, where the bases are not to be had.
    """
    if change.kind not in (ModelKind.SINGLE, ModelKind.SHARDED) or isinstance(declaration, Missing) or world.headers_only:
        return None
    return attempt(lambda: _found(change, declaration, places, world), what="reading the pointers")


def at_hand(change: ModelChange, world: Outside) -> bool:
    """Whether all of a model's files can be read without asking a server."""
    directory, name = posixpath.split(change.entry)
    folder = world.folder(directory)
    return all(folder.at_hand(file) for file in set(files_of(folder, name).values()))


def _found(change: ModelChange, declaration: Declaration, places: Places, world: Outside) -> Comparison | None:
    directory, name = posixpath.split(change.entry)
    folder = world.folder(directory)
    ours = stated(folder, files_of(folder, name))
    if not ours:
        return None
    found = places()
    if not isinstance(found, Missing):
        alike = (place for place in found if place.entry.endswith(SUFFIX) == name.endswith(SUFFIX))
        answers = (by_place(ours, change.entry, stated(place.folder, files_of(place.folder, place.entry)), place.ref) for place in alike)
        return next((answer for answer in answers if answer is not None), None)
    registry = world.registry
    if registry is None or not declaration.bases:
        return None
    from modelguard.known_models import digests_of

    known = attempt(lambda: digests_of(registry, declaration.bases), what="reading the registry")
    return None if isinstance(known, Missing) else by_digest(ours, change.entry, known)


def files_of(folder: Stating, entry: str) -> Mapping[str, str]:
    """The file of each tensor of a model in shards; of a model in one file, that file under the name ""."""
    if not entry.endswith(SUFFIX):
        return {"": entry}
    return shard_names(read_small(folder.open(entry), MAX_INDEX_BYTES), f"{folder.ref}/{entry}")


def stated(folder: Stating, files: Mapping[str, str]) -> dict[str, Stated]:
    """What is stated of each tensor's file; nothing where something is stated of some files only."""
    named = {file: folder.stated(file) for file in dict.fromkeys(files.values()) if file in folder.sizes}
    told = {tensor: told for tensor, file in files.items() if (told := named.get(file)) is not None}
    return told if len(told) == len(files) else {}


def by_place(ours: Mapping[str, Stated], name: str, theirs: Mapping[str, Stated], reference: str) -> Comparison | None:
    """The comparison with a base whose place states its files, if they are the same; None if they are not, or nothing is stated.

    Raises Malformed for a pointer with the sha256 of the base's file and another size: no file has two.
    """
    same = bool(ours) and ours.keys() == theirs.keys() and all(ours[tensor].sha256 == theirs[tensor].sha256 for tensor in ours)
    if not same:
        return None
    for tensor, item in ours.items():
        if item.size != theirs[tensor].size:
            what = f"names the sha256 of {reference} with {item.size} bytes, and that file has {theirs[tensor].size}"
            raise Malformed(f"{name}: the Git LFS pointer {what}", advice="commit the pointer that git-lfs writes")
    return _identical(tuple(ours.values()), name, reference)


def by_digest(ours: Mapping[str, Stated], name: str, digests: Iterable[tuple[str, str]]) -> Comparison | None:
    """The comparison with the first known model, of (name, digest), that is this very file."""
    if len(ours) != 1:
        return None
    (item,) = ours.values()
    known = next((reference for reference, digest in digests if digest == f"sha256:{item.sha256}"), None)
    return None if known is None else _identical((item,), name, known)


def _identical(items: Sequence[Stated], name: str, reference: str) -> Comparison:
    files = {item.sha256: item.size for item in items}
    digest = f"sha256:{next(iter(files))}" if len(files) == 1 else None
    many = "its sha256 is" if len(files) == 1 else f"the sha256 of its {len(files)} files are"
    why = f"the object itself was not read: by its Git LFS pointer, {many} the base's"
    return Comparison(
        left=Side(ref=name, digest=digest, parameters=0),
        right=Side(ref=reference, digest=digest, parameters=0),
        relation=Relation.IDENTICAL,
        kinds=(),
        direction="unknown",
        basis=Basis.BYTES,
        log10_p=0.0,
        score=1.0,
        share_explained=1.0,
        power=(),
        layers=(),
        evidence=(),
        unknown=(Undecided(what=UNREAD, why=why),),
        difference=None,
        cost=Cost(bytes_read=0, bytes_total=2 * sum(files.values()), seconds=0.0),
    )
