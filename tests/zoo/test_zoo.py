"""What `compare` says of models that were trained for real: the small part of the zoo. All of it is `python -m benchmarks.zoo`."""

from __future__ import annotations

import os

import pytest

from benchmarks.zoo.outcomes import RELATED, called_rightly
from benchmarks.zoo.pairs import pairs
from benchmarks.zoo.report import Results, page
from benchmarks.zoo.statistics import tails, wilson
from modelguard.types.weights import Relation

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # warnings of torch and transformers are not ours to forbid


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The small part: eight models from scratch and their derivatives, two to three minutes where nothing is kept."""
    pytest.importorskip("torch", reason="the zoo trains its models with torch")
    pytest.importorskip("transformers", reason="the zoo takes its architectures from transformers")
    from benchmarks.zoo.runner import run

    before = dict(os.environ)
    try:
        outcomes, null = run("smoke", tmp_path_factory.mktemp("zoo"))
        results = Results("smoke", tuple(zip(pairs("smoke"), outcomes, strict=True)), null)
        assert page(results).count("\n## ") == 8  # while the models are at hand: it tells of their losses
        return results
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize(
    "truth", ["fine-tuned", "LoRA merged", "cast to bfloat16", "4-bit", "50 % pruned", "layer removed", "merge, 20 % of it"]
)
def test_a_derivative_is_called_what_it_is(results: Results, truth: str) -> None:
    of_truth = [(pair, result) for pair, result in results.judged if pair.truth == truth]
    assert len(of_truth) == 2
    assert [pair.names for pair, result in of_truth if not called_rightly(pair, result)] == []


def test_no_stranger_is_called_related(results: Results) -> None:
    assert len(results.of("unrelated")) >= 25
    assert [pair.names for pair, result in results.of("unrelated") if result.relation in RELATED] == []


def test_one_initialisation_is_not_called_derived(results: Results) -> None:
    assert [pair.names for pair, result in results.of("same initialisation") if result.relation in RELATED] == []


def test_no_derivative_is_denied(results: Results) -> None:
    derived = results.of("plain", "disguised")
    assert [pair.names for pair, result in derived if result.relation is Relation.UNRELATED] == []


def test_fixed_points_of_independent_blocks_keep_their_bound(results: Results) -> None:
    assert results.null.sum() >= 4000
    assert [k for k, hits, _, bound in tails(results.null) if wilson(hits, int(results.null.sum()))[0] > bound] == []
