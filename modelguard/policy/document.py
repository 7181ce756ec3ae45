"""The policy file as written: its keys, what each means, and how an organisation's and a repository's values of it combine."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from modelguard.documents import yaml_document
from modelguard.errors import BadRequest, Malformed
from modelguard.policy.places import Path, place
from modelguard.types.evidence import EVIDENCE_NAMES
from modelguard.types.findings import Level

ALPHA_LIMIT = 1e-3
LEVELS = {"enum": [level.word for level in Level]}
SHARE = {"pattern": r"^\s*\d{1,3}(\.\d{1,6})?%\s*$"}
UNREACHABLE = ("cannot-determine", "last-copy")
Level_ = Annotated[str, Meta(extra_json_schema=LEVELS)]
Share = Annotated[str, Meta(extra_json_schema=SHARE)]
Text = Annotated[str, Meta(extra_json_schema={"minLength": 1})]


def key(meaning: str, layers: str) -> Meta:
    """What a key means, and how layers combine; one of `policy.merging.WAYS`."""
    return Meta(description=f"{meaning} Layers: {layers}.", extra={"layers": layers})


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which checkpoints an entry governs, and the base that their cards may claim."""

    path: str
    base: str | None = None


class RuleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What a policy may set for one rule."""

    enabled: Annotated[bool, key("Whether the rule runs.", "maximum")] = True
    severity: Annotated[Level_ | None, key("Severity of what the rule finds.", "maximum")] = None
    max_missing: Annotated[Share | None, key("Share of a run's steps that may be missing.", "minimum")] = None
    minimum_share: Annotated[Share | None, key("Share that the rule asks for at least.", "maximum")] = None


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finding at or above both levels blocks."""

    severity: Annotated[Level_, key("Findings of this severity or above block.", "minimum")] = "high"
    confidence: Annotated[Level_, key("Findings of this confidence or above block.", "minimum")] = "medium"


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose predictions a model's own are held against: candidate teachers, control models, and text of the domain.

    Controls were trained on the same kind of data and on no candidate's output. A repository's could only raise the bar that its
    organisation's set, so they count where the organisation names none.
    """

    references: Annotated[tuple[str, ...], key("Candidate teachers: hf:… or registry:name.", "union")] = ()
    controls: Annotated[
        tuple[str, ...], key("Models of the same domain that have nothing to do with them.", "organisation or repository")
    ] = ()
    texts: Annotated[tuple[str, ...], key("Held-out text of the base commit, by path.", "organisation or repository")] = ()


class Waiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finding that somebody answers for, until a date."""

    rule: str
    subject: str
    reason: Text
    owner: Text
    expires: datetime.date
    fingerprint: str | None = None


class Organisation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What an organisation says about its repositories' own policies."""

    locked: tuple[str, ...] = ()
    no_waivers: tuple[str, ...] = ()
    unreachable: Annotated[str, Meta(extra_json_schema={"enum": list(UNREACHABLE)})] = UNREACHABLE[0]


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The policy of a repository, or of an organisation, for modelguard."""

    version: Annotated[int, key("The version of this format: 1.", "same")]
    models: Annotated[tuple[ModelEntry, ...], key("Checkpoints by path, and the base of each.", "organisation first")] = ()
    require: Annotated[tuple[str, ...], key("Evidence that may not be absent.", "union")] = ()
    alpha: Annotated[float, key("Level of the exact tests.", "organisation only")] = 1e-9
    controls: Annotated[tuple[str, ...], key("Models known to be independent.", "organisation only")] = ()
    behaviour: Annotated[Behaviour, key("Whose predictions a model's own are held against.", "key by key")] = Behaviour()
    rules: Annotated[dict[str, RuleSettings], key("Settings of rules by rule id.", "key by key")] = {}
    block: Annotated[Block, key("What blocks.", "key by key")] = Block()
    registry: Annotated[str | None, key("Known models to look bases up in.", "organisation first")] = None
    waivers: Annotated[tuple[Waiver, ...], key("Findings that somebody answers for.", "union")] = ()
    organisation: Annotated[Organisation, key("What repositories may not do.", "organisation only")] = Organisation()


class Layer(msgspec.Struct, frozen=True):
    """One policy file: what it says, what of that is written in it, and where it comes from."""

    document: Document
    written: Mapping[str, Any]
    origin: str


def read_layer(data: bytes, origin: str) -> Layer:
    """A policy file from bytes. Raises BadRequest, naming file, line and key, for anything that it does not understand."""
    try:
        written = yaml_document(data, origin)
    except Malformed as error:
        raise BadRequest(str(error), advice=error.advice) from error
    try:
        document = msgspec.convert(written, Document, strict=True)
    except msgspec.ValidationError as error:
        where = place(data, _path(str(error), written))
        raise BadRequest(f"{origin}{where}: {error}", advice="docs/policy.md lists every key") from error
    for path, problem, advice in _problems(document):
        named = ".".join(step for step in path if isinstance(step, str))
        raise BadRequest(f"{origin}{place(data, path)}: {named}: {problem}", advice=advice)
    assert isinstance(written, dict)  # as it was converted to a document
    return Layer(document=document, written=written, origin=origin)


def level(word: str) -> Level:
    """A level by its name."""
    try:
        return Level[word.upper()]
    except KeyError:
        raise BadRequest(f"{word!r} is no level", advice="one of info, low, medium, high") from None


def percentage(text: str) -> float:
    """`1%` as 0.01."""
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)%", text.strip())
    if match is None or float(match[1]) > 100:
        raise BadRequest(f"{text!r} is no percentage", advice="write it like 1%")
    return float(match[1]) / 100


def _problems(document: Document) -> Iterator[tuple[Path, str, str]]:
    """(path, what is wrong, what to do) for values that are of the right type and make no sense."""
    if document.version != 1:
        yield ("version",), f"{document.version} is not known", "write `version: 1`"
    if not 0 < document.alpha <= ALPHA_LIMIT:
        yield ("alpha",), f"must lie in (0, {ALPHA_LIMIT}]", "write it like 1.0e-9"
    for index, name in enumerate(document.require):
        if name not in EVIDENCE_NAMES:
            yield ("require", index), f"{name!r} is no evidence", f"one of {', '.join(EVIDENCE_NAMES)}"
    yield from _refused(level, document.block.severity, ("block", "severity"))
    yield from _refused(level, document.block.confidence, ("block", "confidence"))
    for rule, settings in document.rules.items():
        yield from _refused(level, settings.severity, ("rules", rule, "severity"))
        yield from _refused(percentage, settings.max_missing, ("rules", rule, "max-missing"))
        yield from _refused(percentage, settings.minimum_share, ("rules", rule, "minimum-share"))
    for index, waiver in enumerate(document.waivers):
        for name in ("reason", "owner"):
            if not getattr(waiver, name).strip():
                yield ("waivers", index, name), "is empty", "a waiver says who answers for it, and why"
    for name in ("references", "controls"):
        for index, reference in enumerate(getattr(document.behaviour, name)):
            if not reference.startswith(("hf:", "registry:")):
                yield ("behaviour", name, index), f"{reference[:80]!a} names no model", "hf:organisation/name@revision, or registry:name"
    if document.organisation.unreachable not in UNREACHABLE:
        yield ("organisation", "unreachable"), "is not known", f"one of {', '.join(UNREACHABLE)}"


def _refused(read: Callable[[str], object], text: str | None, path: Path) -> Iterator[tuple[Path, str, str]]:
    try:
        read(text) if text is not None else None
    except BadRequest as error:
        yield path, str(error), error.advice


def _path(message: str, written: object) -> Path:
    """The path that a message of msgspec speaks of. It does not name keys of mappings: the first rule that is refused is meant."""
    stated = message.rpartition(" - at `$")[2].rstrip("`") if " - at `$" in message else ""
    unknown = re.search(r"unknown field `([^`]*)`", message)
    steps: list[str | int] = []
    for name, index, any_key in re.findall(r"\.([\w-]+)|\[(\d+)\]|(\[\.\.\.\])", stated):
        steps.append(name or (int(index) if index else "" if not any_key else _refused_rule(written)))
    return (*steps, unknown[1]) if unknown else tuple(steps)


def _refused_rule(written: object) -> str:
    rules = written.get("rules") if isinstance(written, dict) else None
    for rule, settings in rules.items() if isinstance(rules, dict) else ():
        try:
            msgspec.convert(settings, RuleSettings, strict=True)
        except msgspec.ValidationError:
            return str(rule)
    return ""
