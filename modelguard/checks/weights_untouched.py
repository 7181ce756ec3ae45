"""The weights are declared to be fine-tuned, and are the base's own."""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.changes import Declaration
from modelguard.types.findings import Claim, Level, found, not_applicable, ok
from modelguard.types.weights import Comparison, Relation


def check(weights: Comparison, declaration: Declaration) -> Iterator[Claim]:
    """Judges a claimed fine-tune against the bytes."""
    if declaration.relation != "finetune":
        yield not_applicable("the model card does not declare a fine-tune")
    elif weights.relation in (Relation.IDENTICAL, Relation.SAME_WEIGHTS):
        kinds = f" ({', '.join(weights.kinds)})" if weights.kinds else ""
        yield found(
            f"declared a fine-tune, but the weights are those of {weights.right.ref} unchanged{kinds}",
            severity=Level.MEDIUM,
            confidence=Level.HIGH,
            numbers={"relation": weights.relation.value} | ({"parameters": count} if (count := weights.left.parameters) else {}),
            where=weights.left.ref,
            settle="commit the fine-tuned weights, or declare the relation that holds",
        )
    elif weights.difference is None:
        yield not_applicable("the tensors of the declared base are not at hand, so that none could be counted as changed")
    else:
        changed = weights.difference.changed
        yield ok(f"{changed} tensors differ from the declared base", numbers={"changed_tensors": changed}, where=weights.left.ref)
