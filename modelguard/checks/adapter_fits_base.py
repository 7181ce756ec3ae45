"""The adapter's shapes do not fit its declared base.

Shapes are all that an adapter alone can show: one that fits may still have been trained on another model of the same shapes.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.findings import Claim, Level, found, ok, unknown
from modelguard.types.weights import AdapterFit


def check(adapter: AdapterFit) -> Iterator[Claim]:
    """Judges the factors' shapes."""
    numbers = {"modules": adapter.modules, "fitting": adapter.fitting, "rank": adapter.rank}
    if not adapter.modules:
        yield unknown("the adapter has no low-rank factors that are known here", numbers=numbers)
    elif adapter.misfits:
        yield found(
            f"{len(adapter.misfits)} of {adapter.modules} modules do not fit {adapter.base}: {', '.join(adapter.misfits[:3])}",
            severity=Level.HIGH,
            confidence=Level.HIGH,
            numbers=numbers,
            settle="name the base that the adapter was trained on",
        )
    else:
        yield ok(
            f"all {adapter.modules} modules fit {adapter.base} in shape; an adapter alone cannot confirm its base beyond that",
            numbers=numbers,
        )
