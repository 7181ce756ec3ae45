"""A model and its controls beside one other network: every one of them is measured as the model is, so that ranks are fair.

Networks that learned to predict text are alike, whoever made them. What all controls do is therefore taken out first: the directions,
over examples, in which they vary most. For each member of the group (the model, or a control) these directions are those of all the
others, the model included: members that are exchangeable then have exchangeable values, and the rank of the model is
uniform. Largest values are taken over all pairs of layers, for every member alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelguard.activations.cka import Grams, cka_map
from modelguard.activations.neighbours import neighbour_map
from modelguard.types.across import Standing

SHARE = 4  # one in so many directions is taken out
MEASURES = ("debiased CKA", "mutual nearest neighbours")


def standings(left: Grams, right: Grams, controls: Sequence[Grams]) -> tuple[tuple[Standing, ...], Grams]:
    """Every measure of the model's likeness to `right` beside that of the controls, and the model's map of CKA (layers, layers).

    All are Gram matrices (layers, n, n) over the same examples. No standing where a member has no layer that varies.
    """
    members = (left, *controls)
    shared = [member.mean(axis=0) for member in members]
    maps = [_maps(member, right, sum(one for two, one in enumerate(shared) if two != place)) for place, member in enumerate(members)]
    made = []
    for number, name in enumerate(MEASURES):
        values = [_largest(both[number]) for both in maps]
        if np.isfinite(values).all():
            made.append(Standing(measure=name, value=values[0], controls=tuple(values[1:])))
    return tuple(made), maps[0][0]


def directions(gram: Grams) -> Grams:
    """An orthonormal basis (n, n - n // SHARE) of what the directions in which `gram` (n, n) is largest leave over."""
    return np.asarray(np.linalg.eigh(gram)[1][:, : len(gram) - len(gram) // SHARE])


def _maps(member: Grams, right: Grams, others: Grams) -> tuple[Grams, Grams]:
    """CKA in the remaining directions; neighbours among the examples themselves, of which those directions are taken."""
    basis = directions(others)
    ours, theirs = (basis.T @ side @ basis for side in (member, right))
    return cka_map(ours, theirs), neighbour_map(basis @ ours @ basis.T, basis @ theirs @ basis.T)


def _largest(values: Grams) -> float:
    finite = values[np.isfinite(values)]
    return round(float(finite.max()), 9) if finite.size else float("nan")
