"""Runs rules. Missing evidence is handled here once, and a rule that crashes cannot pass."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import modelguard.checks
from modelguard.attempt import attempt
from modelguard.discover import modules
from modelguard.errors import BadRequest
from modelguard.policy import Policy
from modelguard.types.evidence import EVIDENCE_NAMES, Evidence
from modelguard.types.findings import Absence, Claim, Finding, Missing, Status, ok, unknown

Rule = Callable[..., Iterator[Claim]]


@dataclass(frozen=True, slots=True)
class Check:
    """One rule: its public id (the file's name in kebab case), its documentation and its function."""

    rule: str
    doc: str
    function: Rule
    wants: tuple[str, ...]  # evidence that it needs
    tolerates: frozenset[str]  # evidence whose absence it judges itself
    hint: bool = False  # it supports other rules and never decides: what it leaves open blocks nothing

    @property
    def title(self) -> str:
        return self.doc.strip().splitlines()[0].rstrip(".")


@cache
def all_checks() -> tuple[Check, ...]:
    """Every rule that this version ships, in name order."""
    return tuple(_check(module) for module in modules(modelguard.checks, having="check"))


def select(policy: Policy, names: Iterable[str] | None = None) -> tuple[Check, ...]:
    """The rules that policy enables, or of those the named ones. None at all is an error, never a pass."""
    enabled = tuple(check for check in all_checks() if policy.enabled(check.rule))
    known = {check.rule for check in all_checks()}
    written = (*policy.document.rules, *(waiver.rule for waiver in policy.document.waivers))
    if strangers := [rule for rule in written if rule not in known]:
        raise BadRequest(f"{policy.origin}: {strangers[0][:80]!a} is no rule", advice="`modelguard rules` lists them")
    if unserved := [name for name in policy.require if name not in needs(enabled)]:
        raise BadRequest(f"{policy.origin}: {unserved[0]} is required, but no enabled rule looks at it", advice="enable one")
    wanted = enabled if names is None else tuple(check for check in enabled if check.rule in set(names))
    if not wanted:
        raise BadRequest("no rule is enabled", advice="enable at least one rule in the policy; `modelguard rules` lists them")
    return wanted


def needs(checks: Iterable[Check]) -> frozenset[str]:
    """The evidence that these rules ask for; nothing else is collected."""
    return frozenset(name for check in checks for name in check.wants)


def run(checks: Iterable[Check], evidence: Evidence, subject: str, policy: Policy) -> tuple[Finding, ...]:
    """What the rules say about one subject, each claim stamped with rule and subject."""
    return tuple(finding for check in checks for finding in _run_one(check, evidence, subject, policy))


def _run_one(check: Check, evidence: Evidence, subject: str, policy: Policy) -> tuple[Finding, ...]:
    arguments: dict[str, object] = {name: getattr(evidence, name) for name in check.wants}
    for name, value in arguments.items():
        if isinstance(value, Missing) and name not in check.tolerates:
            return (_without(check.rule, subject, name, value),)
    if "policy" in inspect.signature(check.function).parameters:
        arguments["policy"] = policy
    claims = attempt(lambda: tuple(check.function(**arguments)), what=f"the rule {check.rule}")
    if isinstance(claims, Missing):
        return (_without(check.rule, subject, "", claims),)
    asked = check.wants[0] if check.wants else ""  # what policy requires to have the answer of a rule that otherwise leaves it open
    return tuple(
        Finding(rule=check.rule, subject=subject, claim=claim, evidence="" if claim.weighs else asked, hint=check.hint)
        for claim in claims or (ok(check.title),)
    )


def _without(rule: str, subject: str, name: str, missing: Missing) -> Finding:
    """The outcome of a rule that could not be run."""
    inapplicable = missing.kind is Absence.INAPPLICABLE
    claim = unknown(missing.why, settle=missing.advice)
    if inapplicable:
        claim = Claim(status=Status.NOT_APPLICABLE, text=missing.why, why=missing.why)
    return Finding(rule=rule, subject=subject, claim=claim, absence=missing.kind, evidence=name)


def _check(module: types.ModuleType) -> Check:
    hints = typing.get_type_hints(module.check)
    wants = tuple(name for name in inspect.signature(module.check).parameters if name in EVIDENCE_NAMES)
    tolerates = frozenset(name for name in wants if Missing in typing.get_args(hints[name]))
    rule = module.__name__.rpartition(".")[2].replace("_", "-")
    doc, hint = inspect.getdoc(module) or "", bool(getattr(module, "HINT", False))
    return Check(rule=rule, doc=doc, function=module.check, wants=wants, tolerates=tolerates, hint=hint)
