"""The network does not behave like one that was made from the declared base.

Both networks are run on fixed public texts. Three tests with exact nulls ask whether the axes of their hidden states, their attention
heads, and the units of their MLPs are paired: networks that were trained from independent initialisations are not. A pairing shows
common origin of at least a part (a shared initialisation or copied embeddings suffice for the hidden states); it does not show that
nothing was mixed in. No pairing counts against the declaration only when the tests do fire on a coarsely rounded base, and when no
attention head behaves like any head of the base, which permuting, rotating or rescaling the weights would leave as it was. Retraining
beyond recognition remains possible, so the finding is of medium weight and blocks nothing by default.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from modelguard.policy import Policy
from modelguard.types.findings import Claim, Level, Numbers, found, ok, unknown
from modelguard.types.weights import ActivationComparison

NULL_LOG10_P = -3.0  # above it a test saw nothing
LOW_HEAD_MATCH = 0.4  # measured: networks trained apart 0.13 to 0.28; fine-tuned 0.86, in 4 bits 0.81, trained on at full rate 0.50
SETTLE = "the exact comparison of the weights, or the name of the base that the checkpoint was trained from"

PAIRED = (
    "on the same texts the network behaves, axis by axis, head by head or unit by unit, as one of common origin with the declared base does"
)
HINT = "activations hint at the declared base, but not with the certainty that policy asks for"
POWERLESS = "the network's activations cannot tell it from another: the tests miss even a rounded copy of the declared base"
DISGUISED = "nothing is paired, but attention patterns resemble those of the declared base, as permuted or rotated weights of it would"
UNPAIRED = (
    "the activations do not support the declared base: neither axes of hidden states nor attention heads nor units are paired with it"
)


def check(activations: ActivationComparison, policy: Policy) -> Iterator[Claim]:
    """One claim: paired with the declared base, not paired, or not decided."""
    numbers, alpha = _numbers(activations), math.log10(policy.alpha)
    smallest = min(activations.log10_p_hidden, activations.log10_p_heads, activations.log10_p_units)
    control = max(activations.control_log10_p_hidden, activations.control_log10_p_heads)
    if smallest + math.log10(3) <= alpha:  # three tests, each of which suffices
        yield ok(PAIRED, numbers=numbers)
    elif smallest <= NULL_LOG10_P:
        yield unknown(HINT, numbers=numbers, settle=SETTLE)
    elif not (activations.control_fires and control <= alpha):
        yield unknown(POWERLESS, numbers=numbers, settle=SETTLE)
    elif not activations.best_head_match < LOW_HEAD_MATCH:
        yield unknown(DISGUISED, numbers=numbers, settle=SETTLE)
    else:
        yield found(UNPAIRED, severity=Level.MEDIUM, confidence=Level.MEDIUM, numbers=numbers, settle=SETTLE)


def _numbers(activations: ActivationComparison) -> Numbers:
    return {
        "log10_p_hidden": round(activations.log10_p_hidden, 1),
        "log10_p_heads": round(activations.log10_p_heads, 1),
        "log10_p_units": round(activations.log10_p_units, 1),
        "control_log10_p_hidden": round(activations.control_log10_p_hidden, 1),
        "control_log10_p_heads": round(activations.control_log10_p_heads, 1),
        "control_log10_p_units": round(activations.control_log10_p_units, 1),
        "best_head_match": round(activations.best_head_match, 3),
        "layers": len(activations.layers),
        "tokens": activations.tokens,
        "method": activations.method,
    }
