"""The behaviour of a model beside that of the candidate teachers and controls that policy names: run on policy's texts, or on the probes.

References lead to the hub alone, directly or through a registry's entry. Texts are files of the commit that the change forked from: what
the change itself brings is never text that it is measured on.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import replace

from modelguard.activations.extent import AUTOMATIC_BYTES, Extent
from modelguard.activations.held_out import MOST_BYTES, MOST_DOCUMENTS, PROBE_DOCUMENTS, Document, documents
from modelguard.activations.model import Model
from modelguard.activations.teaching import teaching
from modelguard.activations.teaching_apart import teaching_apart
from modelguard.attempt import attempt
from modelguard.blobs.base import Folder, read
from modelguard.checkpoints.base import Checkpoint
from modelguard.errors import BadRequest
from modelguard.git import REGULAR_MODES
from modelguard.known_models import named
from modelguard.policy import Behaviour
from modelguard.types.changes import Declaration
from modelguard.types.evals import TeacherEvidence
from modelguard.types.findings import Absence, Missing
from modelguard.world import Outside

Open = Callable[[str], tuple[Folder, Checkpoint]]
ADVICE = (
    "name candidates and controls in policy's `behaviour`, or: modelguard compare MODEL TEACHER --activations --control CKPT --control CKPT"
)


def teacher_of(
    place: tuple[str, Folder],
    open_suspect: Callable[[], Checkpoint | Missing],
    declaration: Declaration | Missing,
    world: Outside,
    wanted: Behaviour,
    opener: Open,
) -> TeacherEvidence | Missing:
    """The teacher evidence on a checkpoint of that name and folder, opened where candidates are named.

    What is not run is absent, never held against it.
    """
    if not wanted.references:
        return Missing("no candidate teachers are named", advice=ADVICE, kind=Absence.INAPPLICABLE)
    if world.headers_only or world.activations == "off":
        return Missing("activations are switched off", kind=Absence.INAPPLICABLE)
    opened = open_suspect()
    if isinstance(opened, Missing):
        return opened
    suspect = Model(name=place[0], folder=place[1], checkpoint=opened)
    extent = Extent(budget=AUTOMATIC_BYTES if world.activations == "auto" else 0, progress=world.progress)

    def run() -> TeacherEvidence | Missing:
        candidates = _models(wanted.references, "references", world, opener)
        controls = _models(wanted.controls, "controls", world, opener)
        run_all = teaching if world.confined else teaching_apart
        return run_all(suspect, candidates, controls, texts=texts_of(world, wanted.texts), extent=extent)

    found = attempt(run, what="running models on held-out text", passing=BadRequest)
    if isinstance(found, Missing):
        return Missing(found.why, advice=found.advice, kind=Absence.INAPPLICABLE if found.kind is Absence.INAPPLICABLE else Absence.ABSENT)
    return found if isinstance(declaration, Missing) else replace(found, declared=tuple(base.name for base in declaration.bases))


def texts_of(world: Outside, patterns: Sequence[str]) -> tuple[Document, ...]:
    """The documents that shell patterns name in the commit that the change forked from. Raises BadRequest where there are none."""
    if not patterns:
        return PROBE_DOCUMENTS
    tree = world.before_tree
    paths = sorted(path for path in tree if tree[path].mode in REGULAR_MODES and any(fnmatch.fnmatchcase(path, one) for one in patterns))
    if not paths:
        raise BadRequest(f"behaviour.texts: {patterns[0][:80]!a} names no file of the base", advice="commit the texts before the model")
    opened = ((path, world.open_before(path)) for path in paths[:MOST_DOCUMENTS])
    return documents({path: read(blob, 0, min(blob.size, MOST_BYTES)) for path, blob in opened})


def _models(names: Sequence[str], key: str, world: Outside, opener: Open) -> tuple[Model, ...]:
    references = dict(named(names, world.registry, key=f"behaviour.{key}"))
    opened = ((shown, opener(reference)) for shown, reference in references.items())
    return tuple(Model(name=shown, folder=folder, checkpoint=checkpoint) for shown, (folder, checkpoint) in opened)
