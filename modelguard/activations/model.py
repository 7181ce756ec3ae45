"""A model that is to be run, and its way into the process without secrets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelguard.blobs.base import Folder
from modelguard.checkpoints.base import Checkpoint
from modelguard.confinement.broker import Broker
from modelguard.confinement.inside import Desk
from modelguard.confinement.offered import OfferedCheckpoint, OfferedFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A checkpoint with its papers, by the name that outputs call it."""

    name: str
    folder: Folder
    checkpoint: Checkpoint

    def told(self, why: str) -> str:
        """A reason with the model called by its name: where it lies may be private."""
        return why.replace(self.checkpoint.ref, self.name).replace(self.folder.ref, self.name)


def offered(model: Model, broker: Broker) -> list[object]:
    """What the child is told of a model whose bytes the parent reads for it."""
    return [model.name, broker.folder(model.folder), broker.checkpoint(model.checkpoint)]


def received(told: Any, desk: Desk) -> Model:
    """The model as the child has it."""
    name, folder, checkpoint = told
    return Model(name=name, folder=OfferedFolder(desk, folder), checkpoint=OfferedCheckpoint(desk, checkpoint))
