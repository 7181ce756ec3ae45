"""What is enforced. Parsed from YAML of the base commit (never of the head); unknown and duplicate keys are errors."""

from __future__ import annotations

import datetime
import fnmatch
import hashlib
import posixpath
import re
from collections.abc import Callable

import msgspec

from modelguard.documents import yaml_document
from modelguard.errors import BadRequest, Malformed
from modelguard.types.evidence import EVIDENCE_NAMES
from modelguard.types.findings import Level
from modelguard.types.report import Setting

FILE_NAME = ".modelguard.yml"


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which checkpoints an entry governs, and the base that their cards may claim."""

    path: str
    base: str | None = None


class RuleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What a policy may set for one rule."""

    enabled: bool = True
    severity: str | None = None
    max_missing: str | None = None
    minimum_share: str | None = None


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finding at or above both levels blocks."""

    severity: str = "high"
    confidence: str = "medium"


class Waiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finding that somebody answers for, until a date."""

    rule: str
    subject: str
    reason: str
    owner: str
    expires: datetime.date
    fingerprint: str | None = None


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as written."""

    version: int
    models: tuple[ModelEntry, ...] = ()
    require: tuple[str, ...] = ()
    alpha: float = 1e-9
    controls: tuple[str, ...] = ()
    rules: dict[str, RuleSettings] = {}
    block: Block = Block()
    registry: str | None = None
    waivers: tuple[Waiver, ...] = ()


class Policy(msgspec.Struct, frozen=True):
    """The effective policy, where it came from, and its digest."""

    document: Document
    origin: str
    digest: str

    @property
    def alpha(self) -> float:
        return self.document.alpha

    @property
    def require(self) -> tuple[str, ...]:
        return self.document.require

    @property
    def block_severity(self) -> Level:
        return level(self.document.block.severity)

    @property
    def block_confidence(self) -> Level:
        return level(self.document.block.confidence)

    def enabled(self, rule: str) -> bool:
        return self.rule(rule).enabled

    def rule(self, rule: str) -> RuleSettings:
        return self.document.rules.get(rule, RuleSettings())

    def severity(self, rule: str, own: Level) -> Level:
        """The severity of a finding that its rule calls `own`. What the rule itself calls low, policy lowers but does not raise."""
        written = self.rule(rule).severity
        if written is None:
            return own
        return level(written) if own > Level.LOW else min(level(written), own)

    def share(self, rule: str, key: str, default: float) -> float:
        """A percentage setting of a rule as a fraction."""
        written = getattr(self.rule(rule), key)
        return default if written is None else percentage(written)

    def base_of(self, path: str) -> str | None:
        """The base that policy pins for the model at `path`, from the first entry that governs it."""
        return next((entry.base for entry in self.document.models if fnmatch.fnmatchcase(path, entry.path)), None)

    def waiver(self, rule: str, subject: str, today: datetime.date, fingerprint: str = "") -> Waiver | None:
        """The waiver in force for a finding; an expired one is none, and one with a fingerprint covers that very finding only."""
        live = (waiver for waiver in self.document.waivers if waiver.expires >= today)
        named = (subject, posixpath.dirname(subject))  # a waiver names a model by its file or by its directory
        matching = (waiver for waiver in live if waiver.rule == rule and waiver.subject in named)
        return next((waiver for waiver in matching if waiver.fingerprint in (None, fingerprint)), None)

    def settings(self) -> tuple[Setting, ...]:
        """Every effective setting with its origin."""
        written = msgspec.to_builtins(self.document, enc_hook=str)
        default = msgspec.to_builtins(Document(version=1))
        pairs = ((key, value, "built-in default" if value == default.get(key) else self.origin) for key, value in written.items())
        return tuple(Setting(key=key, value=msgspec.json.encode(value).decode(), origin=origin) for key, value, origin in pairs)


def default() -> Policy:
    """The policy of a repository that has none."""
    return parse(b"version: 1\n", "built-in default")


def parse(data: bytes, origin: str) -> Policy:
    """A policy from bytes. Raises BadRequest, naming the file and the key, for anything that it does not understand."""
    try:
        document = msgspec.convert(yaml_document(data, origin), Document, strict=True)
    except Malformed as error:
        raise BadRequest(str(error), advice=error.advice) from error
    except msgspec.ValidationError as error:
        raise BadRequest(f"{origin}: {error}", advice="docs/policy.md lists every key") from error
    _validate(document, origin)
    return Policy(document=document, origin=origin, digest="sha256:" + hashlib.sha256(data).hexdigest())


def _validate(document: Document, origin: str) -> None:
    if document.version != 1:
        raise BadRequest(f"{origin}: version {document.version} is not known", advice="write `version: 1`")
    if not 0 < document.alpha <= 1e-3:
        raise BadRequest(f"{origin}: alpha must lie in (0, 0.001]")
    for name in document.require:
        if name not in EVIDENCE_NAMES:
            raise BadRequest(f"{origin}: require: {name!r} is no evidence", advice=f"one of {', '.join(EVIDENCE_NAMES)}")
    levels = {"block.severity": document.block.severity, "block.confidence": document.block.confidence}
    levels |= {f"rules.{rule}.severity": settings.severity for rule, settings in document.rules.items() if settings.severity is not None}
    for key, word in levels.items():
        _sound(level, word, f"{origin}: {key}")
    for rule, settings in document.rules.items():
        for key, share in {"max-missing": settings.max_missing, "minimum-share": settings.minimum_share}.items():
            if share is not None:
                _sound(percentage, share, f"{origin}: rules.{rule}.{key}")


def _sound(read: Callable[[str], object], text: str, where: str) -> None:
    """Raises BadRequest, saying where, for what `read` refuses."""
    try:
        read(text)
    except BadRequest as error:
        raise BadRequest(f"{where}: {error}", advice=error.advice) from error


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
