"""What `compare` says of models that were trained for real. The full table is `python -m benchmarks.error_rates`; this is a part of it."""

from __future__ import annotations

import math

import pytest

from modelguard.fingerprint.matching import log10_tail
from modelguard.types.weights import Relation
from tests.zoo import pairs
from tests.zoo.pairs import Outcome
from tests.zoo.training import Recipe

pytest.importorskip("torch", reason="the zoo trains its models with torch")
pytest.importorskip("transformers", reason="the zoo takes its architectures from transformers")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # warnings of torch and transformers are not ours to forbid

MODELS = (*pairs.LLAMAS[:2], pairs.LLAMAS[4], *(Recipe("gpt2", seed) for seed in range(2)), *(Recipe("bert", seed) for seed in range(2)))
DENIABLE = (Relation.UNRELATED, Relation.INCONCLUSIVE)
LOSSLESS = ("cast to bfloat16", "renamed", "units permuted")
HIDDEN = ("both", "both, then fine-tuned", "both, then 4-bit", "both, gains uneven, fine-tuned", "both, vocabulary extended")


@pytest.fixture(scope="module")
def strangers() -> list[Outcome]:
    return [*pairs.independents(MODELS), *pairs.maltreated(MODELS)]


def test_no_independent_pair_is_called_related(strangers: list[Outcome]) -> None:
    assert len(strangers) == 6 + 2 + 2 + 3 * len(MODELS)
    assert [item.names for item in strangers if item.result.relation not in DENIABLE] == []


def test_some_independent_pairs_are_told_apart(strangers: list[Outcome]) -> None:
    llamas = [item for item in strangers if item.family == "llama"]
    assert sum(item.result.relation is Relation.UNRELATED for item in llamas) >= len(llamas) // 2


def test_fixed_points_of_independent_blocks_keep_their_bound(strangers: list[Outcome]) -> None:
    for method, counts in pairs.statistics(strangers).items():
        slack = 4 / math.sqrt(len(counts))
        assert counts.mean() <= 1 + slack, method
        assert log10_tail(int(counts.max())) > -math.log10(len(counts)) - 3, method
        for k in (2, 3, 4):
            bound = 10 ** log10_tail(k)
            assert (counts >= k).mean() <= bound + 4 * math.sqrt(bound / len(counts)), (method, k)


@pytest.mark.parametrize("model", [MODELS[0], MODELS[3], MODELS[5]], ids=lambda recipe: recipe.family)
def test_every_derivative_is_found_or_left_open(model: Recipe) -> None:
    for outcome in pairs.derivatives((model,)):
        if outcome.kind in LOSSLESS:
            expected = Relation.SAME_WEIGHTS
        else:
            expected = Relation.INCONCLUSIVE if outcome.kind in HIDDEN else Relation.DERIVED
        assert outcome.result.relation is expected, outcome.names


def test_a_full_disguise_of_fused_matrices_is_not_denied() -> None:
    outcomes = [item for item in pairs.derivatives((Recipe("phi3 (fused gate and up)", 0),)) if item.kind.startswith("both")]
    assert [item.result.relation for item in outcomes] == [Relation.INCONCLUSIVE] * 3


def test_models_of_one_initialisation_are_not_told_from_derivatives() -> None:
    assert {item.result.relation for item in pairs.siblings()} == {Relation.DERIVED}


def test_what_does_not_pair_up_is_left_open() -> None:
    convolutions = [*pairs.independents(tuple(Recipe("resnet (convolutions)", seed) for seed in range(2)))]
    assert {item.result.relation for item in (*convolutions, *pairs.wider())} == {Relation.INCONCLUSIVE}
