"""The evaluation logs beside a model of a pull request, with what the model's card claims."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import replace

from modelguard.blobs.base import Blob
from modelguard.evals.claims import held_against
from modelguard.evals.collecting import assemble
from modelguard.evals.harness import looks_like_evals
from modelguard.git import REGULAR_MODES
from modelguard.types.changes import ModelChange
from modelguard.types.evals import EvalLogs
from modelguard.types.findings import Absence, Missing
from modelguard.world import Outside

WEIGHTS = (".safetensors", ".safetensors.index.json")


def evals_beside(world: Outside, change: ModelChange) -> EvalLogs | Missing:
    """The evaluation logs in a model's directory and below it, except in the directories of other models."""
    own = posixpath.dirname(change.entry)
    others = {posixpath.dirname(path) for path in world.tree if path.endswith(WEIGHTS)} - {own}
    paths = sorted(path for path in world.tree if _beside(path, own, others) and world.tree[path].mode in REGULAR_MODES)
    if not paths:
        return Missing("no evaluation log beside the weights", kind=Absence.INAPPLICABLE)
    logs = assemble({path: _loader(world, path) for path in paths})
    if isinstance(logs, Missing):  # a JSON file of that name that is something else is no claim of the change
        return replace(logs, kind=Absence.INAPPLICABLE) if logs.kind is Absence.ABSENT else logs
    return with_claims(logs, world.read(change.card), change.card) if change.card else logs


def with_claims(logs: EvalLogs, card: bytes, name: str) -> EvalLogs:
    """The logs, with the card's claims held against their scores. Raises Malformed where the card cannot be read."""
    return replace(logs, identities=(*logs.identities, *held_against(card, name, logs)))


def _beside(path: str, own: str, others: set[str]) -> bool:
    inside = not own or path.startswith(f"{own}/")
    return (
        inside and looks_like_evals(path) and not any(other and path.startswith(f"{other}/") and len(other) > len(own) for other in others)
    )


def _loader(world: Outside, path: str) -> Callable[[], Blob]:
    return lambda: world.open(path)
