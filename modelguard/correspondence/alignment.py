"""Which tensor of one checkpoint stands for which of another. Names are hints; shapes must agree."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from modelguard.checkpoints.base import Checkpoint
from modelguard.correspondence.tiles import TILE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Pairs (left name, right name) of tensors with equal shapes, in name order, and the tensors that found no partner."""

    pairs: tuple[tuple[str, str], ...]
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]

    @property
    def renamed(self) -> bool:
        return any(left != right for left, right in self.pairs)


def align(left: Checkpoint, right: Checkpoint, *, by_content: bool) -> Alignment:
    """Pairs tensors by equal names, else by names that differ in a prefix (`bert.`, `model.`), else, where asked, by equal bytes."""
    pairs = _best_prefix(left, right)
    pairs |= _by_content(left, right, pairs) if by_content else {}
    taken = set(pairs.values())
    only_left = tuple(sorted(name for name in left.tensors if name not in pairs))
    only_right = tuple(sorted(name for name in right.tensors if name not in taken))
    return Alignment(pairs=tuple(sorted(pairs.items())), only_left=only_left, only_right=only_right)


def _best_prefix(left: Checkpoint, right: Checkpoint) -> dict[str, str]:
    """The pairing under the exchange of prefixes that pairs most parameters; no exchange at all wins a draw."""
    exchanges = [(old, new) for old in _prefixes(left.tensors) for new in _prefixes(right.tensors)]
    exchanges.sort(key=lambda pair: (len(pair[0]) + len(pair[1]), pair))
    candidates = (_pairs(left, right, old, new) for old, new in exchanges)
    return max(candidates, key=lambda pairs: sum(left.tensors[name].entries for name in pairs), default={})


def _prefixes(names: Iterable[str]) -> set[str]:
    """No prefix, and the first one or two components of names (`bert.`, `base_model.model.`)."""
    prefixes = {""}
    for name in names:
        parts = name.split(".")
        prefixes |= {".".join(parts[:count]) + "." for count in (1, 2) if len(parts) > count and not parts[count - 1].isdigit()}
    return prefixes if len(prefixes) <= 24 else {""}


def _pairs(left: Checkpoint, right: Checkpoint, old: str, new: str) -> dict[str, str]:
    pairs = {}
    for name, info in left.tensors.items():
        other = new + name.removeprefix(old)
        if name.startswith(old) and other in right.tensors and right.tensors[other].shape == info.shape:
            pairs[name] = other
    return pairs


def _by_content(left: Checkpoint, right: Checkpoint, pairs: dict[str, str]) -> dict[str, str]:
    """Pairs of the remaining tensors whose bytes are equal. Only tensors that could match are hashed."""
    taken = set(pairs.values())
    rest_left = [name for name in left.tensors if name not in pairs]
    rest_right = [name for name in right.tensors if name not in taken]
    shapes = {_kind(left, name) for name in rest_left} & {_kind(right, name) for name in rest_right}
    waiting: dict[bytes, list[str]] = defaultdict(list)
    for name in sorted(rest_right):
        if _kind(right, name) in shapes:
            waiting[digest(right, name)].append(name)
    found = {}
    for name in sorted(rest_left):
        if _kind(left, name) in shapes and (matches := waiting.get(digest(left, name))):
            found[name] = matches.pop(0)
    return found


def _kind(checkpoint: Checkpoint, name: str) -> tuple[str, tuple[int, ...]]:
    info = checkpoint.tensors[name]
    return info.dtype, info.shape


def digest(checkpoint: Checkpoint, name: str) -> bytes:
    """BLAKE2b of a tensor's type, shape and bytes, read tile by tile."""
    info = checkpoint.tensors[name]
    digest = hashlib.blake2b(f"{info.dtype}{info.shape}".encode(), digest_size=20)
    buffer = memoryview(bytearray(TILE_BYTES))
    for start in range(0, info.nbytes, TILE_BYTES):
        piece = buffer[: min(TILE_BYTES, info.nbytes - start)]
        checkpoint.readinto(name, start, piece)
        digest.update(piece)
    return digest.digest()
