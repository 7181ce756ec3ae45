"""A model of another architecture than its declared base beside the controls that policy names: evidence that supports only."""

from __future__ import annotations

from collections.abc import Callable

from modelguard.activations.across import compare_across
from modelguard.activations.across_apart import compare_across_apart
from modelguard.activations.extent import AUTOMATIC_BYTES, Extent
from modelguard.activations.model import Model
from modelguard.attempt import attempt
from modelguard.blobs.base import Folder
from modelguard.checkpoints.base import Checkpoint
from modelguard.types.across import AcrossComparison
from modelguard.types.changes import ModelChange, ModelKind
from modelguard.types.findings import Absence, Missing
from modelguard.world import Outside

Opened = tuple[Folder, Checkpoint]


def across_of(
    change: ModelChange,
    sides: tuple[Checkpoint, tuple[Opened, ...]] | Missing,
    own: Folder,
    world: Outside,
    controls: Callable[[], tuple[Opened, ...]],
) -> AcrossComparison | Missing:
    """Where the model stands among the controls in its likeness to its one declared base. What cannot be had blocks nothing."""
    if change.kind is ModelKind.ADAPTER:
        return Missing("on its declared base an adapter behaves mostly as the base does", kind=Absence.INAPPLICABLE)
    if world.activations == "off":
        return Missing("activations are switched off", kind=Absence.INAPPLICABLE)
    if isinstance(sides, Missing):
        return _mild(sides)
    opened, bases = sides
    if len(bases) > 1:
        return Missing("several bases are declared: none of them alone must behave like the model", kind=Absence.INAPPLICABLE)
    (folder, base), left = bases[0], Model(name=opened.ref, folder=own, checkpoint=opened)
    right = Model(name=base.ref, folder=folder, checkpoint=base)
    extent = Extent(budget=AUTOMATIC_BYTES if world.activations == "auto" else 0, progress=world.progress)
    run = compare_across if world.confined else compare_across_apart
    made = attempt(lambda: run(left, right, lambda: _models(controls()), extent), what="comparing across architectures")
    return _mild(made) if isinstance(made, Missing) else made


def _models(opened: tuple[Opened, ...]) -> list[Model]:
    return [Model(name=checkpoint.ref, folder=folder, checkpoint=checkpoint) for folder, checkpoint in opened]


def _mild(missing: Missing) -> Missing:
    """A reason that blocks nothing by itself: where it must, the rules on weights and activations give it too."""
    return Missing(missing.why, advice=missing.advice) if missing.kind is Absence.BROKEN else missing
