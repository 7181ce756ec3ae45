"""Two networks of different architecture or tokenizer, run on the same public texts and held against each other beside controls.

No exact test is possible here: nothing says which axis of one belongs to which of the other. Likeness of their states as a whole
(`cka`, `neighbours`) is large for any two networks that know language: independent ones with one tokenizer reach 0.87. So no number
is told but the rank among control models, which were trained apart from the other network, and nothing follows from it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from modelguard.activations.band import standings
from modelguard.activations.cka import Grams
from modelguard.activations.comparison import installed
from modelguard.activations.extent import WHOLE, Extent
from modelguard.activations.model import Model
from modelguard.activations.network_settings import read_settings
from modelguard.activations.networks import Architecture, design
from modelguard.activations.pooled import Encoded, contrasts, encode, grams, places
from modelguard.activations.probes import NAME, PROBES, Tokens, checked_tokenizer, written
from modelguard.activations.streaming import run
from modelguard.attempt import attempt
from modelguard.blobs.base import Folder
from modelguard.errors import CannotRead
from modelguard.types.across import AcrossComparison
from modelguard.types.findings import Absence, Missing

T = TypeVar("T")
MIN_CONTROLS = 2
MIN_CONTRASTS = 40
METHOD = f"across-1:{NAME}"
NO_CONTROLS = (
    "networks of language are alike whoever made them, so without at least two control models that are known to be independent a "
    "likeness across architectures or tokenizers says nothing"
)
ADVICE = "name five models of the same kind that are known to be independent: --control, or controls in the policy"
ALIKE = "one architecture and one tokenizer: the exact tests of activations speak"
FOREIGN = "no control has the model's own architecture: they may be less like the other network for that reason alone"


Controls = Callable[[], Sequence[Model]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """A model whose network can be built, with the texts in its own tokens."""

    member: Model
    architecture: Architecture
    encoded: Encoded


def compare_across(
    left: Model, right: Model, controls: Controls, extent: Extent = WHOLE, *, texts: Sequence[str] = PROBES
) -> AcrossComparison | Missing:
    """Where `left`, the model in question, stands among the controls in its likeness to `right`; or why that cannot be said.

    Controls are opened only where they are needed.
    """
    if not installed():
        return Missing("activations extra not installed", advice="pip install 'modelguard[activations]'")
    made = attempt(lambda: _compared(left, right, controls, extent, texts), what="comparing across architectures")
    # networks that cannot be run say nothing against the weights, which were read: not run is not broken
    return Missing(made.why, advice=made.advice) if isinstance(made, Missing) and made.kind is Absence.BROKEN else made


def _compared(left: Model, right: Model, controls: Controls, extent: Extent, texts: Sequence[str]) -> AcrossComparison | Missing:
    if _alike(left.folder, right.folder):
        return Missing(ALIKE, kind=Absence.INAPPLICABLE)
    named = {control.name: partial(_planned, control, texts) for control in controls() if control.name not in (left.name, right.name)}
    if len(named) < MIN_CONTROLS:
        return Missing(f"{len(named)} control models are named: {NO_CONTROLS}", advice=ADVICE)
    ours, theirs = _planned(left, texts), _planned(right, texts)
    plans, unplanned = _usable(named)
    shared = places([plan.encoded for plan in (ours, theirs, *plans.values())], texts)
    rows = contrasts(shared.strings)
    if len(rows) < MIN_CONTRASTS:
        raise CannotRead(f"the tokenizers share {len(rows)} repeated strings of the texts, and {MIN_CONTRASTS} are needed")
    first, second = (_grams(plan, tokens, rows, extent) for plan, tokens in zip((ours, theirs), shared.tokens[:2], strict=True))
    pairs = zip(plans.items(), shared.tokens[2:], strict=True)
    beside, unrun = _usable({name: partial(_grams, plan, tokens, rows, extent) for (name, plan), tokens in pairs})
    if len(beside) < MIN_CONTROLS:
        raise CannotRead(f"{len(beside)} of {len(named)} control models could be run: {NO_CONTROLS}", advice=ADVICE)
    measured, found = standings(first, second, list(beside.values()))
    if not measured:
        raise CannotRead("the states of a network do not differ between places with the same string")
    own = ours.architecture.family
    shortened = tuple(f"{right.name}: {note}" for note in extent.notes(theirs.architecture))
    foreign = () if any(plans[name].architecture.family == own for name in beside) else (FOREIGN,)
    return AcrossComparison(
        method=f"{METHOD}:{len(shared.strings)}:{len(rows)}",
        left=left.name,
        right=right.name,
        controls=tuple(beside),
        left_out=(*unplanned, *unrun),
        standings=measured,
        map=tuple(tuple(round(value, 6) if value == value else None for value in row) for row in found.tolist()),
        strings=len(shared.strings),
        contrasts=len(rows),
        notes=(*ours.architecture.notes, *theirs.architecture.notes, *extent.notes(ours.architecture), *shortened, *foreign),
    )


def _alike(left: Folder, right: Folder) -> bool:
    """Whether exact tests of two networks' activations can be made: one architecture, and one tokenizer. Raises CannotRead."""
    first, second = (_had(design(_had(read_settings(folder)), folder.ref)) for folder in (left, right))
    return first.text == second.text and checked_tokenizer(left) == checked_tokenizer(right)


def _planned(member: Model, texts: Sequence[str]) -> _Planned:
    architecture = _had(design(_had(read_settings(member.folder)), member.folder.ref))
    if not architecture.vocabulary:
        raise CannotRead(f"{member.name}: reads no text; networks for images are not compared across architectures")
    encoded = _had(encode(member.folder, architecture.vocabulary, architecture.positions, texts))
    return _Planned(member=member, architecture=architecture, encoded=encoded)


def _grams(plan: _Planned, tokens: NDArray[np.int64], rows: Grams, extent: Extent) -> Grams:
    architecture, checkpoint = plan.architecture, plan.member.checkpoint
    depth = extent.depth(architecture)
    advance = extent.counting([(architecture, checkpoint)], depth)
    trace = _had(run(checkpoint, architecture, written(Tokens(ids=plan.encoded.ids, method=METHOD)), depth=depth, advance=advance))
    return grams(trace.states, tokens, rows)


def _usable(wanted: Mapping[str, Callable[[], T]]) -> tuple[dict[str, T], tuple[str, ...]]:
    """What came out, by name, and a line on each that came to nothing."""
    made = {name: attempt(action, what="running it") for name, action in wanted.items()}
    kept = {name: one for name, one in made.items() if not isinstance(one, Missing)}
    return kept, tuple(f"{name}: {one.why}" for name, one in made.items() if isinstance(one, Missing))


def _had(value: T | Missing) -> T:
    if isinstance(value, Missing):
        raise CannotRead(value.why, advice=value.advice)
    return value
