"""Turns the world into evidence: one small function a field. What cannot be had becomes a reason, here and nowhere else."""

from __future__ import annotations

import posixpath
from functools import cached_property

from modelguard.activations.comparison import compare_activations
from modelguard.activations.extent import AUTOMATIC_BYTES, Extent
from modelguard.attempt import attempt
from modelguard.blobs.base import Folder
from modelguard.blobs.hub import open_hub
from modelguard.changes import unread
from modelguard.checkpoints.base import Checkpoint, nbytes, parameters
from modelguard.checkpoints.opening import find_entry, open_checkpoint
from modelguard.checkpoints.optimizer_state import completed_by, optimizer_state_of
from modelguard.checkpoints.peft import fit
from modelguard.declaration import declare
from modelguard.displacement.against_log import held_against, with_doubts
from modelguard.displacement.settings import settings_of
from modelguard.errors import CannotRead
from modelguard.eval_files import evals_beside
from modelguard.fingerprint.compare import compare
from modelguard.known_models import Surroundings, among_known, controls
from modelguard.logs.base import Loader, assemble
from modelguard.logs.continuity import checkpoint_step
from modelguard.policy import Policy
from modelguard.teachers import teacher_of
from modelguard.types.changes import BaseReference, Declaration, ModelChange, ModelKind
from modelguard.types.displacement import Displacement
from modelguard.types.evals import EvalLogs, TeacherEvidence
from modelguard.types.evidence import EVIDENCE_NAMES, Evidence
from modelguard.types.findings import Absence, Missing
from modelguard.types.logs import TrainingLog
from modelguard.types.optimizer_state import OptimizerState
from modelguard.types.registry import Kinship
from modelguard.types.weights import ActivationComparison, AdapterFit, CheckpointFacts, Comparison, Relation
from modelguard.world import World

MAX_BASES_COMPARED = 4


def collect(change: ModelChange, wanted: frozenset[str], world: World, policy: Policy) -> Evidence:
    """The evidence on one model that the enabled rules ask for; the rest is missing because nobody asked."""
    collector = _Collector(change, world, policy)
    unasked = Missing("no enabled rule asks for it", kind=Absence.INAPPLICABLE)
    return Evidence(**{name: getattr(collector, name) if name in wanted else unasked for name in EVIDENCE_NAMES})


class _Collector:
    """The evidence on one model, each piece collected when it is first asked for and kept."""

    def __init__(self, change: ModelChange, world: World, policy: Policy) -> None:
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
        return attempt(lambda: open_checkpoint(self._world.folder(self._directory), self._name), what="opening the checkpoint")

    @cached_property
    def checkpoint(self) -> CheckpointFacts | Missing:
        opened = self._opened
        return opened if isinstance(opened, Missing) else attempt(lambda: facts(opened), what="reading the header")

    @cached_property
    def _bases(self) -> tuple[tuple[Folder, Checkpoint], ...] | Missing:
        declaration = self.declaration
        if self._world.headers_only:
            return Missing("only headers, papers and logs are read here", kind=Absence.INAPPLICABLE)
        if isinstance(declaration, Missing):
            return declaration
        if not declaration.bases:
            return Missing("no base model is declared", advice="write base_model: organisation/name into the model card's front matter")
        return attempt(lambda: tuple(map(self._open_base, declaration.bases[:MAX_BASES_COMPARED])), what="opening the declared base")

    @property
    def _sides(self) -> tuple[Checkpoint, tuple[tuple[Folder, Checkpoint], ...]] | Missing:
        """The checkpoint and its declared bases, or why one of the two is not to be had."""
        opened, bases = self._opened, self._bases
        if isinstance(opened, Missing):
            return opened
        return bases if isinstance(bases, Missing) else (opened, bases)

    def _open_base(self, base: BaseReference) -> tuple[Folder, Checkpoint]:
        world = self._world
        folder = open_hub(
            base.name, revision=base.revision, max_download=world.max_download, offline=world.offline, progress=world.progress
        )
        entry = find_entry(folder)
        if entry.endswith(".json"):
            folder.check_limit(name for name in folder.sizes if name.endswith(".safetensors"))
        return folder, open_checkpoint(folder, entry)

    @cached_property
    def weights(self) -> Comparison | Missing:
        if self.change.kind is ModelKind.ADAPTER:
            return Missing("an adapter alone cannot confirm its base beyond shapes", kind=Absence.INAPPLICABLE)
        sides = self._sides
        if isinstance(sides, Missing):
            return sides
        opened, bases = sides

        def against_each() -> Comparison:
            compared = []
            for _folder, base in bases:
                compared.append(self._compare(opened, base))
                if compared[-1].relation not in (Relation.UNRELATED, Relation.INCONCLUSIVE):
                    return compared[-1]
            return compared[0]

        return attempt(against_each, what="comparing the weights")

    @cached_property
    def _before(self) -> Checkpoint | Missing:
        if self.change.before_entry is None:
            return Missing("the model is new in this change", kind=Absence.INAPPLICABLE)
        folder = self._world.folder_before(self._directory)
        return attempt(lambda: open_checkpoint(folder, self._name), what="opening the version before this change")

    @cached_property
    def previous(self) -> Comparison | Missing:
        change, opened = self.change, self._opened
        if change.before_entry is None or not change.weights_touched:
            return Missing("the weights are new in this change or not touched by it", kind=Absence.INAPPLICABLE)
        if isinstance(opened, Missing):
            return opened
        before = self._before
        if isinstance(before, Missing):  # what was there before is not a claim of this change
            return Missing(before.why, advice=before.advice, kind=Absence.ABSENT)
        return attempt(lambda: self._compare(opened, before), what="comparing with the version before this change")

    @cached_property
    def adapter(self) -> AdapterFit | Missing:
        if self.change.kind is not ModelKind.ADAPTER:
            return Missing("not an adapter", kind=Absence.INAPPLICABLE)
        sides = self._sides
        if isinstance(sides, Missing):
            return sides
        opened, bases = sides
        return attempt(lambda: fit(opened, bases[0][1]), what="fitting the adapter to its base")

    @cached_property
    def activations(self) -> ActivationComparison | Missing:
        if self.change.kind is ModelKind.ADAPTER:
            why = "on its declared base an adapter behaves mostly as the base does, whichever it was trained on"
            return Missing(why, kind=Absence.INAPPLICABLE)
        if self._world.activations == "off":
            return Missing("activations are switched off", kind=Absence.INAPPLICABLE)
        sides = self._sides
        if isinstance(sides, Missing):
            return sides
        opened, bases = sides
        if len(bases) > 1:
            return Missing("several bases are declared: none of them alone must behave like the model", kind=Absence.INAPPLICABLE)
        extent = Extent(budget=AUTOMATIC_BYTES if self._world.activations == "auto" else 0, progress=self._world.progress)
        (folder, base), own = bases[0], self._world.folder(self._directory)
        result = attempt(lambda: compare_activations(opened, base, own, folder, extent), what="running both models on the probes")
        # models that cannot be run say nothing against the weights, which were read: not run is not broken
        return Missing(result.why, advice=result.advice) if isinstance(result, Missing) else result

    @cached_property
    def log(self) -> TrainingLog | Missing:
        if not self.change.logs:
            kind = Absence.INAPPLICABLE if self.change.kind is ModelKind.ADAPTER else Absence.ABSENT
            return Missing("no training log beside the weights", advice="commit the trainer's log, such as trainer_state.json", kind=kind)
        log = assemble({path: self._loader(path) for path in self.change.logs}, committed=self._world.committed)
        if isinstance(log, Missing) and log.kind is Absence.ABSENT and self.change.kind is ModelKind.ADAPTER:
            return Missing(log.why, advice=log.advice, kind=Absence.INAPPLICABLE)
        return log

    @cached_property
    def optimizer_state(self) -> OptimizerState | Missing:
        if self._world.headers_only:
            return Missing("only headers, papers and logs are read here", kind=Absence.INAPPLICABLE)
        folder = self._world.folder(self._directory)
        state = attempt(lambda: optimizer_state_of(folder, self._directory), what="reading the optimizer's state")
        # a state in a form that is not read says nothing against the log, which was read
        if isinstance(state, Missing) and state.kind is Absence.BROKEN:
            return Missing(state.why, advice=state.advice)
        return state

    @cached_property
    def displacement(self) -> Displacement | Missing:
        change, log, declaration = self.change, self.log, self.declaration
        if change.kind is ModelKind.ADAPTER:
            return Missing("an adapter has no base of its own shape to move from", kind=Absence.INAPPLICABLE)
        if isinstance(log, Missing):
            return log
        sides = self._sides
        if isinstance(sides, Missing):
            return sides
        opened, bases = sides
        if len(bases) > 1 or (isinstance(declaration, Declaration) and declaration.relation in ("merge", "quantized")):
            return Missing("a merged or quantized model is not moved by training alone", kind=Absence.INAPPLICABLE)
        weights = self.weights
        if isinstance(weights, Missing):
            return weights

        def hold() -> Displacement | Missing:
            card = self._world.read(change.card) if change.card else None
            settings = settings_of(self._world.folder(self._directory), card, change.card or "model card")
            if not isinstance(self.optimizer_state, Missing):
                settings = completed_by(settings, self.optimizer_state)
            moved = held_against(opened, bases[0][1], log, settings, reached=checkpoint_step(change.entry) or 0)
            pinned = not isinstance(declaration, Missing) and all(base.revision for base in declaration.bases)
            return with_doubts(moved, weights, pinned=pinned)

        return attempt(hold, what="holding the log against the weights")

    @cached_property
    def kinship(self) -> Kinship | Missing:
        place, opened, bases = self._world.registry, self._opened, self._bases
        if place is None or self._world.headers_only:
            return Missing("no registry of known models is named", kind=Absence.INAPPLICABLE)
        if self.change.kind is ModelKind.ADAPTER:
            return Missing("an adapter has no weights that a registry could know", kind=Absence.INAPPLICABLE)
        if isinstance(opened, Missing):
            return opened
        found = bases.why if isinstance(bases, Missing) else ""
        sides = () if isinstance(bases, Missing) else tuple(base for _, base in bases)
        declared = () if isinstance(self.declaration, Missing) else self.declaration.bases
        before = None if isinstance(self._before, Missing) else self._before
        opener = None if self._world.offline else self._known_weights
        more = Surroundings(alpha=self._policy.alpha, previous=before, opener=opener, why=found)
        return attempt(lambda: among_known(opened, sides, declared, place, more), what="searching the registry")

    @cached_property
    def evals(self) -> EvalLogs | Missing:
        return attempt(lambda: evals_beside(self._world, self.change), what="reading the evaluation logs")

    @cached_property
    def teacher(self) -> TeacherEvidence | Missing:
        place = (self.change.subject, self._world.folder(self._directory))
        return teacher_of(place, self._opened, self.declaration, self._world, self._policy.document.behaviour, self._known)

    def _known_weights(self, reference: str) -> Checkpoint:
        return self._known(reference)[1]

    def _known(self, reference: str) -> tuple[Folder, Checkpoint]:
        """The files and weights of a registry's entry; only the hub's are opened here, no path that a registry may hold."""
        if not reference.startswith("hf:"):
            raise CannotRead(f"{reference}: only models of the hub are opened here")
        name, _, revision = reference.removeprefix("hf:").partition("@")
        return self._open_base(BaseReference(name=name, revision=revision or None, source="registry"))

    def _loader(self, path: str) -> Loader:
        return lambda: self._world.open(path)

    def _compare(self, left: Checkpoint, right: Checkpoint) -> Comparison:
        total, done = nbytes(left) + nbytes(right), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self._world.progress(f"comparing {left.ref}", min(done, total), total)

        return compare(left, right, alpha=self._policy.alpha, controls=self._controls, advance=advance)

    @cached_property
    def _controls(self) -> tuple[Checkpoint, ...]:
        """The models that policy calls independent, for the test that has no exact null. Without one of them nothing is compared."""
        return controls(self._policy.document.controls, self._world.registry, self._known_weights)


def facts(checkpoint: Checkpoint) -> CheckpointFacts:
    """What a header says. Raises CannotRead for a file without tensors: nothing to audit is not a pass."""
    if not checkpoint.tensors:
        raise CannotRead(f"{checkpoint.ref}: holds no tensors, so there is nothing to audit", advice="save the model again")
    return CheckpointFacts(
        ref=checkpoint.ref,
        format=checkpoint.format,
        tensors=len(checkpoint.tensors),
        parameters=parameters(checkpoint),
        nbytes=nbytes(checkpoint),
        dtypes=tuple(sorted({info.dtype for info in checkpoint.tensors.values()})),
        notes=checkpoint.notes,
        verified=checkpoint.verified,
    )
