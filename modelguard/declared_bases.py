"""Where declared bases are: models of the hub, at one commit, and the file that opens each. Nothing of the weights is fetched for that."""

from __future__ import annotations

from dataclasses import dataclass

from modelguard.blobs.hub import HubFolder, open_hub
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.opening import find_entry, open_checkpoint
from modelguard.errors import CannotRead
from modelguard.types.changes import BaseReference
from modelguard.world import World


@dataclass(frozen=True, slots=True)
class BasePlace:
    """A base's folder, and the file in it that opens the model."""

    folder: HubFolder
    entry: str

    @property
    def ref(self) -> str:
        return f"{self.folder.ref}/{self.entry}"

    def open(self) -> Checkpoint:
        """The base's weights, fetched where they are not at hand. Raises CannotRead."""
        if self.entry.endswith(".json"):
            self.folder.check_limit(name for name in self.folder.sizes if name.endswith(".safetensors"))
        return open_checkpoint(self.folder, self.entry)


def known_weights(reference: str, world: World) -> Checkpoint:
    """The weights of a registry's entry; only the hub's are opened here, no path that a registry may hold. Raises CannotRead."""
    if not reference.startswith("hf:"):
        raise CannotRead(f"{reference}: only models of the hub are opened here")
    name, _, revision = reference.removeprefix("hf:").partition("@")
    return place_of(BaseReference(name=name, revision=revision or None, source="registry"), world).open()


def place_of(base: BaseReference, world: World) -> BasePlace:
    """The place of a base. The operator's token goes with it only where policy or the operator named the base. Raises CannotRead."""
    folder = open_hub(
        base.name,
        revision=base.revision,
        max_download=world.max_download,
        offline=world.offline,
        progress=world.progress,
        token=(world.hub_token or None) if base.pinned else None,
    )
    return BasePlace(folder, find_entry(folder))
