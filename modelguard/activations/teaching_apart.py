"""Suspect, candidate teachers and controls run on held-out text in a process of its own, which holds no token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelguard.activations.extent import WHOLE, Extent
from modelguard.activations.held_out import PROBE_DOCUMENTS, Document
from modelguard.activations.model import Model, offered, received
from modelguard.activations.teaching import teaching
from modelguard.confinement.apart import run_apart
from modelguard.confinement.broker import Broker
from modelguard.confinement.data import decode, encode
from modelguard.confinement.inside import Desk
from modelguard.confinement.limits import Limits
from modelguard.types.evals import TeacherEvidence
from modelguard.types.findings import Missing

WHAT = "running models on held-out text"
TASK = f"{__name__}:confined"


def teaching_apart(
    suspect: Model,
    candidates: Sequence[Model],
    controls: Sequence[Model],
    *,
    texts: Sequence[Document] = PROBE_DOCUMENTS,
    extent: Extent = WHOLE,
) -> TeacherEvidence | Missing:
    """What `teaching` gives, from a confined process. Raises CannotRead where that ends without an answer."""
    within = Limits()
    broker = Broker(within)
    given = {
        "models": [[offered(one, broker) for one in several] for several in ((suspect,), candidates, controls)],
        "texts": [[one.kind, one.content] for one in texts],
        "extent": [extent.layers, extent.budget],
    }
    answer = run_apart(TASK, given, broker, within, what=WHAT, progress=extent.progress)
    found: TeacherEvidence | Missing = decode(TeacherEvidence | Missing, answer)
    return found


def confined(given: Any, desk: Desk) -> Any:
    """What the child does."""
    (suspect,), candidates, controls = (tuple(received(told, desk) for told in several) for several in given["models"])
    layers, budget = given["extent"]
    extent = Extent(layers=layers, budget=budget, progress=desk.progress)
    texts = tuple(Document(kind=kind, content=content) for kind, content in given["texts"])
    return encode(teaching(suspect, candidates, controls, texts=texts, extent=extent))
