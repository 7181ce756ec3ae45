"""What the authors say: the model card's front matter, an adapter's configuration, the policy's pin.

Everything here is a claim under test. A card can only name a model of the hub: no address, no path, nothing that leads elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modelguard.documents import json_object, yaml_document
from modelguard.errors import BadRequest, Malformed
from modelguard.types.changes import BaseReference, Declaration

FRONT_MATTER = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
MODEL_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9][\w.-]{0,199}", re.ASCII)
RELATIONS = ("finetune", "adapter", "merge", "quantized")
MAX_BASES = 32


def declare(*, card: bytes | None, card_name: str, adapter: bytes | None, adapter_name: str, pin: str | None) -> Declaration:
    """The declaration that a model's papers make. Policy's pin stands above them: a card may claim it and nothing else."""
    written = front_matter(card, card_name) if card is not None else {}
    bases = _card_bases(written, card_name)
    if adapter is not None:
        bases = _with_adapter(bases, json_object(adapter, adapter_name), adapter_name)
    notes = _disagreements(bases, pin)
    if pin is not None:
        bases = (reference(pin, "policy", pinned=True),)
    sources = dict.fromkeys(base.source for base in bases)
    return Declaration(bases=bases, relation=_relation(written), source=", ".join(sources) or card_name, notes=notes)


def front_matter(card: bytes, name: str) -> Mapping[str, Any]:
    """The YAML block at the top of a model card; empty where there is none."""
    match = FRONT_MATTER.match(card)
    if match is None:
        return {}
    written = yaml_document(match[1], name)
    if written is None:
        return {}
    if not isinstance(written, dict):
        raise Malformed(f"{name}: the front matter is no mapping", advice="mend the front matter")
    return written


def reference(text: str, source: str, *, pinned: bool = False) -> BaseReference:
    """A base as `org/name` or `org/name@revision`, with or without `hf:`. Raises Malformed for anything else."""
    name, at, revision = text.removeprefix("hf:").partition("@")
    sound = MODEL_NAME.fullmatch(name) and ".." not in name and (not at or (REVISION.fullmatch(revision) and ".." not in revision))
    if not sound:
        raise Malformed(f"{source}: {text[:80]!a} names no model of the hub", advice="write base_model: organisation/name")
    return BaseReference(name=name, revision=revision or None, source=source, pinned=pinned)


def pinnable(text: str | None, source: str) -> str | None:
    """A base as an operator pins it. Raises BadRequest for what names no model of the hub."""
    try:
        return None if not text else f"hf:{reference(text, source).text}"
    except Malformed as error:
        raise BadRequest(str(error), advice="write hf:organisation/name@commit") from error


def _card_bases(written: Mapping[str, Any], name: str) -> tuple[BaseReference, ...]:
    value = written.get("base_model")
    names = [value] if isinstance(value, str) else value if value is not None else []
    if not isinstance(names, list) or len(names) > MAX_BASES or not all(isinstance(entry, str) for entry in names):
        raise Malformed(f"{name}: base_model is neither a name nor a list of names", advice="write base_model: organisation/name")
    return tuple(reference(entry, name) for entry in names if entry)


def _with_adapter(bases: tuple[BaseReference, ...], config: Mapping[str, Any], name: str) -> tuple[BaseReference, ...]:
    """The base that an adapter names; it stands first, because it is what a loader will use."""
    base = config.get("base_model_name_or_path")
    revision = config.get("revision")
    if base is None:
        return bases
    if not isinstance(base, str) or not isinstance(revision, str | None):
        raise Malformed(f"{name}: base_model_name_or_path is no name")
    named = reference(f"{base}@{revision}" if revision else base, name)
    return (named, *(other for other in bases if other.name != named.name))


def _relation(written: Mapping[str, Any]) -> str | None:
    relation = written.get("base_model_relation")
    return relation if isinstance(relation, str) and relation in RELATIONS else None


def _disagreements(bases: tuple[BaseReference, ...], pin: str | None) -> tuple[str, ...]:
    """Where the papers do not claim what policy pins."""
    if pin is None or not bases:
        return ()
    pinned = reference(pin, "policy")
    if any(base.name == pinned.name for base in bases):
        return ()
    return (f"the card names {bases[0].text}, policy pins {pinned.text}: the audit used policy's",)
