"""Declared bases on the hub. The token goes to a base that the base commit's policy names, and to no other that anybody declares."""

from __future__ import annotations

from modelguard.blobs.base import Folder
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.opening import find_entry, open_checkpoint
from modelguard.errors import CannotFetch
from modelguard.policy import Policy
from modelguard.types.changes import BaseReference
from modelguard.world import World


def open_base(base: BaseReference, world: World, policy: Policy) -> tuple[Folder, Checkpoint]:
    """The folder and the checkpoint of a declared base. Raises CannotFetch with what would let the audit judge it."""
    from modelguard.blobs.hub import Withheld, open_hub

    named = policy.names(base.name)
    token = world.hub_token if named else ""
    try:
        folder = open_hub(
            base.name,
            revision=base.revision,
            max_download=world.max_download,
            offline=world.offline,
            progress=world.progress,
            token=token or None,
        )
        entry = find_entry(folder)
        if entry.endswith(".json"):
            folder.check_limit(name for name in folder.sizes if name.endswith(".safetensors"))
        return folder, open_checkpoint(folder, entry)
    except Withheld as error:
        raise CannotFetch(str(error), advice=_advice(base.name, named=named, token=bool(token))) from None


def _advice(name: str, *, named: bool, token: bool) -> str:
    """What would let the audit judge a base that the hub does not show."""
    reading = "pass a token that may read it (hf-token)"
    if not named:
        reading = f"name it in the base policy (models: base: hf:{name}) and {reading}"
    elif token:
        reading = "check that the token (hf-token) may read it"
    return f"{reading}, or add its fingerprint to the registry that the policy names (modelguard registry add hf:{name})"
