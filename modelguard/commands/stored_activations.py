"""What `registry add --activations` makes, and what `compare --activations` does where a side is a registry's entry."""

from __future__ import annotations

import argparse
from contextlib import closing
from functools import partial

from modelguard.activations.against_stored import held
from modelguard.activations.extent import Extent
from modelguard.activations.stored_apart import compare_with_stored_apart, fingerprint_apart, on_probes_of_apart
from modelguard.attempt import attempt
from modelguard.blobs.base import Folder
from modelguard.checkpoints.base import Checkpoint
from modelguard.errors import BadRequest, CannotRead
from modelguard.known_models import by_name
from modelguard.progress import shown
from modelguard.references import REGISTRY, Reach, open_reference
from modelguard.registry.base import Store
from modelguard.registry.opening import open_registry
from modelguard.types.activations import ActivationFingerprint
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison

Outcome = ActivationComparison | Missing


def made_for_registry(options: argparse.Namespace, folder: Folder, checkpoint: Checkpoint) -> ActivationFingerprint | None:
    """The activation fingerprint that an entry is added with, where it was asked for. Raises CannotRead where it cannot be made."""
    if not options.activations:
        return None
    if options.secret is not None:
        raise BadRequest("an activation fingerprint has no secret form", advice="leave out --secret, or --activations")
    with shown(quiet=options.quiet) as progress:
        extent = Extent(layers=options.layers, progress=progress)
        made = attempt(partial(fingerprint_apart, checkpoint, folder, extent), what="running the model on the probes")
    if isinstance(made, Missing):
        raise CannotRead(
            f"{options.checkpoint}: no activation fingerprint: {made.why}", advice=made.advice or "add it without --activations"
        )
    return made


def held_by_registry(options: argparse.Namespace) -> Outcome:
    """Both sides of `compare` by what they do on the probes, where one or both are `registry:name`."""
    with closing(open_registry(options.registry)) as store:
        stored = [_stored(store, side) for side in (options.left, options.right)]
    for side in stored:
        if isinstance(side, Missing):
            return side
    left, right = (side if isinstance(side, ActivationFingerprint) else None for side in stored)
    with shown(quiet=options.quiet) as progress:
        reach = Reach(repo=options.repo, offline=options.offline, max_download=options.max_download, progress=progress)
        extent = Extent(layers=options.layers, progress=progress)
        return attempt(lambda: _held(options, left, right, reach, extent), what="running the model on the probes")


def _held(
    options: argparse.Namespace, left: ActivationFingerprint | None, right: ActivationFingerprint | None, reach: Reach, extent: Extent
) -> Outcome:
    """Whichever side is not stored is run on the other's probes."""
    if right is not None and left is None:
        folder, checkpoint = open_reference(options.left, reach)
        return compare_with_stored_apart(checkpoint, folder, right, extent)
    if right is None and left is not None:
        folder, checkpoint = open_reference(options.right, reach)
        made = on_probes_of_apart(left, checkpoint, folder, extent)
        return made if isinstance(made, Missing) else held(left, made)
    return Missing("neither side is stored") if left is None or right is None else held(left, right)


def _stored(store: Store, reference: str) -> ActivationFingerprint | Missing | None:
    """What the registry holds of a side; None where the side is a checkpoint."""
    if not reference.startswith(REGISTRY):
        return None
    entry = by_name(store, reference.removeprefix(REGISTRY))
    made = store.activations(entry.name)
    why = f"{store.where}: holds no activation fingerprint of {entry.shown[:80]!a}"
    return Missing(why, advice="add it with `modelguard registry add --activations --replace`") if made is None else made
