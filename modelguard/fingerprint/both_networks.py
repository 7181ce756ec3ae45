"""Both networks of a comparison run on the probes, whatever the one in question is: a model, or an adapter on its base."""

from __future__ import annotations

from modelguard.blobs.base import Folder, read_small
from modelguard.checkpoints.applied import applied
from modelguard.checkpoints.base import Checkpoint
from modelguard.documents import json_object
from modelguard.fingerprint.activations import compare_activations
from modelguard.fingerprint.extent import WHOLE, Extent
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison

ADAPTER_CONFIG = "adapter_config.json"
MAX_CONFIG_BYTES = 1 << 20


def run_both(left: Checkpoint, own: Folder, folder: Folder, base: Checkpoint, extent: Extent = WHOLE) -> ActivationComparison | Missing:
    """What the checkpoint `left` in the folder `own` does, held against its `base` in `folder`. Raises CannotRead for hostile files.

    An adapter is applied to the base and has the base's own configuration. What comes out shows how much it changes the base; it
    cannot show that the adapter was trained on this base, because most of what is run is the base itself.
    """
    if ADAPTER_CONFIG not in own.sizes or "config.json" in own.sizes:
        return compare_activations(left, base, own, folder, extent)
    config = json_object(read_small(own.open(ADAPTER_CONFIG), MAX_CONFIG_BYTES), f"{own.ref}/{ADAPTER_CONFIG}")
    return compare_activations(applied(left, base, config), base, folder, folder, extent)
