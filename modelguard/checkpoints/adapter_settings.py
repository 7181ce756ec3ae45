"""What adapter_config.json says of a LoRA adapter's scale and layout, read strictly: it decides what the factors are multiplied by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from modelguard.errors import CannotRead, Malformed

HUGE = 1e9
MAX_PATTERNS = 10_000
LITERAL = re.compile(r"\^?[\w.-]{1,400}")
PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")  # ways to initialise the factors that leave the base as it is
UNAPPLIED = (
    "use_qalora",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "megatron_config",
    "alora_invocation_tokens",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings:
    """Rank and alpha, for all modules and for those that patterns name; `turned` where the base stores matrices inputs first."""

    rank: int
    alpha: float
    ranks: Mapping[str, float]
    alphas: Mapping[str, float]
    root: bool  # rsLoRA: alpha over the root of the rank
    turned: bool

    @classmethod
    def read(cls, config: Mapping[str, Any], ref: str) -> AdapterSettings:
        """The settings in a configuration. Raises CannotRead for adapters of another kind, Malformed for numbers that make no sense."""
        kind = str(config.get("peft_type", "LORA"))
        if kind != "LORA":
            raise CannotRead(f"{ref}: adapters of the kind {kind[:40]!a} are not applied", advice="merge it with PEFT")
        if (start := config.get("init_lora_weights", True)) not in PLAIN_STARTS:
            what = f"its initialisation ({str(start)[:40]!a}) changed the base as well"
            raise CannotRead(f"{ref}: {what}", advice="convert it to a plain adapter, or merge it with PEFT")
        if used := [key for key in UNAPPLIED if config.get(key)]:
            raise CannotRead(f"{ref}: uses {used[0]}, which is not applied", advice="merge it with PEFT")
        return cls(
            rank=int(_number(config, "r", ref)),
            alpha=_number(config, "lora_alpha", ref),
            ranks=_pattern(config, "rank_pattern", ref),
            alphas=_pattern(config, "alpha_pattern", ref),
            root=config.get("use_rslora") is True,
            turned=config.get("fan_in_fan_out") is True,
        )

    def scale(self, module: str, rank: int, where: str) -> float:
        """What B A of a module is multiplied by. Its factors have the rank `rank`, and the configuration must agree."""
        told = self.ranks.get(_key(self.ranks, module), self.rank)
        if told != rank:
            raise Malformed(f"{where}: its factors have rank {rank}, the configuration says {told:g}", advice="save the adapter again")
        alpha = self.alphas.get(_key(self.alphas, module), self.alpha)
        return alpha / sqrt(rank) if self.root else alpha / rank


def _key(pattern: Mapping[str, float], module: str) -> str:
    """The first key of a pattern that names a module: its full name, or the end of it at a dot. A leading ^ wants the full name."""
    for key in pattern:
        if module == key.removeprefix("^") or (not key.startswith("^") and module.endswith(f".{key}")):
            return key
    return ""


def _pattern(config: Mapping[str, Any], key: str, ref: str) -> Mapping[str, float]:
    """A map of module names to numbers. PEFT takes regular expressions; a stranger's are not run."""
    found = config.get(key) or {}
    if not isinstance(found, dict) or len(found) > MAX_PATTERNS:
        raise Malformed(f"{ref}: {key} is not a map of module names", advice="save the adapter again")
    for name in found:
        if not LITERAL.fullmatch(name):
            raise CannotRead(f"{ref}: {key} uses the regular expression {name[:60]!a}, which is not run", advice="write out the names")
    return {name: _number(found, name, ref) for name in found}


def _number(values: Mapping[str, Any], key: str, ref: str) -> float:
    value = values.get(key)
    if type(value) not in (int, float) or value is None or not 0 < value < HUGE:
        raise Malformed(f"{ref}: {key[:80]} is no positive number in its configuration", advice="save the adapter again")
    return float(value)
