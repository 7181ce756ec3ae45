"""The behavioural half of `modelguard compare`: whose predictions the left side makes, held against control models."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from modelguard import pipeline
from modelguard.activations.extent import Extent
from modelguard.activations.held_out import MOST_BYTES, MOST_DOCUMENTS, PROBE_DOCUMENTS, Document, documents
from modelguard.activations.model import Model
from modelguard.activations.teaching_apart import teaching_apart
from modelguard.attempt import attempt
from modelguard.checks.base import select
from modelguard.commands.inputs import files_below
from modelguard.errors import BadRequest
from modelguard.logs.sources import opened
from modelguard.partial_evidence import only
from modelguard.policy import default
from modelguard.references import Reach, open_reference
from modelguard.render import json_v1
from modelguard.types.evals import TeacherEvidence
from modelguard.types.findings import Finding, Missing
from modelguard.world import Progress

RULE = "behaviour-undeclared-teacher"


def beside_controls(options: argparse.Namespace, reach: Reach, progress: Progress) -> TeacherEvidence | Missing:
    """How unusually alike LEFT predicts to RIGHT and to every --candidate, by what the --controls show."""
    texts = texts_of(options.text)

    several = ([options.left], [options.right, *options.candidate], options.control)
    (suspect,), candidates, controls = (models_of(listed, reach) for listed in several)
    run = partial(teaching_apart, suspect, candidates, controls, texts=texts, extent=Extent(progress=progress))
    return attempt(run, what="running models on held-out text")


def models_of(listed: Sequence[str], reach: Reach) -> tuple[Model, ...]:
    """The models that references name, each once."""
    found = ((name, open_reference(name, reach)) for name in dict.fromkeys(listed))
    return tuple(Model(name=name, folder=folder, checkpoint=checkpoint) for name, (folder, checkpoint) in found)


def texts_of(paths: Sequence[Path]) -> tuple[Document, ...]:
    """The documents in those files and below those directories; the probes where none are named. Raises BadRequest."""
    if not paths:
        return PROBE_DOCUMENTS
    files = files_below(paths, lambda _name: True)
    if len(files) > MOST_DOCUMENTS:
        raise BadRequest(f"--text names {len(files)} files, at most {MOST_DOCUMENTS} are read", advice="name fewer of each kind")
    return documents({name: opened(loader).head(MOST_BYTES) for name, loader in files.items()})


def judged(teacher: TeacherEvidence | Missing, subject: str) -> tuple[Finding, ...]:
    """What the rule makes of it."""
    rules = default()
    return pipeline.examine(only("the behaviour", teacher=teacher), subject, select(rules, [RULE]), rules)


def section(teacher: TeacherEvidence | Missing, outcome: Sequence[Finding]) -> dict[str, object]:
    """What is added to the JSON document."""
    told: dict[str, object] = {"unknown": teacher.why} if isinstance(teacher, Missing) else asdict(teacher)
    return {"teacher": told, "findings": json_v1.findings(outcome)}
