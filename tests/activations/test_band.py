"""Ranks among controls: uniform for a model that is one of them, first for kin, and no standing where there is nothing to measure."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from modelguard.activations.band import directions, standings
from modelguard.types.across import ENOUGH, Standing

Array = NDArray[np.float64]
COUNT = 40


def network(random: np.random.Generator, language: Array, own: Array | None = None, layers: int = 2, width: int = 60) -> Array:
    """Gram matrices (layers, n, n) of features that mix what all networks know, and what this one does alone or shares with kin."""
    made = []
    for _ in range(layers):
        known = language @ random.normal(size=(language.shape[1], width))
        shared = 0 if own is None else own @ random.normal(size=(own.shape[1], width))
        features = known + shared + 2.0 * random.normal(size=(COUNT, width))
        made.append(features @ features.T / width)
    return np.stack(made)


def test_the_rank_of_one_of_the_controls_is_uniform() -> None:
    random = np.random.default_rng(0)
    ranks = []
    for _ in range(240):
        language = random.normal(size=(COUNT, 5))
        left, right, *controls = (network(random, language) for _ in range(5))
        ranks.append([standing.rank for standing in standings(left, right, controls)[0]])
    for column in np.array(ranks).T:
        counts = np.bincount(column, minlength=5)[1:]
        assert counts.sum() == 240
        assert ((counts - 60) ** 2 / 60).sum() < 16.3  # chi squared with 3 degrees of freedom, p = 0.001


def test_kin_rank_first_and_what_all_know_does_not_help() -> None:
    random = np.random.default_rng(1)
    firsts = 0
    for _ in range(20):
        language, own = random.normal(size=(COUNT, 5)), random.normal(size=(COUNT, 4))
        right, left = network(random, language, own), network(random, language, own)
        measured, found = standings(left, right, [network(random, 2 * language) for _ in range(ENOUGH)])
        firsts += all(standing.rank == 1 for standing in measured)
        assert [standing.measure for standing in measured] == ["debiased CKA", "mutual nearest neighbours"]
        assert found.shape == (2, 2)
        assert measured[0].value == pytest.approx(found.max(), abs=1e-8)
    assert firsts == 20


def test_equal_numbers_come_out_of_equal_networks_every_time() -> None:
    def once() -> tuple[Standing, ...]:
        random = np.random.default_rng(3)
        language = random.normal(size=(COUNT, 5))
        return standings(network(random, language), network(random, language), [network(random, language) for _ in range(3)])[0]

    assert once() == once()


def test_a_network_without_variation_has_no_standing() -> None:
    random = np.random.default_rng(2)
    language = random.normal(size=(COUNT, 5))
    good, flat = network(random, language), np.zeros((2, COUNT, COUNT))
    assert standings(flat, good, [good, network(random, language)])[0] == ()
    assert standings(good, good, [flat, network(random, language)])[0] == ()
    half = np.stack([good[0], flat[0]])
    measured, found = standings(half, network(random, language), [good, network(random, language)])
    assert len(measured) == 2
    assert np.isnan(found[1]).all()


def test_what_is_left_over_is_orthonormal_and_without_the_largest() -> None:
    gram = network(np.random.default_rng(4), np.random.default_rng(5).normal(size=(COUNT, 5)))[0]
    basis = directions(gram)
    assert basis.shape == (COUNT, COUNT - COUNT // 4)
    assert basis.T @ basis == pytest.approx(np.eye(basis.shape[1]), abs=1e-9)
    values = np.linalg.eigvalsh(gram)
    assert np.linalg.eigvalsh(basis.T @ gram @ basis).max() == pytest.approx(values[COUNT - COUNT // 4 - 1])


def test_ties_rank_behind_the_control_and_no_number_ranks_first() -> None:
    assert Standing(measure="m", value=0.5, controls=(0.5, 0.4)).rank == 2
    assert Standing(measure="m", value=float("nan"), controls=(0.5, 0.4)).rank == 3
    best = Standing(measure="m", value=0.6, controls=(0.5, 0.4))
    assert (best.rank, best.p) == (1, pytest.approx(1 / 3))
