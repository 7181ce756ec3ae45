"""Both networks of a comparison run on the probes, whatever the one in question is: a model, or an adapter on its base."""

from __future__ import annotations

from modelguard.activations.comparison import compare_activations
from modelguard.activations.extent import WHOLE, Extent
from modelguard.blobs.base import Folder
from modelguard.checkpoints.applied import applied
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.peft import CONFIG, read_config
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison


def run_both(left: Checkpoint, own: Folder, folder: Folder, base: Checkpoint, extent: Extent = WHOLE) -> ActivationComparison | Missing:
    """What the checkpoint `left` in the folder `own` does, held against its `base` in `folder`. Raises CannotRead for hostile files.

    An adapter is applied to the base and has the base's own configuration. What comes out shows how much it changes the base; it
    cannot show that the adapter was trained on this base, because most of what is run is the base itself.
    """
    if CONFIG not in own.sizes or "config.json" in own.sizes:
        return compare_activations(left, base, own, folder, extent)
    return compare_activations(applied(left, base, read_config(own)), base, folder, folder, extent)
