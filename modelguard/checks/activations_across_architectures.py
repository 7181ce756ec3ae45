"""The insides of a model of another architecture than its declared base are as close to it as only kin would be.

Both networks and a number of control models are run on fixed public texts. Their states are compared as a whole, where the tokenizers
agree, after what the strings alone and what all controls do has been taken out. What is told is a rank: whether the model is
closer to the declared base than every control by every measure. A first rank fits the declaration; it shows no descent, because
data that both saw and the controls did not would look the same. Any other rank says nothing: many models that were trained on
another's output have one. So this rule supports and never decides, finds nothing against a model, and blocks nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelguard.types.across import ENOUGH, LIMITS, AcrossComparison
from modelguard.types.findings import Claim, Numbers, ok, unknown

HINT = True  # its answers support others and settle nothing
SETTLE = "the comparison of the weights with a base of the same architecture, or the log of the training that made the model"
MORE = f"{ENOUGH} or more control models of the same kind (controls in the policy): with fewer, chance alone often gives a first rank"


def check(across: AcrossComparison) -> Iterator[Claim]:
    """One claim: closer to the declared base than all controls, or not decided."""
    numbers, closer = _numbers(across), f"closer to the declared base, of another architecture, than its {len(across.controls)} controls"
    told = "; ".join(f"{one.measure} ranks {one.rank} of {len(one.controls) + 1}" for one in across.standings)
    told += "".join(f"; {note}" for note in (*across.notes, *(f"left out: {why}" for why in across.left_out)))
    if not across.enough:
        yield unknown(f"{len(across.controls)} controls are too few for a rank to say anything: {told}", numbers=numbers, settle=MORE)
    elif across.first:
        yield ok(f"by every measure the model is {closer}: {told}; {LIMITS}", numbers=numbers)
    else:
        yield unknown(f"not by every measure is the model {closer}: {told}; {LIMITS}", numbers=numbers, settle=SETTLE)


def _numbers(across: AcrossComparison) -> Numbers:
    numbers: dict[str, float | int | str] = {"controls": len(across.controls), "contrasts": across.contrasts}
    for one in across.standings:
        key = one.measure.lower().replace(" ", "_")
        numbers |= {f"{key}_rank": one.rank, f"{key}_p": round(one.p, 4), key: round(one.value, 4)}
        numbers |= {f"{key}_highest_control": round(max(one.controls), 4)}
    return numbers | {"method": across.method}
