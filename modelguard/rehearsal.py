"""A change of policy tried on the models of one repository: their evidence is collected once and judged twice. Nothing is posted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from modelguard.blobs.git_object import first_bytes
from modelguard.changes import group
from modelguard.checks.base import Check, needs, select
from modelguard.evidence import collect
from modelguard.git import Git
from modelguard.pipeline import SNIFFED, AuditRequest, examine, read_policy, registry_of, world_of
from modelguard.policy import Layer, Policy
from modelguard.sides import READING
from modelguard.types.changes import ModelChange
from modelguard.types.findings import Finding, Status
from modelguard.types.sweep import RuleMove, TriedModel
from modelguard.verdict import blocks, decide, undecided
from modelguard.world import World

OFF, SILENT, PASSES, WAIVED, WARNS, OPEN, BLOCKS = "off", "silent", "passes", "waived", "warns", "leaves open", "blocks"
ALWAYS = frozenset({"declaration"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """One policy, with what it lets be looked at and the rules that it enables."""

    rules: Policy
    world: World
    checks: tuple[Check, ...]


def rehearse(request: AuditRequest, today: Layer | None, proposed: Layer) -> tuple[TriedModel, ...]:
    """Every model of the head under the organisation's policy as it is (None: there is none) and as it is proposed.

    Raises BadRequest where the repository's own policy is not understood below one of the two.
    """
    git = Git(request.repo)
    try:
        head, empty = git.resolve(request.head), git.empty_tree()
        world = world_of(git, empty, head, request)
        benches = tuple(_bench(git, head, world, replace(request, organisation=layer)) for layer in (today, proposed))
        files = git.changed(empty, head)
        models = group(
            files, world.tree, world.before_tree, lambda entry: first_bytes(git, entry, request.worktree, SNIFFED, world.objects)
        )
        return tuple(_tried(model, *benches) for model in models)
    finally:
        git.close()


def grounds(model: ModelChange, policy: Policy, world: World) -> tuple[object, ...]:
    """What of a policy decides which evidence is collected on a model: policies that agree in it judge the same evidence."""
    named = tuple(entry.base for entry in policy.document.models)  # whom a token goes to
    document = policy.document
    return (
        policy.base_of(model.entry),
        named,
        policy.alpha,
        document.controls,
        document.behaviour,
        READING & set(document.require),
        world.registry,
    )


def _bench(git: Git, head: str, world: World, request: AuditRequest) -> _Bench:
    rules = read_policy(git, head, None, organisation=request.organisation, config=request.config)
    return _Bench(rules=rules, world=replace(world, registry=registry_of(git, head, request, rules)), checks=select(rules))


def _tried(model: ModelChange, today: _Bench, proposed: _Bench) -> TriedModel:
    wanted = needs((*today.checks, *proposed.checks)) | ALWAYS
    shared = grounds(model, today.rules, today.world) == grounds(model, proposed.rules, proposed.world)
    evidence = collect(model, wanted, today.world, today.rules)
    again = evidence if shared else collect(model, wanted, proposed.world, proposed.rules)
    before = examine(evidence, model.subject, today.checks, today.rules)
    after = examine(again, model.subject, proposed.checks, proposed.rules)
    return TriedModel(
        subject=model.subject,
        before=decide(before, today.rules),
        after=decide(after, proposed.rules),
        moves=tuple(_moves(_effects(before, today), _effects(after, proposed))),
        collected=1 if shared else 2,
    )


def _moves(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[RuleMove]:
    """The rules that do something else to the verdict than before."""
    for rule in sorted(before.keys() | after.keys()):
        move = RuleMove(rule=rule, before=before.get(rule, OFF), after=after.get(rule, OFF))
        if move.before != move.after:
            yield move


def _effects(findings: Iterable[Finding], bench: _Bench) -> Mapping[str, str]:
    """What each rule does to the verdict: the weightiest of its findings."""
    order = (SILENT, PASSES, WAIVED, WARNS, OPEN, BLOCKS)
    effects = {check.rule: SILENT for check in bench.checks}
    for finding in findings:
        effects[finding.rule] = max(effects.get(finding.rule, SILENT), _effect(finding, bench.rules), key=order.index)
    return effects


def _effect(finding: Finding, rules: Policy) -> str:
    if finding.status is Status.FOUND:
        return WAIVED if finding.waived else BLOCKS if blocks(finding, rules) else WARNS
    if undecided(finding, rules):
        return OPEN
    return PASSES if finding.status is Status.OK else SILENT
