"""Both networks of a comparison run in a process of its own, which holds no token: what a stranger configured is computed there."""

from __future__ import annotations

from typing import Any

from modelguard.activations.both_networks import run_both
from modelguard.activations.extent import WHOLE, Extent
from modelguard.blobs.base import Folder
from modelguard.checkpoints.base import Checkpoint
from modelguard.confinement.apart import run_apart
from modelguard.confinement.broker import Broker
from modelguard.confinement.data import decode, encode
from modelguard.confinement.inside import Desk
from modelguard.confinement.limits import Limits
from modelguard.confinement.offered import OfferedCheckpoint, OfferedFolder
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison

WHAT = "running both models on the probes"
TASK = f"{__name__}:confined"


def run_both_apart(
    left: Checkpoint, own: Folder, folder: Folder, base: Checkpoint, extent: Extent = WHOLE, limits: Limits | None = None
) -> ActivationComparison | Missing:
    """What `run_both` gives, from a confined process. Raises CannotRead where it raises, and where the process ends without an answer."""
    within = limits or Limits()
    broker = Broker(within)
    given = {
        "checkpoints": [broker.checkpoint(left), broker.checkpoint(base)],
        "folders": [broker.folder(own), broker.folder(folder)],
        "extent": [extent.layers, extent.budget],
    }
    answer = run_apart(TASK, given, broker, within, what=WHAT, progress=extent.progress)
    ran: ActivationComparison | Missing = decode(ActivationComparison | Missing, answer)
    return ran


def confined(given: Any, desk: Desk) -> Any:
    """What the child does."""
    left, base = (OfferedCheckpoint(desk, told) for told in given["checkpoints"])
    own, folder = (OfferedFolder(desk, told) for told in given["folders"])
    layers, budget = given["extent"]
    return encode(run_both(left, own, folder, base, Extent(layers=layers, budget=budget, progress=desk.progress)))
