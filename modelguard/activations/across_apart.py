"""Networks of different architecture run in a process of its own, which holds no token. Controls are opened when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from modelguard.activations.across import compare_across
from modelguard.activations.extent import WHOLE, Extent
from modelguard.activations.model import Model, offered, received
from modelguard.confinement.apart import run_apart
from modelguard.confinement.broker import Broker
from modelguard.confinement.data import decode, encode
from modelguard.confinement.inside import Desk
from modelguard.confinement.limits import Limits
from modelguard.types.across import AcrossComparison
from modelguard.types.findings import Missing

WHAT = "comparing across architectures"
TASK = f"{__name__}:confined"


def compare_across_apart(
    left: Model, right: Model, controls: Callable[[], Sequence[Model]], extent: Extent = WHOLE, limits: Limits | None = None
) -> AcrossComparison | Missing:
    """What `compare_across` gives, from a confined process. Raises CannotRead where that ends without an answer."""
    within = limits or Limits()
    broker = Broker(within)

    broker.answers("controls", lambda _given: [offered(one, broker) for one in controls()])
    given = {"sides": [offered(left, broker), offered(right, broker)], "extent": [extent.layers, extent.budget]}
    answer = run_apart(TASK, given, broker, within, what=WHAT, progress=extent.progress)
    made: AcrossComparison | Missing = decode(AcrossComparison | Missing, answer)
    return made


def confined(given: Any, desk: Desk) -> Any:
    """What the child does."""
    left, right = (received(told, desk) for told in given["sides"])
    layers, budget = given["extent"]
    extent = Extent(layers=layers, budget=budget, progress=desk.progress)
    return encode(compare_across(left, right, lambda: [received(told, desk) for told in desk.ask("controls", None)], extent))
