"""Where declared bases are: models of the hub, at one commit, and the file that opens each. Nothing of the weights is fetched for that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from modelguard.attempt import attempt
from modelguard.blobs.hub import HubFolder, Withheld, open_hub
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.opening import find_entry, open_checkpoint
from modelguard.errors import CannotFetch, CannotRead
from modelguard.policy import Policy
from modelguard.types.changes import BaseReference, Declaration
from modelguard.types.findings import Absence, Missing
from modelguard.types.weights import Comparison
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


def known_weights(reference: str, world: World, policy: Policy) -> Checkpoint:
    """The weights of a registry's entry; only the hub's are opened here, no path that a registry may hold. Raises CannotRead."""
    if not reference.startswith("hf:"):
        raise CannotRead(f"{reference}: only models of the hub are opened here")
    name, _, revision = reference.removeprefix("hf:").partition("@")
    return place_of(BaseReference(name=name, revision=revision or None, source="registry"), world, policy).open()


def place_of(base: BaseReference, world: World, policy: Policy) -> BasePlace:
    """The place of a base. The operator's token goes with it only where policy or the operator named it, whatever a card declares.

    Raises CannotFetch with what would let the audit judge it, CannotRead.
    """
    named = base.pinned or policy.names(base.name)
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
    except Withheld as error:
        raise CannotFetch(str(error), advice=_advice(base.name, named=named, token=bool(token))) from None
    return BasePlace(folder, find_entry(folder))


def by_fingerprint(
    opened: Checkpoint | Missing, bases: object, declaration: Declaration | Missing, world: World, policy: Policy
) -> Comparison | Missing:
    """The checkpoint held against the registry's fingerprint of a declared base whose weights are named and not to be had."""
    why = bases.why if isinstance(bases, Missing) and bases.kind is Absence.BROKEN else ""
    if isinstance(opened, Missing) or isinstance(declaration, Missing) or world.registry is None or not why:
        return Missing("no fingerprint is called for")
    from modelguard import known_models

    place, declared = world.registry, declaration.bases
    held = partial(known_models.by_fingerprint, opened, declared, place, policy.alpha, why)
    return attempt(held, what="comparing with fingerprints")


def controls_of(world: World, policy: Policy) -> tuple[Checkpoint, ...]:
    """The models that policy calls independent. Raises CannotRead where one of them cannot be had."""
    from modelguard.known_models import controls

    return controls(policy.document.controls, world.registry, partial(known_weights, world=world, policy=policy))


def _advice(name: str, *, named: bool, token: bool) -> str:
    """What would let the audit judge a base that the hub does not show."""
    reading = "pass a token that may read it (hf-token)"
    if not named:
        reading = f"name it in the base policy (models: base: hf:{name}) and {reading}"
    elif token:
        reading = "check that the token (hf-token) may read it"
    return f"{reading}, or add its fingerprint to the registry that the policy names (modelguard registry add hf:{name})"
