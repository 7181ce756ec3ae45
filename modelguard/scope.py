"""What an operator asks of one run beside the policy: which of the changed models to look at, and which base their cards may claim."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Sequence

import msgspec

from modelguard.errors import BadRequest
from modelguard.policy import ModelEntry, Policy
from modelguard.policy.effective import digest
from modelguard.types.changes import ModelChange

OPERATOR = "base-model, of whoever runs this"
SHOWN = 10


def chosen(models: Sequence[ModelChange], globs: Sequence[str], paths: Collection[str]) -> tuple[tuple[ModelChange, ...], tuple[str, ...]]:
    """(the models that the globs name, what to say of the others). Raises BadRequest where the globs name no file of `paths` at all.

    What is left out is no pass: it is said, and counted.
    """
    if not globs:
        return tuple(models), ()
    if not any(_named(path, globs) for path in paths):
        raise BadRequest(f"models: {', '.join(globs)[:200]!a} names no file of this repository", advice="write globs like models/chat/**")
    kept = tuple(model for model in models if _named(model.entry, globs))
    left = [model.entry for model in models if not _named(model.entry, globs)]
    if not left:
        return kept, ()
    count = f"{len(left)} changed model{' is' if len(left) == 1 else 's are'}"
    more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
    return kept, (f"{count} outside of what `models` names, and not looked at: {', '.join(left[:SHOWN])}{more}",)


def held_to(rules: Policy, base: str | None) -> Policy:
    """The policy with a base for every model that it pins none for: it tightens, and changes no pin."""
    if base is None:
        return rules
    entries = [msgspec.structs.replace(entry, base=entry.base or base) for entry in rules.document.models]
    document = msgspec.structs.replace(rules.document, models=(*entries, ModelEntry(path="*", base=base)))
    before = rules.origins.get("models") or (rules.origin if rules.document.models else "")
    origins = {**rules.origins, "models": f"{before} + {OPERATOR}" if before else OPERATOR}
    return msgspec.structs.replace(rules, document=document, digest=digest(document), origins=origins)


def pin_notes(rules: Policy, base: str | None, models: Sequence[ModelChange]) -> tuple[str, ...]:
    """One line for each model that policy pins another base for than the operator named."""
    return tuple(_pins(rules, base, models))[:SHOWN] if base is not None else ()


def _pins(rules: Policy, base: str, models: Sequence[ModelChange]) -> Iterator[str]:
    for model in models:
        pin = rules.base_of(model.entry)
        if pin is not None and pin.removeprefix("hf:") != base.removeprefix("hf:"):
            yield f"{model.entry}: policy pins {pin}, so that base-model {base} has no say"


def _named(path: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, glob) for glob in globs)
