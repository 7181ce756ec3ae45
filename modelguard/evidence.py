"""Turns the world into evidence: one small function a field. What cannot be had becomes a reason, here and nowhere else."""

from __future__ import annotations

from functools import cached_property, partial

from modelguard.attempt import attempt
from modelguard.checkpoints.base import Checkpoint, nbytes
from modelguard.checkpoints.optimizer_state import completed_by, optimizer_state_beside
from modelguard.checkpoints.peft import fit
from modelguard.eval_files import evals_beside
from modelguard.facts import facts
from modelguard.logs.base import assemble
from modelguard.logs.continuity import checkpoint_step
from modelguard.policy import Policy
from modelguard.sides import HEADERS_ONLY, Sides
from modelguard.types.across import AcrossComparison
from modelguard.types.changes import Declaration, ModelChange, ModelKind
from modelguard.types.displacement import Displacement
from modelguard.types.evals import EvalLogs, TeacherEvidence
from modelguard.types.evidence import EVIDENCE_NAMES, Evidence
from modelguard.types.findings import Absence, Missing
from modelguard.types.logs import TrainingLog
from modelguard.types.optimizer_state import OptimizerState
from modelguard.types.registry import Kinship
from modelguard.types.weights import ActivationComparison, AdapterFit, CheckpointFacts, Comparison, Relation
from modelguard.world import Outside


def collect(change: ModelChange, wanted: frozenset[str], world: Outside, policy: Policy) -> Evidence:
    """The evidence on one model that the enabled rules ask for; the rest is missing because nobody asked."""
    collector = _Collector(change, world, policy)
    unasked = Missing("no enabled rule asks for it", kind=Absence.INAPPLICABLE)
    return Evidence(**{name: getattr(collector, name) if name in wanted else unasked for name in EVIDENCE_NAMES})


class _Collector(Sides):
    """The evidence on one model, each piece collected when it is first asked for and kept."""

    @cached_property
    def checkpoint(self) -> CheckpointFacts | Missing:
        opened = self._unread or self._opened
        return opened if isinstance(opened, Missing) else attempt(lambda: facts(opened), what="reading the header")

    @cached_property
    def weights(self) -> Comparison | Missing:
        if self.change.kind is ModelKind.ADAPTER:
            return Missing("an adapter alone cannot confirm its base beyond shapes", kind=Absence.INAPPLICABLE)
        if self._stated is not None:
            return self._stated
        sides = self._sides
        if isinstance(sides, Missing):
            return sides if isinstance(self._by_fingerprint, Missing) else self._by_fingerprint
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
    def previous(self) -> Comparison | Missing:
        change, opened = self.change, self._unread or self._opened
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
        if self._world.headers_only:
            return HEADERS_ONLY
        if self._world.activations == "off":
            return Missing("activations are switched off", kind=Absence.INAPPLICABLE)
        if self._unread is not None and self._world.activations == "auto":
            return self._unread
        from modelguard.activations.extent import AUTOMATIC_BYTES, Extent

        sides = self._sides
        extent = Extent(budget=AUTOMATIC_BYTES if self._world.activations == "auto" else 0, progress=self._world.progress)
        if isinstance(sides, Missing):
            from modelguard.stored_base import by_registry

            return by_registry(self._opened, self._directory, self.declaration, self._world, extent, sides)
        from modelguard.activations.apart import run_both_apart
        from modelguard.activations.both_networks import run_both

        opened, bases = sides
        if len(bases) > 1:
            return Missing("several bases are declared: none of them alone must behave like the model", kind=Absence.INAPPLICABLE)
        (folder, base), own = bases[0], self._world.folder(self._directory)
        run = run_both if self._world.confined else run_both_apart
        result = attempt(lambda: run(opened, own, folder, base, extent), what="running both models on the probes")
        # models that cannot be run say nothing against the weights, which were read: not run is not broken
        return Missing(result.why, advice=result.advice) if isinstance(result, Missing) else result

    @cached_property
    def across(self) -> AcrossComparison | Missing:
        if self._world.headers_only:
            return HEADERS_ONLY
        if not self._policy.document.controls:
            return Missing("policy names no control models", advice="controls: in the policy", kind=Absence.INAPPLICABLE)
        if self._unread is not None and self._world.activations == "auto":
            return self._unread
        from modelguard.across_evidence import across_of

        return across_of(self.change, self._sides, self._world.folder(self._directory), self._world, lambda: self._beside)

    @cached_property
    def log(self) -> TrainingLog | Missing:
        if not self.change.logs:
            kind = Absence.INAPPLICABLE if self.change.kind is ModelKind.ADAPTER else Absence.ABSENT
            return Missing("no training log beside the weights", advice="commit the trainer's log, such as trainer_state.json", kind=kind)
        log = assemble({path: partial(self._world.open, path) for path in self.change.logs}, committed=self._world.committed)
        if isinstance(log, Missing) and log.kind is Absence.ABSENT and self.change.kind is ModelKind.ADAPTER:
            return Missing(log.why, advice=log.advice, kind=Absence.INAPPLICABLE)
        return log

    @cached_property
    def optimizer_state(self) -> OptimizerState | Missing:
        if self._world.headers_only:
            return HEADERS_ONLY
        return optimizer_state_beside(self._world.folder(self._directory), self._directory)

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
            from modelguard.displacement.against_log import held_against, with_doubts
            from modelguard.displacement.settings import settings_of

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
        place = self._world.registry
        if place is None or self._world.headers_only:
            return Missing("no registry of known models is named", kind=Absence.INAPPLICABLE)
        if self._unread is not None:
            return self._unread
        opened, bases = self._opened, self._bases
        if self.change.kind is ModelKind.ADAPTER:
            return Missing("an adapter has no weights that a registry could know", kind=Absence.INAPPLICABLE)
        if isinstance(opened, Missing):
            return opened
        from modelguard.known_models import Surroundings, among_known

        found = bases.why if isinstance(bases, Missing) else ""
        sides = () if isinstance(bases, Missing) else tuple(base for _, base in bases)
        declared = () if isinstance(self.declaration, Missing) else self.declaration.bases
        before = None if isinstance(self._before, Missing) else self._before
        opener = None if self._world.offline else lambda reference: self._known(reference)[1]
        more = Surroundings(alpha=self._policy.alpha, previous=before, opener=opener, why=found)
        return attempt(lambda: among_known(opened, sides, declared, place, more), what="searching the registry")

    @cached_property
    def evals(self) -> EvalLogs | Missing:
        return attempt(lambda: evals_beside(self._world, self.change), what="reading the evaluation logs")

    @cached_property
    def teacher(self) -> TeacherEvidence | Missing:
        if self._world.headers_only:
            return HEADERS_ONLY
        from modelguard.teachers import teacher_of

        place = (self.change.subject, self._world.folder(self._directory))
        return teacher_of(place, lambda: self._opened, self.declaration, self._world, self._policy.document.behaviour, self._known)

    def _compare(self, left: Checkpoint, right: Checkpoint) -> Comparison:
        from modelguard.fingerprint.compare import compare

        total, done = nbytes(left) + nbytes(right), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self._world.progress(f"comparing {left.ref}", min(done, total), total)

        return compare(left, right, alpha=self._policy.alpha, controls=[one for _, one in self._beside], advance=advance)
