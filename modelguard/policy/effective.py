"""The policy in force, wherever its parts come from."""

from __future__ import annotations

import datetime
import fnmatch
import hashlib
import posixpath
from collections.abc import Mapping
from typing import Any

import msgspec

from modelguard.policy.document import Document, RuleSettings, Waiver, level, percentage
from modelguard.types.findings import Level
from modelguard.types.report import Setting

BUILT_IN = "built-in default"


class Policy(msgspec.Struct, frozen=True):
    """The effective policy, where it came from, and its digest.

    `origins` says for each written key, as a dotted path, which file it is from where there are several; `refused` what a repository's
    file asked for and its organisation's does not allow.
    """

    document: Document
    origin: str
    digest: str
    origins: Mapping[str, str] = {}
    refused: tuple[str, ...] = ()

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

    def names(self, model: str) -> bool:
        """Whether the policy names a model of the hub, as the base of an entry or as a control: only then may a token be used for it."""
        bases = tuple(entry.base for entry in self.document.models if entry.base)
        written = (*bases, *(control for control in self.document.controls if control.startswith("hf:")))
        return model in {text.removeprefix("hf:").partition("@")[0] for text in written}

    def waiver(self, rule: str, subject: str, today: datetime.date, fingerprint: str = "") -> Waiver | None:
        """The waiver in force for a finding; an expired one is none, and one with a fingerprint covers that very finding only."""
        live = (waiver for waiver in self.document.waivers if waiver.expires >= today)
        named = (subject, posixpath.dirname(subject))  # a waiver names a model by its file or by its directory
        matching = (waiver for waiver in live if waiver.rule == rule and waiver.subject in named)
        return next((waiver for waiver in matching if waiver.fingerprint in (None, fingerprint)), None)

    def origin_of(self, key: str) -> str:
        """The file that a written key at the top is from."""
        return self.origins.get(key, self.origin)

    def settings(self) -> tuple[Setting, ...]:
        """Every effective setting with its origin; of keys that hold others, each of those too where layers were combined."""
        written, default = _plain(self.document), _plain(Document(version=1))
        top = tuple(_setting(key, value, self._origin(key, value == default.get(key))) for key, value in written.items())
        leaves = {path: _at(written, path.split("\0")) for path in self.origins if "\0" in path}
        return (*top, *(_setting(path.replace("\0", "."), value, self.origins[path]) for path, value in sorted(leaves.items())))

    def _origin(self, key: str, as_built_in: bool) -> str:
        said = dict.fromkeys(origin for path, origin in self.origins.items() if path.split("\0")[0] == key)
        return " + ".join(said) or (BUILT_IN if as_built_in else self.origin)


def digest(document: Document) -> str:
    """What names a policy by what it says, however its file is laid out: SHA-256 of its canonical JSON."""
    return "sha256:" + hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()


def _plain(document: Document) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(document, enc_hook=str)
    return plain


def _at(written: Any, path: list[str]) -> Any:
    for step in path:
        written = written[step]
    return written


def _setting(key: str, value: object, origin: str) -> Setting:
    return Setting(key=key, value=msgspec.json.encode(value).decode(), origin=origin)
