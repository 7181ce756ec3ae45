"""The weights do not support the declared base.

The checkpoint is held against the base that its card, its adapter configuration or the policy names. A mismatch is found only when
every exact test is silent on at least three blocks *and* the same tests fire on copies of the declared base itself that were rounded
to 4 bits, half pruned, or diluted to 20 %. Short of that the answer is open. Where the weights agree with the base, what training made
of it is looked for, too: a model that shares no more than the base's random start was not made from the base.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.changes import Declaration
from modelguard.types.findings import Claim, Level, Numbers, found, ok, unknown
from modelguard.types.weights import FINGERPRINT_ALONE, Basis, Comparison, LayerResult, Relation

CONFORMAL = "t4-"
PARTIAL_BLOCKS = 3  # as many silent blocks as it takes to deny a whole model
WORDS = {
    Relation.IDENTICAL: "every tensor is byte for byte the declared base's",
    Relation.SAME_WEIGHTS: "the weights are the declared base's in another encoding",
    Relation.DERIVED: "the weights carry the declared base",
}


def check(weights: Comparison, declaration: Declaration) -> Iterator[Claim]:
    """Judges the comparison with the declared base."""
    if weights.relation is Relation.UNRELATED:
        yield _mismatch(weights, declaration)
    elif weights.relation is Relation.SHARED_INITIALISATION:
        yield _same_start(weights, declaration)
    elif weights.relation is Relation.INCONCLUSIVE:
        why = next((item.why for item in weights.unknown if item.what == "relation"), "no test could decide")
        text = f"the weights neither show nor rule out the declared base: {why}{_source(weights)}"
        yield unknown(text, numbers=_numbers(weights), settle=_access(declaration) if _source(weights) else _settle(declaration))
    else:
        rests = f"{_chance(weights)}{_unread(weights)}{_source(weights)}"
        yield ok(f"{WORDS[weights.relation]}, {weights.right.ref}{rests}", numbers=_numbers(weights), where=weights.left.ref)
        yield from _partial(weights)


def _chance(weights: Comparison) -> str:
    """What the answer rests on, in one clause."""
    if weights.basis is Basis.CONFORMAL:
        controls = next((test.n for test in weights.evidence if test.method.startswith(CONFORMAL)), 0)
        return f": its units agree with the base's under a full disguise, beyond {controls} controls"
    return f": under independence this has a chance of at most 10^{weights.log10_p:.0f}" if weights.log10_p < 0 else ""


def _source(weights: Comparison) -> str:
    """Where a fingerprint stood in for the base's weights: why, and what it cannot tell; "" where the weights were read."""
    why = next((item.why for item in weights.unknown if item.what == FINGERPRINT_ALONE), "")
    blind = " (it tells neither permuted units nor training from the same random start apart)" if why else ""
    return f"; {why}{blind}" if why else ""


def _access(declaration: Declaration) -> str:
    """What would let the audit read the base's weights themselves."""
    name = declaration.bases[0].name
    return f"name hf:{name} as the base in the base policy and pass a token that may read it (hf-token)"


def _unread(weights: Comparison) -> str:
    """That an object stands for its content, in one clause."""
    return next((f"; {item.why}" for item in weights.unknown if item.what == "object"), "")


def _same_start(weights: Comparison, declaration: Declaration) -> Claim:
    """An estimate with calibrated thresholds and no exact null: never more than medium confidence."""
    why = next((item.why for item in weights.unknown if item.what == "relation"), "")
    return found(
        f"the weights share the random start of the declared base {weights.right.ref}, but not what training made of it: {why}",
        severity=Level.MEDIUM,
        confidence=Level.MEDIUM,
        numbers=_numbers(weights),
        where=weights.left.ref,
        settle=_settle(declaration),
    )


def _mismatch(weights: Comparison, declaration: Declaration) -> Claim:
    if len(declaration.bases) > 1:
        why = f"{len(declaration.bases)} bases are declared; a share of a merge below 20 % leaves nothing that these tests see"
        return unknown(why, numbers=_numbers(weights), where=weights.left.ref, settle=_settle(declaration))
    pinned = declaration.bases[0].revision is not None
    note = "" if pinned else "; no revision is declared, so main as it stands now was taken"
    return found(
        f"the weights do not support the declared base {weights.right.ref}: every exact test is silent on {len(weights.layers)} blocks, "
        f"and would have spoken on copies of that base rounded to 4 bits, half pruned, or diluted to 20 %{note}",
        severity=Level.HIGH,
        confidence=Level.HIGH if pinned else Level.MEDIUM,
        numbers=_numbers(weights),
        where=weights.left.ref,
        settle=_settle(declaration),
    )


def _partial(weights: Comparison) -> Iterator[Claim]:
    strangers = [layer for layer in weights.layers if layer.relation == Relation.UNRELATED.value]
    if len(strangers) >= PARTIAL_BLOCKS:
        yield found(
            f"{len(strangers)} of {len(weights.layers)} layers show no trace of the declared base: {_named(strangers)}",
            severity=Level.MEDIUM,
            confidence=Level.MEDIUM,
            numbers={"layers_without_trace": len(strangers), "layers": len(weights.layers)},
            where=weights.left.ref,
            settle="say in the model card which layers were newly trained, or where they come from",
        )


def _named(layers: list[LayerResult]) -> str:
    names = [layer.name for layer in layers]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _numbers(weights: Comparison) -> Numbers:
    numbers: dict[str, float | int | str] = {
        "relation": weights.relation.value,
        "log10_p": round(weights.log10_p, 2),
        "blocks": len(weights.layers),
        "score": round(weights.score, 4),
        "share_explained": round(weights.share_explained, 4),
    }
    for method in dict.fromkeys(test.method for test in weights.evidence):
        results = [test for test in weights.evidence if test.method == method]
        if results[0].share:
            numbers[method] = round(max(test.statistic for test in results), 4)
            continue
        numbers[f"{method}: fixed points"] = f"{sum(int(test.statistic) for test in results)} of {sum(test.n for test in results)}"
        numbers[f"{method}: smallest log10 p"] = round(min(test.log10_p_adjusted for test in results), 2)
    return numbers


def _settle(declaration: Declaration) -> str:
    name = declaration.bases[0].text if declaration.bases else "a base"
    return (
        f"name the revision that the training started from, or commit an early checkpoint of it; {name} may be another one than was meant"
    )
