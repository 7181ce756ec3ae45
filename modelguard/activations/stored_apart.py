"""Activation fingerprints made, and held against checkpoints, in a process of its own, which holds no token."""

from __future__ import annotations

from typing import Any

from modelguard.activations.against_stored import compare_with_stored, on_probes_of
from modelguard.activations.extent import WHOLE, Extent
from modelguard.activations.model import Model, offered, received
from modelguard.activations.stored import fingerprint_activations
from modelguard.blobs.base import Folder
from modelguard.checkpoints.base import Checkpoint
from modelguard.confinement.apart import run_apart
from modelguard.confinement.broker import Broker
from modelguard.confinement.data import decode, encode
from modelguard.confinement.inside import Desk
from modelguard.confinement.limits import Limits
from modelguard.types.activations import ActivationFingerprint
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison

WHAT = "running the model on the probes"
MAKE, PROBE, COMPARE = "make", "probe", "compare"
Made = ActivationFingerprint | Missing
Outcome = ActivationComparison | Missing


def fingerprint_apart(checkpoint: Checkpoint, folder: Folder, extent: Extent = WHOLE) -> Made:
    """What `fingerprint_activations` gives, from a confined process. Raises CannotRead where that ends without an answer."""
    made: Made = decode(Made, _run(MAKE, checkpoint, folder, None, extent))
    return made


def on_probes_of_apart(stored: ActivationFingerprint, checkpoint: Checkpoint, folder: Folder, extent: Extent = WHOLE) -> Made:
    """What `on_probes_of` gives, from a confined process. Raises CannotRead where that ends without an answer."""
    made: Made = decode(Made, _run(PROBE, checkpoint, folder, stored, extent))
    return made


def compare_with_stored_apart(checkpoint: Checkpoint, folder: Folder, stored: ActivationFingerprint, extent: Extent = WHOLE) -> Outcome:
    """What `compare_with_stored` gives, from a confined process. Raises CannotRead where that ends without an answer."""
    compared: Outcome = decode(Outcome, _run(COMPARE, checkpoint, folder, stored, extent))
    return compared


def confined(given: Any, desk: Desk) -> Any:
    """What the child does."""
    model, stored = received(given["model"], desk), decode(ActivationFingerprint | None, given["stored"])
    layers, budget = given["extent"]
    extent = Extent(layers=layers, budget=budget, progress=desk.progress)
    if given["doing"] == MAKE:
        return encode(fingerprint_activations(model.checkpoint, model.folder, extent))
    if given["doing"] == PROBE:
        return encode(on_probes_of(stored, model.checkpoint, model.folder, extent))
    return encode(compare_with_stored(model.checkpoint, model.folder, stored, extent))


def _run(doing: str, checkpoint: Checkpoint, folder: Folder, stored: ActivationFingerprint | None, extent: Extent) -> Any:
    within = Limits()
    broker = Broker(within)
    model = Model(name=checkpoint.ref, folder=folder, checkpoint=checkpoint)
    given = {
        "doing": doing,
        "model": offered(model, broker),
        "stored": encode(stored),
        "extent": [extent.layers, extent.budget],
    }
    return run_apart(f"{__name__}:confined", given, broker, within, what=WHAT, progress=extent.progress)
