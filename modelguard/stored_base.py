"""A checkpoint held against what the registry has of its declared base, where the base's own weights cannot be had (gated, private)."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from modelguard.activations.against_stored import compare_with_stored
from modelguard.activations.extent import Extent
from modelguard.activations.stored_apart import compare_with_stored_apart
from modelguard.attempt import attempt
from modelguard.blobs.base import Folder
from modelguard.checkpoints.base import Checkpoint
from modelguard.known_models import Place, stored_behaviour
from modelguard.types.changes import Declaration
from modelguard.types.findings import Absence, Missing
from modelguard.types.weights import ActivationComparison


class Reached(Protocol):
    """What of the world is reached for here."""

    @property
    def registry(self) -> Place | None: ...
    @property
    def headers_only(self) -> bool: ...
    @property
    def confined(self) -> bool: ...
    def folder(self, directory: str) -> Folder:
        """A directory of the head."""
        ...


def by_registry(
    checkpoint: Checkpoint | Missing, directory: str, declaration: Declaration | Missing, world: Reached, extent: Extent, without: Missing
) -> ActivationComparison | Missing:
    """The comparison with the stored activations of the one declared base; `without` says why its weights are not at hand.

    Whatever stands in the way is a reason beside that one: nothing here makes the weights' absence lighter or heavier than it was.
    """
    place = world.registry
    if isinstance(checkpoint, Missing) or isinstance(declaration, Missing) or place is None or world.headers_only:
        return without
    if len(declaration.bases) != 1 or without.kind is Absence.INAPPLICABLE:
        return without

    def hold() -> ActivationComparison | Missing:
        stored = stored_behaviour(place, declaration.bases[0])
        if isinstance(stored, Missing):
            return stored
        name, made = stored
        run = compare_with_stored if world.confined else compare_with_stored_apart
        compared = run(checkpoint, world.folder(directory), made, extent)
        return compared if isinstance(compared, Missing) else replace(compared, notes=(f"the registry's entry {name}", *compared.notes))

    told = attempt(hold, what="holding the checkpoint against the registry's activations")
    if isinstance(told, Missing):
        return Missing(f"{without.why}; and by the registry: {told.why}", advice=without.advice or told.advice, kind=without.kind)
    return told
