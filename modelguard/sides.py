"""What a model is held against: the checkpoint, its declared bases, its former self and the controls, each opened when first asked for."""

from __future__ import annotations

import posixpath
from functools import cached_property

from modelguard.attempt import attempt
from modelguard.blobs.base import Folder
from modelguard.changes import unread
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.opening import open_checkpoint
from modelguard.declaration import declare
from modelguard.declared_bases import BasePlace
from modelguard.errors import CannotRead
from modelguard.policy import Policy
from modelguard.stated_identity import at_hand, stated_comparison
from modelguard.types.changes import BaseReference, Declaration, ModelChange, ModelKind
from modelguard.types.findings import Absence, Missing
from modelguard.types.weights import Comparison
from modelguard.world import Outside

MAX_BASES_COMPARED = 4
HEADERS_ONLY = Missing("only headers, papers and logs are read here", kind=Absence.INAPPLICABLE)  # in the hook
READING = {"checkpoint", "kinship", "activations"}  # evidence that only the weights themselves give


class Sides:
    """One model of a change with all that it is compared with. What cannot be had is a reason, once."""

    def __init__(self, change: ModelChange, world: Outside, policy: Policy) -> None:
        self.change = change
        self._world, self._policy = world, policy
        self._directory, self._name = posixpath.split(change.entry)

    @cached_property
    def declaration(self) -> Declaration | Missing:
        change, world = self.change, self._world

        def read() -> Declaration:
            card = world.read(change.card) if change.card else None
            adapter = world.read(change.adapter_config) if change.adapter_config else None
            pin = self._policy.base_of(change.entry)
            names = {"card_name": change.card or "model card", "adapter_name": change.adapter_config or "adapter_config.json"}
            return declare(card=card, adapter=adapter, pin=pin, **names)

        return attempt(read, what="reading the declaration")

    @cached_property
    def _opened(self) -> Checkpoint | Missing:
        if self.change.kind is ModelKind.UNSUPPORTED:
            return unread(self.change)
        return attempt(
            lambda: open_checkpoint(self._world.folder(self._directory, lambda: self._places), self._name), what="opening the checkpoint"
        )

    @cached_property
    def _places(self) -> tuple[BasePlace, ...] | Missing:
        """Where the declared bases are; nothing of them is fetched yet."""
        declaration = self.declaration
        if self._world.headers_only:
            return HEADERS_ONLY
        if isinstance(declaration, Missing):
            return declaration
        if not declaration.bases:
            return Missing("no base model is declared", advice="write base_model: organisation/name into the model card's front matter")
        named = declaration.bases[:MAX_BASES_COMPARED]
        return attempt(lambda: tuple(self._world.base(base, self._policy) for base in named), what="opening the declared base")

    @cached_property
    def _bases(self) -> tuple[tuple[Folder, Checkpoint], ...] | Missing:
        places = self._places
        if isinstance(places, Missing):
            return places
        return attempt(lambda: tuple((place.folder, place.open()) for place in places), what="opening the declared base")

    @cached_property
    def _stated(self) -> Comparison | Missing | None:
        """The comparison that sha256 alone decide, or why it cannot be; None where the weights must be read."""
        return stated_comparison(self.change, self.declaration, lambda: self._places, self._world)

    @property
    def _unread(self) -> Missing | None:
        """Why the weights are not fetched although they could be: they are known by their sha256, and policy does not ask for more."""
        if not isinstance(self._stated, Comparison) or READING & set(self._policy.require) or at_hand(self.change, self._world):
            return None
        return Missing(self._stated.unknown[0].why, advice="require: [checkpoint] in the policy has it read")

    @property
    def _sides(self) -> tuple[Checkpoint, tuple[tuple[Folder, Checkpoint], ...]] | Missing:
        """The checkpoint and its declared bases, or why one of the two is not to be had."""
        opened, bases = self._opened, self._bases
        if isinstance(opened, Missing):
            return opened
        if isinstance(bases, Missing) and not isinstance(self._by_fingerprint, Missing):
            return Missing(f"{bases.why}: its fingerprint alone is known, which holds no weights", advice=bases.advice)
        return bases if isinstance(bases, Missing) else (opened, bases)

    @cached_property
    def _by_fingerprint(self) -> Comparison | Missing:
        """The checkpoint held against the registry's fingerprint of a declared base whose weights are not to be had."""
        opened, bases, declared, place = self._opened, self._bases, self.declaration, self._world.registry
        why = bases.why if isinstance(bases, Missing) and bases.kind is Absence.BROKEN else ""
        if isinstance(opened, Missing) or isinstance(declared, Missing) or place is None or not why:
            return Missing("no fingerprint is called for")
        from modelguard.known_models import by_fingerprint

        return attempt(lambda: by_fingerprint(opened, declared.bases, place, self._policy.alpha, why), what="comparing with fingerprints")

    @cached_property
    def _before(self) -> Checkpoint | Missing:
        if self.change.before_entry is None:
            return Missing("the model is new in this change", kind=Absence.INAPPLICABLE)
        folder = self._world.folder_before(self._directory)
        return attempt(lambda: open_checkpoint(folder, self._name), what="opening the version before this change")

    def _known(self, reference: str) -> tuple[Folder, Checkpoint]:
        """The folder and weights of a registry's entry; only the hub's are opened here, no path that a registry may hold."""
        if not reference.startswith("hf:"):
            raise CannotRead(f"{reference}: only models of the hub are opened here")
        name, _, revision = reference.removeprefix("hf:").partition("@")
        known = BaseReference(name=name, revision=revision or None, source="registry")
        place = self._world.base(known, self._policy)
        return place.folder, place.open()

    @cached_property
    def _beside(self) -> tuple[tuple[Folder, Checkpoint], ...]:
        """The models that policy calls independent, for what has no exact null. Without one of them nothing is compared."""
        from modelguard.known_models import controls

        return controls(self._policy.document.controls, self._world.registry, self._known)
