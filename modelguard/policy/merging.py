"""An organisation's policy over a repository's: the repository may tighten, and what would loosen is refused and said."""

from __future__ import annotations

import copy
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from modelguard.policy.document import Behaviour, Block, Document, Layer, RuleSettings, level, percentage
from modelguard.policy.effective import BUILT_IN, Policy, digest
from modelguard.types.findings import Level

WAYS = ("same", "maximum", "minimum", "union", "organisation first", "organisation or repository", "organisation only", "key by key")
SHARES = {"log-gap.max-missing": "1%"}  # shares that rules hold to where no policy names another
PARTS: Mapping[str, type[msgspec.Struct]] = {"block": Block, "behaviour": Behaviour}  # keys that hold others
Path = tuple[str, ...]


def way_of(struct: type[msgspec.Struct], key: str) -> str:
    """How layers combine at a key. A key that does not say is the organisation's alone."""
    fields = {field.encode_name: field.name for field in msgspec.structs.fields(struct)}
    hint = typing.get_type_hints(struct, include_extras=True)[fields[key]]
    extras = (meta.extra or {} for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta))
    return next((extra["layers"] for extra in extras if "layers" in extra), "organisation only")


def combine(organisation: Layer, repository: Layer) -> Policy:
    """The policy of a repository below its organisation's. What the organisation leaves unsaid stands at its built-in default."""
    merging = _Merging(organisation, repository)
    for key, value in repository.written.items():
        merging.take(Document, (), key, value)
    document = msgspec.convert(merging.values, Document, strict=True)
    return Policy(
        document=document,
        origin=f"{organisation.origin} over {repository.origin}",
        digest=digest(document),
        origins=merging.origins,
        refused=tuple(merging.refused),
    )


class _Merging:
    """The organisation's values, and what a repository's file changes in them, key by key."""

    def __init__(self, organisation: Layer, repository: Layer) -> None:
        self._above, self._below = organisation, repository
        self.values: dict[str, Any] = copy.deepcopy(dict(organisation.written))
        self.origins = {"\0".join(path): organisation.origin for path in _leaves(organisation.written)}
        self.refused: list[str] = []

    def take(self, struct: type[msgspec.Struct], around: Path, key: str, value: Any) -> None:
        """One key of the repository's file, in its way. Equal values are no request."""
        path, way = (*around, key), way_of(struct, key)
        above = self._written(path)
        if way == "key by key":
            self._inside(path, value)
        elif value == above or way == "same" or (above is None and value == _built_in(path)):
            return
        elif self._locked(path):
            self._refuse(path, value, "the organisation locks this key")
        elif way in ("maximum", "minimum"):
            self._ordered(path, value, way)
        elif way == "organisation only" or (above is not None and _first_alone(way, value)):
            self._refuse(
                path, value, "it is the organisation's alone" if above is None else f"it is {_shown(above)} in {self._above.origin}"
            )
        else:
            self._join(path, value)

    def _inside(self, path: Path, value: Mapping[str, Any]) -> None:
        if path[0] in PARTS:
            for key, inner in value.items():
                self.take(PARTS[path[0]], path, key, inner)
            return
        for rule, settings in value.items():
            for key, inner in settings.items():
                self.take(RuleSettings, (*path, rule), key, inner)

    def _ordered(self, path: Path, value: Any, way: str) -> None:
        """A value on a scale, of which the stricter end is known."""
        above = self._written(path)
        floor = _built_in(path) if above is None else above
        where = BUILT_IN if above is None else self._above.origin
        if path[-1] == "severity" and floor is None and level(value) is Level.HIGH:
            self._set(path, value, self._below.origin)  # whatever the rule itself calls its findings, this lowers none of them
        elif floor is None:
            self._refuse(path, value, "the organisation sets none, and what the rule itself holds to is not known here")
        elif _rank(value) == _rank(floor):
            return
        elif (_rank(value) > _rank(floor)) == (way == "maximum"):
            self._set(path, value, self._below.origin)
        else:
            self._refuse(path, value, f"it is {_shown(floor)} in {where}, and a repository may only tighten")

    def _join(self, path: Path, value: Any) -> None:
        """The organisation's entries first, then the repository's."""
        if not isinstance(value, list):
            self._set(path, value, self._below.origin)
            return
        above = self._written(path) or []
        added = [entry for entry in value if entry not in above and self._may_add(path, entry)]
        if added:
            origin = f"{self._above.origin} + {self._below.origin}" if above else self._below.origin
            self._set(path, [*above, *added], origin)

    def _may_add(self, path: Path, entry: Any) -> bool:
        """Whether a repository may add an entry; a waiver only where its organisation allows waivers of the rule."""
        forbidden = self._above.document.organisation.no_waivers
        if path == ("waivers",) and (entry["rule"] in forbidden or "*" in forbidden):
            self._refuse(path, f"a waiver of {entry['rule']}", "the organisation allows none of this rule")
            return False
        return True

    def _written(self, path: Path) -> Any:
        value: Any = self.values
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value

    def _set(self, path: Path, value: Any, origin: str) -> None:
        place = self.values
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = value
        self.origins["\0".join(path)] = origin

    def _locked(self, path: Path) -> bool:
        dotted = ".".join(path)
        return any(dotted == key or dotted.startswith(f"{key}.") for key in self._above.document.organisation.locked)

    def _refuse(self, path: Path, value: Any, why: str) -> None:
        self.refused.append(f"{self._below.origin} sets {'.'.join(path)} to {_shown(value)}: refused, {why}")


def _first_alone(way: str, value: Any) -> bool:
    """Whether what the organisation says stands alone: always, or where the values are no lists that can be joined."""
    return way == "organisation or repository" or (way == "organisation first" and not isinstance(value, list))


def _built_in(path: Path) -> Any:
    """What holds where no file says anything; None where that is not known here."""
    match path:
        case ("alpha",):
            return Document(version=1).alpha
        case ("block", key):
            return getattr(Block(), key)
        case ("rules", _, "enabled"):
            return True
        case ("rules", rule, key) if key != "severity":
            return SHARES.get(f"{rule}.{key}")
    return None


def _rank(value: Any) -> float:
    """A setting's place on its scale."""
    if isinstance(value, bool | int | float):
        return float(value)
    return percentage(value) if value.strip().endswith("%") else float(level(value))


def _leaves(written: Mapping[str, Any], around: Path = ()) -> Iterator[Path]:
    for key, value in written.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*around, key))
        else:
            yield (*around, key)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()[:120]
