"""Whose predictions a checkpoint makes: runs it, candidate teachers and control models on held-out text and holds them side by side.

One model is in memory at a time, a layer of it at a time. Each is read with its own tokenizer; one that writes the texts in other tokens
than the controls do is left out, because its predictions are about something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from modelguard.activations.behaviour import SOURCE, behaviour
from modelguard.activations.comparison import installed
from modelguard.activations.extent import WHOLE, Extent
from modelguard.activations.held_out import PROBE_DOCUMENTS, Document, Windows, method, tokenised, windows
from modelguard.activations.model import Model
from modelguard.activations.network_settings import read_settings
from modelguard.activations.networks import Architecture, design
from modelguard.activations.predictions import Advance, Predictions, States, likeliest, predictions, states, together
from modelguard.attempt import attempt
from modelguard.checkpoints.base import nbytes
from modelguard.evals.teacher import CONFOUND, MIN_CONTROLS
from modelguard.types.evals import Likeness, TeacherEvidence
from modelguard.types.findings import Absence, Missing

MOST_MODELS = 8  # candidates, and controls, whose states are kept at once
FEWEST_TOKENS = 256  # of a vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A model that can be run: its network, and the texts in its own tokens (none where it brings no tokenizer)."""

    model: Model
    architecture: Architecture
    rows: tuple[tuple[int, ...], ...] = ()


@dataclass(slots=True, kw_only=True)
class _Session:
    """One comparison: its windows of text, and why models were left out."""

    windows: Windows
    advance: Advance
    left_out: dict[str, str] = field(default_factory=dict)

    def states(self, ready: Sequence[_Ready]) -> dict[str, States]:
        made: dict[str, States] = {}
        for one in ready:
            run = partial(states, one.model.checkpoint, one.architecture, self.windows, self.advance)
            ran = attempt(run, what="running a model")
            if isinstance(ran, Missing):
                self.left_out[one.model.name] = one.model.told(ran.why)
            else:
                made[one.model.name] = ran
        return made


def teaching(
    suspect: Model,
    candidates: Sequence[Model],
    controls: Sequence[Model],
    *,
    texts: Sequence[Document] = PROBE_DOCUMENTS,
    extent: Extent = WHOLE,
) -> TeacherEvidence | Missing:
    """The likeness of what `suspect` predicts to what every candidate does, beside that of the controls.

    A model that cannot be run is left out with the reason; where the suspect is the one, there is no evidence.
    """
    if not candidates:
        return Missing("no candidate teachers are named", kind=Absence.INAPPLICABLE)
    if max(len(candidates), len(controls)) > MOST_MODELS:
        return Missing(f"more than {MOST_MODELS} candidates or controls are named", advice="name the likeliest ones")
    if len(controls) < MIN_CONTROLS:
        return _open(candidates, len(texts), f"{len(controls)} control models are given: {CONFOUND}")
    if not installed():
        return Missing("activations extra not installed", advice="pip install 'modelguard[activations]'")
    ready = {one.name: _ready(one, texts, extent) for one in (suspect, *candidates, *controls)}
    mine = ready[suspect.name]
    if isinstance(mine, Missing):
        return mine
    left_out = {one.name: one.told(why.why) for one in (*candidates, *controls) if isinstance(why := ready[one.name], Missing)}
    usable = [one for one in ready.values() if not isinstance(one, Missing)]
    return _compared(suspect, candidates, controls, _like_written(usable, controls, left_out), texts, extent, left_out)


def _ready(model: Model, texts: Sequence[Document], extent: Extent) -> _Ready | Missing:
    return attempt(lambda: _prepared(model, texts, extent), what=f"preparing {model.name}")


def _prepared(model: Model, texts: Sequence[Document], extent: Extent) -> _Ready | Missing:
    settings = read_settings(model.folder)
    planned = settings if isinstance(settings, Missing) else design(settings, model.folder.ref)
    if isinstance(planned, Missing):
        return planned
    if planned.vocabulary < FEWEST_TOKENS:
        return Missing(f"{model.folder.ref}: a vocabulary of {planned.vocabulary} tokens is too small to be compared by its predictions")
    if extent.depth(planned) < planned.layers:
        return Missing(f"{model.folder.ref}: larger than is run without being asked", advice="`activations: on` runs whole models")
    rows = tokenised(model.folder, texts)
    return _Ready(model=model, architecture=planned, rows=() if isinstance(rows, Missing) else tuple(map(tuple, rows)))


def _like_written(usable: Sequence[_Ready], controls: Sequence[Model], left_out: dict[str, str]) -> list[_Ready]:
    """The models that write the texts as the first control does that has a tokenizer; who brings none is read with that one's."""
    names = {one.name for one in controls}
    rows = next((one.rows for one in usable if one.model.name in names and one.rows), ())
    vocabulary = next((one.architecture.vocabulary for one in usable if one.rows == rows), 0)
    kept = []
    for one in usable:
        if one.rows not in (rows, ()) or one.architecture.vocabulary != vocabulary:
            left_out[one.model.name] = "writes the texts in other tokens than the control models do"
        else:
            kept.append(replace(one, rows=rows))
    return kept


def _compared(
    suspect: Model,
    candidates: Sequence[Model],
    controls: Sequence[Model],
    ready: Sequence[_Ready],
    texts: Sequence[Document],
    extent: Extent,
    left_out: dict[str, str],
) -> TeacherEvidence | Missing:
    if suspect.name in left_out:
        return Missing(f"{suspect.name}: {left_out[suspect.name]}")
    rows = next((one.rows for one in ready), ())
    if not rows:
        return Missing("no control model brings a tokenizer.json that texts can be written with", advice="put it beside its weights")
    positions, widest = (
        min(one.architecture.positions for one in ready),
        max(max(one.architecture.units, one.architecture.width) for one in ready),
    )
    cut = windows(rows, texts, positions=positions, widest=widest)
    if isinstance(cut, Missing):
        return cut
    session = _Session(windows=cut, advance=_counting(ready, extent), left_out=left_out)
    predicted = _predicted(session, ready, {one.name for one in controls})
    if suspect.name not in predicted:
        return Missing(f"{suspect.name}: {left_out.get(suspect.name, 'could not be run')}")
    found = behaviour(
        predicted[suspect.name],
        {one.name: predicted[one.name] for one in candidates if one.name in predicted},
        {one.name: predicted[one.name] for one in controls if one.name in predicted},
        cut.text,
        source=f"{SOURCE} ({method(texts)})",
    )
    missing = [_left_out(one.name, left_out, found) for one in candidates if one.name not in predicted]
    notes = tuple(f"{name} was left out: {why}" for name, why in sorted(left_out.items()))
    return replace(found, likenesses=tuple(sorted((*found.likenesses, *missing), key=lambda one: one.candidate)), notes=notes)


def _predicted(session: _Session, ready: Sequence[_Ready], controls: set[str]) -> dict[str, Predictions]:
    """Predictions by name. The controls come first: their likeliest tokens are those that are kept of everybody."""
    following = session.windows.text.following
    held = session.states([one for one in ready if one.model.name in controls])
    if not held:
        return {}
    wanted = together([likeliest(given) for given in held.values()])
    made = {name: predictions(given, wanted, following) for name, given in held.items()}
    held.clear()
    for one in (one for one in ready if one.model.name not in controls):
        for name, given in session.states([one]).items():
            made[name] = predictions(given, wanted, following)
    return made


def _open(candidates: Sequence[Model], count: int, why: str) -> TeacherEvidence:
    told = tuple(Likeness(candidate=one.name, measures=(), documents=count, open=why) for one in candidates)
    return TeacherEvidence(source=SOURCE, controls=(), likenesses=told)


def _left_out(name: str, left_out: dict[str, str], found: TeacherEvidence) -> Likeness:
    count = max((one.documents for one in found.likenesses), default=0)
    return Likeness(candidate=name, measures=(), documents=count, open=left_out.get(name, "could not be run"))


def _counting(ready: Sequence[_Ready], extent: Extent) -> Advance:
    """Shows how many bytes of the models were read."""
    total, done = sum(nbytes(one.model.checkpoint) for one in ready), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        extent.progress("running models on held-out text", min(done, total), total)

    return advance
