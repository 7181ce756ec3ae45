"""How alike the insides of two networks of different architecture are, told only beside control models."""

from __future__ import annotations

from dataclasses import dataclass

LIMITS = (
    "this can show that two networks are more alike inside than controls are, not that one was made from the other: data that both saw "
    "and the controls did not would look the same, and models that do descend often rank no higher than controls"
)
ENOUGH = 5  # controls from which on a first rank is worth a word: chance alone gives it to one model in six


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One measure of likeness to the same network: the model's own, and every control's in the order of their names."""

    measure: str
    value: float
    controls: tuple[float, ...]

    @property
    def rank(self) -> int:
        """1 where the model is closer than every control; a control that is as close ranks before it."""
        return 1 + sum(not control < self.value for control in self.controls)

    @property
    def p(self) -> float:
        """The chance of such a rank or a better one for a model that is exchangeable with its controls: never below 1 / (controls + 1)."""
        return self.rank / (len(self.controls) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcrossComparison:
    """A model held against one of another architecture or tokenizer on the public probe texts, beside controls.

    `map` has a row for each layer of the model and a column for each of the other: debiased CKA after what tokens and controls
    explain is taken out, None where a layer says nothing. `strings` counts the places in the texts that all tokenizers
    share, `contrasts` the differences between occurrences of one string that the measures rest on.
    """

    method: str
    left: str
    right: str
    controls: tuple[str, ...]
    left_out: tuple[str, ...]  # controls that could not be used, and why
    standings: tuple[Standing, ...]
    map: tuple[tuple[float | None, ...], ...]
    strings: int
    contrasts: int
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> bool:
        """Whether the model is closer than every control by every measure."""
        return bool(self.standings) and all(standing.rank == 1 for standing in self.standings)

    @property
    def enough(self) -> bool:
        """Whether there are so many controls that a rank says something."""
        return len(self.controls) >= ENOUGH
