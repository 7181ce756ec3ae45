"""Convolutional networks: exact tests on hidden channels, and the walk through a network whose channels were all put in another order."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from modelguard.correspondence.alignment import align
from modelguard.fingerprint import weight_tests as tests
from modelguard.fingerprint.chains import chain, find_chains, sequences, walk
from modelguard.fingerprint.matching import log10_tail
from tests.fingerprint.zoo import Arrays

Tensors = dict[str, NDArray[np.float32]]
CHANNELS = (16, 32, 32, 64)


def vgg(seed: int) -> Tensors:
    """Convolutions one after the other, as torchvision's VGG names them."""
    rng, made, inputs = np.random.default_rng(seed), {}, 3
    for place, outputs in enumerate(CHANNELS):
        made[f"features.{3 * place}.weight"] = rng.standard_normal((outputs, inputs, 3, 3)).astype(np.float32)
        made[f"features.{3 * place}.bias"] = rng.standard_normal(outputs).astype(np.float32)
        inputs = outputs
    return made | {"classifier.weight": rng.standard_normal((10, inputs)).astype(np.float32)}


def disguised(tensors: Tensors, seed: int = 5) -> Tensors:
    """All channels in another order, layer by layer: the same function."""
    rng, made, order = np.random.default_rng(seed), dict(tensors), np.arange(3)
    for place, outputs in enumerate(CHANNELS):
        turn = rng.permutation(outputs)
        made[f"features.{3 * place}.weight"] = tensors[f"features.{3 * place}.weight"][turn][:, order]
        made[f"features.{3 * place}.bias"] = tensors[f"features.{3 * place}.bias"][turn]
        order = turn
    return made | {"classifier.weight": tensors["classifier.weight"][:, order]}


def noisy(tensors: Tensors, size: float = 0.2) -> Tensors:
    rng = np.random.default_rng(8)
    return {name: (value + size * value.std() * rng.standard_normal(value.shape)).astype(np.float32) for name, value in tensors.items()}


def t1(left: Tensors, right: Tensors) -> list[float]:
    ours, theirs = Arrays(left), Arrays(right)
    blocks = find_chains(ours, theirs, align(ours, theirs, by_content=False))
    return [log10_tail(tests.t1(tests.sample(ours, theirs, block))[0]) for block in blocks]


def shares(left: Tensors, right: Tensors) -> list[float]:
    ours, theirs = Arrays(left), Arrays(right)
    return [step.share for step in walk(ours, theirs, chain(ours, align(ours, theirs, by_content=False)))]


def test_channels_between_convolutions_are_units() -> None:
    checkpoint = Arrays(vgg(0))
    assert sequences(checkpoint) == (("features.0.weight", "features.3.weight", "features.6.weight", "features.9.weight"),)
    blocks = find_chains(checkpoint, checkpoint, align(checkpoint, checkpoint, by_content=False))
    assert [(block.units, block.width, block.kernel) for block in blocks] == [(16, 27, 9), (32, 144, 9), (32, 288, 9)]


def test_a_copy_speaks_on_every_hidden_axis_and_a_stranger_on_none() -> None:
    assert max(t1(noisy(vgg(0)), vgg(0))) < -12
    assert all(value > -4 for seed in range(1, 6) for value in t1(vgg(seed), vgg(0)))


@pytest.mark.parametrize("change", [disguised, lambda base: noisy(disguised(base)), lambda base: disguised(noisy(base, 0.5))])
def test_the_walk_follows_channels_in_another_order(change: object) -> None:
    left = change(vgg(0))  # type: ignore[operator]
    assert min(shares(left, vgg(0))) >= 0.7
    assert max(t1(left, vgg(0))) > -4


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_walk_finds_nothing_between_strangers(seed: int) -> None:
    assert max(shares(vgg(seed), vgg(0))) <= 0.3
    assert max(shares(disguised(vgg(seed)), vgg(0))) <= 0.3


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan"), float("inf")])
def test_channels_without_content_agree_on_nothing(value: float) -> None:
    empty = {name: np.full_like(tensor, value) for name, tensor in vgg(0).items()}
    assert sum(shares(empty, empty)) == sum(shares(empty, vgg(0))) == sum(shares(vgg(0), empty)) == 0
    assert t1(empty, empty) == [0.0, 0.0, 0.0]


def test_layers_of_another_shape_are_passed_over() -> None:
    odd = vgg(0) | {"features.3.weight": np.zeros((0, 16, 3, 3), dtype=np.float32)}
    assert shares(odd, vgg(0)) == shares(vgg(0), odd) == [1.0]
    assert shares({"x": np.zeros((4, 4), dtype=np.float32)}, vgg(0)) == []


@pytest.mark.slow
def test_trained_networks_keep_their_distance() -> None:
    pytest.importorskip("torch", reason="the zoo trains its models with torch")
    from benchmarks.zoo.training import Recipe, trained

    models = [dict(trained(Recipe("resnet (convolutions)", seed))) for seed in range(4)]
    for left in models:
        for right in models:
            if left is right:
                assert min(shares(noisy(left), right)) >= 0.8
                assert max(t1(noisy(left), right)) < -12
            else:
                assert max(shares(left, right)[3:]) <= 0.2
                assert min(t1(left, right)) > -4
