"""What a rule says about a subject, and what the rules say together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class Level(IntEnum):
    """Used twice: severity (how bad if true) and confidence (how sure)."""

    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3

    @property
    def word(self) -> str:
        return self.name.lower()


class Status(StrEnum):
    """What one claim comes to."""

    OK = "ok"
    FOUND = "found"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not-applicable"


class Verdict(StrEnum):
    """The three answers. A pass is `consistent`, never "authentic"."""

    CONSISTENT = "consistent"
    INCONSISTENT = "inconsistent"
    CANNOT_DETERMINE = "cannot-determine"


class Absence(StrEnum):
    """Why a piece of evidence is not there; the three weigh differently in the verdict."""

    ABSENT = "absent"  # nobody claimed it; blocks only where policy requires it
    BROKEN = "broken"  # it is named or carried by the change but could not be read: never a pass
    INAPPLICABLE = "inapplicable"  # it cannot exist here; blocks nothing


@dataclass(frozen=True, slots=True)
class Missing:
    """Evidence that was looked for and not had, with the reason and what to do about it."""

    why: str
    advice: str = ""
    kind: Absence = Absence.ABSENT


Numbers = Mapping[str, float | int | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One thing that a rule says. `numbers` justify it; `settle` says what would decide it.

    `discreet` is the same text without the name of a model that nobody declared, for places that everybody reads ("" where there is none).
    `weighs` is false for an open answer that leaves the verdict alone unless its evidence is required: a hint that could not be had.
    """

    status: Status
    text: str
    severity: Level = Level.INFO
    confidence: Level = Level.HIGH
    numbers: Numbers = field(default_factory=dict)
    where: str = ""
    why: str = ""
    settle: str = ""
    discreet: str = ""
    weighs: bool = True


def found(text: str, *, severity: Level, confidence: Level, numbers: Numbers, where: str = "", settle: str = "") -> Claim:
    """The evidence contradicts what is claimed."""
    return Claim(status=Status.FOUND, text=text, severity=severity, confidence=confidence, numbers=numbers, where=where, settle=settle)


def ok(text: str, *, numbers: Numbers | None = None, where: str = "") -> Claim:
    """The evidence was looked at and supports what is claimed."""
    return Claim(status=Status.OK, text=text, numbers=numbers or {}, where=where)


def unknown(why: str, *, numbers: Numbers | None = None, where: str = "", settle: str = "", weighs: bool = True) -> Claim:
    """The evidence was looked at and does not decide."""
    return Claim(status=Status.UNKNOWN, text=why, why=why, numbers=numbers or {}, where=where, settle=settle, weighs=weighs)


def not_applicable(why: str) -> Claim:
    """The question does not arise here."""
    return Claim(status=Status.NOT_APPLICABLE, text=why, why=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A claim with the rule and the subject that the runner stamped on it."""

    rule: str
    subject: str
    claim: Claim
    absence: Absence | None = None  # set when the rule was not run because evidence is missing
    evidence: str = ""  # the missing evidence's name, for `require`
    hint: bool = False  # its rule supports others and never decides: it answers nothing and leaves nothing open
    waived: str = ""  # the reason of the waiver that covers it

    @property
    def status(self) -> Status:
        return self.claim.status

    @property
    def fingerprint(self) -> str:
        """Names this very finding, for a waiver that shall cover no other: a hash over rule, subject and text."""
        told = "\0".join((self.rule, self.subject, self.claim.text))
        return "f-" + hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:16]
