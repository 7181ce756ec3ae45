"""All that a rule may see."""

from __future__ import annotations

from dataclasses import dataclass, fields

from modelguard.types.across import AcrossComparison
from modelguard.types.changes import Declaration, ModelChange
from modelguard.types.displacement import Displacement
from modelguard.types.evals import EvalLogs, TeacherEvidence
from modelguard.types.findings import Missing
from modelguard.types.logs import TrainingLog
from modelguard.types.optimizer_state import OptimizerState
from modelguard.types.registry import Kinship
from modelguard.types.weights import ActivationComparison, AdapterFit, CheckpointFacts, Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Evidence about one model. A rule's parameter names are fields of this class; each may be missing, with the reason."""

    change: ModelChange | Missing
    declaration: Declaration | Missing
    checkpoint: CheckpointFacts | Missing
    weights: Comparison | Missing  # the checkpoint held against its declared base
    previous: Comparison | Missing  # the checkpoint held against its own version before the change
    adapter: AdapterFit | Missing
    activations: ActivationComparison | Missing
    across: AcrossComparison | Missing  # the insides of a model of another architecture than its base, beside controls
    log: TrainingLog | Missing
    optimizer_state: OptimizerState | Missing  # the counts and settings in optimizer.pt and scheduler.pt beside the weights
    displacement: Displacement | Missing  # the way from the base to the checkpoint, held against the log
    kinship: Kinship | Missing  # the checkpoint and its declared bases among the known models
    evals: EvalLogs | Missing  # the evaluation logs beside the model, and the card's claims
    teacher: TeacherEvidence | Missing  # its behaviour beside that of candidate teachers and of controls


EVIDENCE_NAMES = tuple(field.name for field in fields(Evidence))
