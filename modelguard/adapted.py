"""`BASE+ADAPTER` among references: where the `+` stands that parts the two, and the folder that stands for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from modelguard.blobs.base import Blob, Folder
from modelguard.checkpoints.applied import applied
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.peft import is_adapter, read_config
from modelguard.errors import BadRequest, CannotFetch, CannotRead

SIGN = "+"
OF_THE_NETWORK = ("config.json", "tokenizer.json")

Sides = tuple[str, str]
Opened = tuple[Folder, Checkpoint]


@dataclass(frozen=True)
class AdapterOnBase:
    """The folder of an adapter that is applied: its own files, and from its base what describes the network, where it has none itself.

    A card or a log of the base is not among them: it tells of another training.
    """

    own: Folder
    base: Folder
    sizes: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        lent = {name: self.base.sizes[name] for name in OF_THE_NETWORK if name in self.base.sizes}
        object.__setattr__(self, "sizes", lent | dict(self.own.sizes))

    @property
    def ref(self) -> str:
        return f"{self.base.ref}{SIGN}{self.own.ref}"

    def open(self, name: str) -> Blob:
        return (self.own if name in self.own.sizes or name not in self.sizes else self.base).open(name)


def parted(text: str, there: Callable[[str], bool]) -> Sides:
    """The base and the adapter in a text that names no one checkpoint: at the one `+` with something on both of its sides.

    Raises BadRequest where there are several such, and CannotFetch, naming what is missing, where there is none.
    """
    ways = [(text[:at], text[at + 1 :]) for at, sign in enumerate(text) if sign == SIGN]
    sound = [way for way in ways if all(map(there, way))]
    if len(sound) > 1:
        advice = "rename one of them, or name it by another path"
        raise BadRequest(f"{text[:200]!a}: can be read as BASE+ADAPTER in {len(sound)} ways", advice=advice)
    if sound:
        return sound[0]
    missing = next(side for way in reversed(ways) for side in way if not there(side))
    advice = "check the path; models of the hub begin with hf: on either side"
    raise CannotFetch(f"{text[:200]!a}: is not there, and read as BASE+ADAPTER, {missing[:200]!a} is not", advice=advice)


def on_base(base: Opened, adapter: Opened) -> Opened:
    """An opened adapter applied to an opened base. Raises CannotRead where it is no adapter, or not one that is applied."""
    (papers, below), (own, factors) = base, adapter
    if not is_adapter(factors):
        raise CannotRead(f"{factors.ref}: holds no low-rank factors, so it is no adapter", advice="write BASE+ADAPTER in this order")
    return AdapterOnBase(own, papers), applied(factors, below, read_config(own))
