"""Parents, second parents and siblings of a declared base, from sketches alone."""

from __future__ import annotations

import numpy as np
import pytest

from modelguard.sketches.kinship import kinship
from modelguard.sketches.sketch import fingerprint
from modelguard.types.registry import Entry, Fingerprint, Hit, Kinship
from tests.fingerprint.zoo import Arrays, Tensors, model

BASE, OTHER = model(0), model(1)


def made(tensors: Tensors) -> Fingerprint:
    return fingerprint(Arrays(tensors))


def trained_on(tensors: Tensors, data: int, run: int, size: float = 0.2) -> Tensors:
    """As training moves weights: far in the few directions that the data asks for, and a little everywhere, in every run differently."""
    moved = {}
    for place, (name, value) in enumerate(sorted(tensors.items())):
        wanted, noise = np.random.default_rng((data, place)), np.random.default_rng((run, place))
        delta = noise.standard_normal(value.shape) * 0.4
        if value.ndim == 2:
            delta += wanted.standard_normal((len(value), 4)) @ wanted.standard_normal((4, value.shape[1]))
        moved[name] = (value + size * value.std() * delta / delta.std()).astype(np.float32)
    return moved


PARENT = trained_on(BASE, 1, 1)
SIBLINGS = {f"sibling {run}": trained_on(BASE, data, run) for data, run in ((1, 2), (2, 3), (3, 4), (4, 5))}
KNOWN = [
    Entry(name="base", fingerprint=made(BASE)),
    Entry(name="parent", fingerprint=made(PARENT)),
    Entry(name="other", fingerprint=made(OTHER)),
]
KNOWN += [Entry(name=name, fingerprint=made(tensors)) for name, tensors in SIBLINGS.items()]


def among(
    tensors: Tensors, entries: list[Entry] = KNOWN, bases: dict[str, Tensors] | None = None, previous: Tensors | None = None
) -> Kinship:
    sketched = [(name, made(base)) for name, base in ({"base": BASE} if bases is None else bases).items()]
    before = None if previous is None else made(previous)
    return kinship(made(tensors), sketched, entries, alpha=1e-9, registry="known", known=len(entries), previous=before)


def standings(found: Kinship) -> dict[str, str]:
    return {hit.name: hit.standing for hit in found.search.hits}


def of(found: Kinship, name: str) -> Hit:
    return next(hit for hit in found.search.hits if hit.name == name)


@pytest.mark.parametrize("data", [1, 2, 9])
@pytest.mark.parametrize("size", [0.05, 0.2])
def test_a_child_of_an_undeclared_descendant_is_told_from_its_siblings(data: int, size: float) -> None:
    """Whether or not it goes on with data that siblings saw too."""
    found = among(trained_on(PARENT, data, 20, size))
    assert {name for name, standing in standings(found).items() if standing == "between"} == {"parent"}
    hit = of(found, "parent")
    assert hit.carried is not None
    assert hit.band is not None
    assert hit.carried > 0.9 > 0.3 > hit.band
    assert hit.controls == 4
    assert standings(found)["base"] == "declared"


@pytest.mark.parametrize("data", [1, 2, 9])
def test_a_sibling_is_no_parent_even_where_both_saw_the_same_data(data: int) -> None:
    found = among(trained_on(BASE, data, 21))
    assert set(standings(found).values()) == {"declared", "sibling"}
    if data == 1:
        explained = of(found, "parent").explained
        assert explained is not None
        assert explained > 0.5  # a cosine of task vectors alone would take the sibling for a child


def test_a_parent_is_not_taken_for_its_child() -> None:
    child = Entry(name="child", fingerprint=made(trained_on(PARENT, 9, 30)))
    assert standings(among(PARENT, [item for item in KNOWN if item.name != "parent"] + [child]))["child"] == "sibling"


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_a_second_parent_is_found_with_its_share(share: float) -> None:
    found = among({name: np.float32(1 - share) * value + np.float32(share) * OTHER[name] for name, value in BASE.items()})
    assert standings(found)["other"] == "second"
    measured = of(found, "other").share
    assert measured is not None
    assert abs(measured - share) < 0.02


def test_two_declared_parents_are_no_surprise() -> None:
    mixed = {name: np.float32(0.5) * (value + OTHER[name]) for name, value in BASE.items()}
    found = among(mixed, bases={"base": BASE, "other": OTHER})
    assert (found.carried, set(standings(found).values()) <= {"declared", "sibling"}) == (2, True)


def test_without_the_declared_base_the_closest_is_undeclared() -> None:
    found = among(trained_on(PARENT, 9, 22), bases={"stranger": model(5)})
    assert (found.carried, found.declared) == (0, 1)
    assert standings(found)["parent"] == "undeclared"
    assert set(standings(found).values()) == {"undeclared", "relative"}


def test_its_own_previous_version_is_as_good_as_declared() -> None:
    found = among(trained_on(PARENT, 9, 23), bases={}, previous=PARENT)
    assert standings(found)["parent"] == "declared"
    assert "undeclared" in standings(found).values()


def test_the_same_weights_as_an_undeclared_descendant() -> None:
    assert standings(among(PARENT))["parent"] == "between"


def test_weights_that_are_the_base_or_nearly() -> None:
    rounded = {name: (value.astype(np.float16)).astype(np.float32) for name, value in BASE.items()}
    for tensors in (BASE, rounded):
        assert set(standings(among(tensors)).values()) == {"declared", "sibling"}


def test_hostile_weights_have_no_kin() -> None:
    for value in (np.nan, np.inf, 0.0):
        broken = {name: np.full_like(tensor, value) for name, tensor in BASE.items()}
        assert among(broken).search.hits == ()
        assert among(BASE, [*KNOWN, Entry(name="broken", fingerprint=made(broken))], bases={"broken": broken}).carried == 0
    kept = {name: np.arange(len(tensor)).reshape(-1, *[1] * (tensor.ndim - 1)) % 3 > 0 for name, tensor in PARENT.items()}
    spoilt = {name: np.where(kept[name], tensor, np.float32(np.nan)) for name, tensor in PARENT.items()}
    assert standings(among(spoilt))["base"] == "declared"
