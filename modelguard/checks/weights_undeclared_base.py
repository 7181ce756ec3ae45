"""The weights come from a known model that is not declared.

The checkpoint's fingerprint is looked up in the registry of known models that the policy or the operator names. A known model is an
undeclared base when independence from it is refuted exactly and the declared base is refuted, or none is declared; a second one when it
is related to the checkpoint but not to the declared base (a merge); one in between when the checkpoint carries the detail in which that
model differs from the declared base, beyond what it carries of other descendants. Siblings of the declared base are closest relatives,
never parents. Models of one initialisation look related here too: comparing with the known model's weights tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from modelguard.types.changes import Declaration
from modelguard.types.findings import Claim, Level, Missing, Numbers, found, not_applicable, ok, unknown
from modelguard.types.registry import Candidate, Hit, Kinship
from modelguard.types.weights import Comparison, Relation

RELATED = (Relation.IDENTICAL.value, Relation.SAME_WEIGHTS.value, Relation.DERIVED.value)
CLEARED = (Relation.UNRELATED.value, Relation.SHARED_INITIALISATION.value)
SHARED = 0.5  # correlation of token embeddings' cosines; models of one initialisation were measured at 0.17 and 0.50, fine-tunes above 0.7
MIN_CONTROLS = 3  # other descendants of the declared base without which a model in between is no more than a hint
UNNAMED = "a known model, which the report names,"
SETTLE = "name every model that the weights come from as base_model in the model card, or show how they came to resemble it"


def check(kinship: Kinship, weights: Comparison | Missing, declaration: Declaration | Missing) -> Iterator[Claim]:
    """Judges what the registry knows of the weights. Each claim has a second text, for places where the known model is not to be named."""
    for told, quiet in zip(_judged(kinship, weights, declaration), _judged(_unnamed(kinship), weights, declaration), strict=True):
        yield replace(told, discreet=quiet.text) if quiet.text != told.text else told


def _unnamed(kinship: Kinship) -> Kinship:
    hits = tuple(replace(hit, name=UNNAMED) for hit in kinship.search.hits)
    candidates = tuple(replace(candidate, name=UNNAMED) for candidate in kinship.search.candidates)
    return replace(kinship, search=replace(kinship.search, hits=hits, candidates=candidates))


def _judged(kinship: Kinship, weights: Comparison | Missing, declaration: Declaration | Missing) -> Iterator[Claim]:
    search = kinship.search
    if not search.searched:
        why = f"none of the {search.skipped} models in {search.registry} has a fingerprint of this method and shape"
        yield not_applicable(why if search.skipped else f"{search.registry} holds no models")
        return
    claims = tuple(claim for hit in search.hits if (claim := _claim(hit, kinship, weights, declaration)) is not None)
    yield from claims or (_nothing(kinship),)


def _claim(hit: Hit, kinship: Kinship, weights: Comparison | Missing, declaration: Declaration | Missing) -> Claim | None:
    """What one hit comes to; nothing for the declared base itself and for relatives of a closer hit."""
    if hit.confirmed in CLEARED or hit.standing in ("declared", "relative"):
        return None
    if hit.standing == "second":
        return _second(hit, kinship)
    if hit.standing == "between":
        return _between(hit, kinship)
    if hit.standing == "sibling" or (not isinstance(weights, Missing) and weights.relation.value in RELATED):
        return None
    return _undeclared(hit, kinship, weights, declaration)


def _undeclared(hit: Hit, kinship: Kinship, weights: Comparison | Missing, declaration: Declaration | Missing) -> Claim:
    refuted = not isinstance(weights, Missing) and weights.relation is Relation.UNRELATED
    absent = isinstance(declaration, Declaration) and not declaration.bases
    if not (refuted or absent):
        why = kinship.why or "the weights neither show nor rule out the declared base"
        text = f"the weights are related to {_named(hit)} in the registry, which is not declared; {why}"
        return unknown(f"{text}: whether that is the same origin is open", numbers=_numbers(hit, kinship), settle=SETTLE)
    if hit.confirmed not in RELATED and hit.gram is not None and hit.gram < SHARED:
        why = f"the weights carry {hit.name} or start where it started: units are in place, token embeddings are not (r = {hit.gram:.2f})"
        return unknown(why, numbers=_numbers(hit, kinship), settle="compare with the weights of that model")
    reason = "no base is declared" if absent else "the declared base is ruled out"
    return found(
        f"the weights carry {_named(hit)}, which is not declared ({reason}): {_chance(hit)}",
        severity=Level.HIGH,
        confidence=_confidence(hit),
        numbers=_numbers(hit, kinship),
        settle=SETTLE,
    )


def _second(hit: Hit, kinship: Kinship) -> Claim:
    share = "" if hit.share is None else f", with a share of about {hit.share:.0%} in the layers that were looked at"
    return found(
        f"beside the declared base the weights carry {_named(hit)}, which is not declared and not related to that base{share}: "
        f"{_chance(hit)}",
        severity=Level.MEDIUM,
        confidence=_confidence(hit),
        numbers=_numbers(hit, kinship),
        settle=SETTLE,
    )


def _between(hit: Hit, kinship: Kinship) -> Claim:
    carried = 0.0 if hit.carried is None else hit.carried
    band = f"; of {hit.controls} other descendants of that base they carry at most {hit.band:.0%}" if hit.band is not None else ""
    return found(
        f"the weights come from {_named(hit)}, itself a descendant of the declared base: they carry {carried:.0%} of the detail in which "
        f"that model differs from the base{band}",
        severity=Level.MEDIUM if hit.controls >= MIN_CONTROLS else Level.LOW,
        confidence=Level.MEDIUM,
        numbers=_numbers(hit, kinship),
        settle="name it as base_model in the model card, or say which of the two was made from the other",
    )


def _nothing(kinship: Kinship) -> Claim:
    search = kinship.search
    numbers: Numbers = {"entries": search.searched, "method": search.method}
    siblings = [hit for hit in search.hits if hit.standing == "sibling"]
    cleared = [hit for hit in search.hits if hit.confirmed in CLEARED]
    if siblings:
        text = f"the closest relative in {search.registry} is {siblings[0].name}, a descendant of the declared base like these weights"
        return ok(f"{text}; nothing shows it to be a parent", numbers=_numbers(siblings[0], kinship))
    if search.candidates and not kinship.carried:
        named = search.candidates[0]
        if named.confirmed in RELATED:
            return _disguised(named, numbers)
        why = f"{named.name} may be a parent in disguise: its token embeddings lie to one another as these do (r = {named.gram:.2f})"
        return unknown(f"{why}, which independent models can show too", numbers=numbers, settle="compare with the weights of that model")
    if cleared:
        text = f"{cleared[0].name} resembles these weights in the registry, and its own weights say: {cleared[0].confirmed}"
        return ok(text, numbers=numbers)
    return ok(f"no other known model shows in the weights: {search.searched} fingerprints of this shape were looked at", numbers=numbers)


def _disguised(named: Candidate, numbers: Numbers) -> Claim:
    return found(
        f"the weights carry {named.name}, which is not declared: comparing with its own weights says {named.confirmed}",
        severity=Level.MEDIUM,
        confidence=Level.MEDIUM,
        numbers=numbers,
        settle=SETTLE,
    )


def _confidence(hit: Hit) -> Level:
    """High where the known model's own weights were read and say the same; a sketch does not tell a common initialisation apart."""
    return Level.HIGH if hit.confirmed in RELATED else Level.MEDIUM


def _named(hit: Hit) -> str:
    return f"{hit.name} (its own weights say: {hit.confirmed})" if hit.confirmed in RELATED else hit.name


def _chance(hit: Hit) -> str:
    return f"{hit.fixed} of {hit.rows} units are at their own place, which by chance has a probability of at most 10^{hit.log10_p:.0f}"


def _numbers(hit: Hit, kinship: Kinship) -> Numbers:
    optional = {"explained": hit.explained, "carried": hit.carried, "band": hit.band, "share": hit.share, "gram": hit.gram}
    numbers: dict[str, float | int | str] = {
        "log10_p": round(hit.log10_p, 2),
        "layers": f"{hit.fired} of {hit.blocks}",
        "fixed points": f"{hit.fixed} of {hit.rows}",
        "distance": round(hit.distance, 4),
        "entries": kinship.search.searched,
        "method": kinship.search.method,
    }
    return numbers | {name: round(value, 4) for name, value in optional.items() if value is not None}
