"""The rule accuses only when everything that could excuse the checkpoint has been ruled out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.checks.activations_base_mismatch import LOW_HEAD_MATCH, NULL_LOG10_P, check
from modelguard.checks.base import all_checks
from modelguard.policy import Policy, default, parse
from modelguard.types.findings import Claim, Finding, Level, Status
from modelguard.types.weights import ActivationComparison, ActivationLayer
from modelguard.verdict import blocks

LAYER = ActivationLayer(
    name="layer 0", hidden_cosine=0.0, attention_cosine=0.0, hidden_fixed=1, hidden_n=384, heads_fixed=1, heads_n=12, log10_p=0.0
)
INDEPENDENT = ActivationComparison(
    method="activations-1:probes-v1-257bb4ea:tokenizer:64",
    layers=(LAYER,) * 6,
    log10_p_hidden=0.0,
    log10_p_heads=0.0,
    control="the declared base, rounded",
    control_fires=True,
    control_log10_p_hidden=-827.3,
    control_log10_p_heads=-47.8,
    best_head_match=0.03,
    tokens=768,
)
log10_p = st.floats(-900, 0)
finite = st.floats(0, 1)


def claim(activations: ActivationComparison, policy: Policy | None = None) -> Claim:
    (only,) = check(activations, policy or default())
    return only


def test_unpaired_without_excuse_is_found_but_blocks_nothing_by_default() -> None:
    result = claim(INDEPENDENT)
    assert (result.status, result.severity, result.confidence) == (Status.FOUND, Level.MEDIUM, Level.MEDIUM)
    assert result.numbers["log10_p_hidden"] == result.numbers["log10_p_heads"] == 0.0
    assert (result.numbers["layers"], result.numbers["tokens"]) == (6, 768)
    assert result.settle
    assert not blocks(Finding(rule="activations-base-mismatch", subject="m", claim=result), default())


@pytest.mark.parametrize("test", ["log10_p_hidden", "log10_p_heads"])
def test_either_test_suffices_for_ok(test: str) -> None:
    result = claim(replace(INDEPENDENT, **{test: -40.0}))
    assert result.status is Status.OK
    assert result.numbers[test] == -40.0


def test_ok_follows_the_alpha_of_policy_corrected_for_three_tests() -> None:
    strict = parse(b"version: 1\nalpha: 1.0e-30\n", "policy")
    at = replace(INDEPENDENT, log10_p_hidden=-9.1)
    assert [claim(at).status, claim(replace(at, log10_p_hidden=-9.5)).status] == [Status.UNKNOWN, Status.OK]
    assert claim(replace(at, log10_p_hidden=-20.0), strict).status is Status.UNKNOWN


@pytest.mark.parametrize(
    "excuse",
    [
        {"log10_p_heads": -3.5},
        {"log10_p_hidden": -8.0},
        {"control_fires": False},
        {"control_log10_p_heads": -2.0},
        {"control_log10_p_hidden": 0.0},
        {"best_head_match": 0.99},
        {"best_head_match": LOW_HEAD_MATCH},
        {"best_head_match": math.nan},
    ],
)
def test_every_excuse_makes_it_unknown(excuse: dict[str, float]) -> None:
    result = claim(replace(INDEPENDENT, **excuse))
    assert result.status is Status.UNKNOWN
    assert result.why == result.text != ""
    assert result.settle


@given(log10_p, log10_p, log10_p, log10_p, finite, st.booleans())
def test_found_implies_that_no_excuse_is_left(hidden: float, heads: float, first: float, second: float, match: float, fires: bool) -> None:
    activations = replace(
        INDEPENDENT,
        log10_p_hidden=hidden,
        log10_p_heads=heads,
        control_log10_p_hidden=first,
        control_log10_p_heads=second,
        best_head_match=match,
        control_fires=fires,
    )
    if claim(activations).status is Status.FOUND:
        assert min(hidden, heads) > NULL_LOG10_P
        assert fires
        assert max(first, second) <= -9
        assert match < LOW_HEAD_MATCH


def test_the_rule_is_discovered_under_its_name() -> None:
    (rule,) = [rule for rule in all_checks() if rule.rule == "activations-base-mismatch"]
    assert rule.wants == ("activations",)
    assert not rule.tolerates
