"""The line: changed files → model changes → evidence → findings → verdict → report. The one module that sees both wings."""

from __future__ import annotations

import datetime
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelguard import __version__, policy
from modelguard.blobs.git_object import first_bytes
from modelguard.changes import group, not_followed, removed_weights
from modelguard.checks.base import Check, needs, run, select
from modelguard.confinement.limits import Limits
from modelguard.errors import BadRequest
from modelguard.evidence import collect
from modelguard.exhibits import exhibits
from modelguard.git import REGULAR_MODES, Git
from modelguard.policy import Layer, Policy
from modelguard.policy.waivers import waiver_notes
from modelguard.scope import chosen, held_to, pin_notes
from modelguard.steering import follow_moves, steering_notes
from modelguard.types.changes import ChangedFile, ModelChange
from modelguard.types.evidence import Evidence
from modelguard.types.findings import Finding, Missing
from modelguard.types.report import ModelReport, Report
from modelguard.verdict import apply_policy, decide, headline, worst
from modelguard.world import Progress, World, silent

if TYPE_CHECKING:  # the hook has no use for the network's half of the world
    from modelguard.blobs.lfs_batch import Store
    from modelguard.known_models import Place

LFS_CONFIG = ".lfsconfig"
SNIFFED = 512  # bytes that tell a checkpoint


@dataclass(frozen=True, kw_only=True)
class AuditRequest:
    """What to audit, and within which limits."""

    repo: Path
    base: str
    head: str
    policy_file: Path | None = None  # the operator's own, above the repository's
    organisation: Layer | None = None  # the organisation's, above the repository's
    config: str = policy.FILE_NAME  # where in the base commit the repository's policy stands
    policy_notes: tuple[str, ...] = ()
    offline: bool = False
    max_download: int = 20 << 30
    models: tuple[str, ...] = ()  # globs of the models to look at; all where there is none
    base_model: str | None = None  # the base of models that policy pins none for
    hub_token: str = field(default="", repr=False)  # for bases that policy or `base_model` names, and no others
    activations: str = "auto"
    registry: str | None = None
    lfs: Store | None = None  # where Git LFS objects are had that are not at hand
    out: Path | None = None
    whole: bool = False  # every model of `head`, under the policy that stands at `base`
    confined: Limits | None = None  # collect the evidence in a process without secrets, within these limits
    progress: Progress = field(default=silent)

    @property
    def worktree(self) -> Path | None:
        """Where files are checked out; a bare repository has no such place."""
        return self.repo if (self.repo / ".git").exists() else None


def audit(request: AuditRequest) -> Report:
    """Audits what `head` changes since it forked off `base`."""
    started = time.monotonic()
    git = Git(request.repo)
    base, head = git.resolve(request.base), git.resolve(request.head)
    fork = git.empty_tree() if request.whole else git.merge_base(base, head)
    rules = read_policy(git, base, request.policy_file, organisation=request.organisation, config=request.config)
    files = git.changed(fork, head)
    world = replace(world_of(git, fork, head, request), registry=registry_of(git, base, request, rules))
    changed = group(files, world.tree, world.before_tree, lambda entry: first_bytes(git, entry, request.worktree, SNIFFED, world.objects))
    models, outside = chosen(changed, request.models, {*world.tree, *world.before_tree})
    checks = select(rules)
    held, moves = follow_moves(rules, removed_weights(files), models)
    moves += pin_notes(held, request.base_model, models)
    held, rules = held_to(held, request.base_model), held_to(rules, request.base_model)
    reports = tuple(_audit_model(model, checks, world, held, request) for model in models)
    git.close()
    verdict = worst(decide(report.findings, rules) for report in reports)
    return Report(
        verdict=verdict,
        headline=headline(verdict, reports) if reports or not outside else outside[0],
        base=base,
        head=head,
        models=reports,
        notes=(*outside, *_notes(files, changed, rules, request), *moves, *_waivers(models, world, rules), *_server_notes(world, files)),
        policy_digest=rules.digest,
        settings=rules.settings(),
        version=__version__,
        reproduce=_command(request, base, head),
        seconds=time.monotonic() - started,
    )


def examine(evidence: Evidence, subject: str, checks: Iterable[Check], rules: Policy) -> tuple[Finding, ...]:
    """What the rules say of one subject under a policy: the one way in, whatever was collected and by whom."""
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return apply_policy(run(checks, evidence, subject, rules), rules, today)


def read_policy(git: Git, base: str, file: Path | None, *, organisation: Layer | None = None, config: str = policy.FILE_NAME) -> Policy:
    """The organisation's policy, or the operator's file in its place, over the one that stands in the base commit. Never the head's."""
    above = organisation if file is None else _operators(file)
    entry = git.tree(base).get(config)
    if entry is None and config != policy.FILE_NAME:
        raise BadRequest(f"{config[:200]!a} is not in the base commit {base[:12]}", advice="check the name of the policy's file")
    if entry is not None and entry.mode not in REGULAR_MODES:
        advice = "commit the policy itself as a regular file"
        raise BadRequest(f"{config} at {base[:12]} is a symbolic link or submodule, which is not followed", advice=advice)
    below = None if entry is None else policy.read_layer(git.read(entry.oid, 1 << 20), f"{config} at {base[:12]}")
    return policy.layered(above, below)


def _operators(file: Path) -> Layer:
    try:
        return policy.read_layer(file.read_bytes(), str(file))
    except OSError as error:
        raise BadRequest(f"{file}: {error.strerror}", advice="check --policy") from error


def world_of(git: Git, fork: str, head: str, request: AuditRequest) -> World:
    objects = None
    if request.lfs is not None and not request.offline:
        from modelguard.blobs.lfs_remote import LfsRemote

        objects = LfsRemote(request.lfs, max_download=request.max_download, progress=request.progress)
    return World(
        git=git,
        head=head,
        tree=git.tree(head),
        committed=git.committed(head),
        before=fork,
        before_tree=git.tree(fork),
        worktree=request.worktree,
        offline=request.offline,
        max_download=request.max_download,
        hub_token=request.hub_token,
        activations=request.activations,
        objects=objects,
        progress=request.progress,
    )


def registry_of(git: Git, base: str, request: AuditRequest, rules: Policy) -> Place | None:
    """The operator's registry, or the one that policy names.

    On this machine where the operator's file names it, at an address where the organisation's does, else in the base commit.
    """
    address = request.registry or rules.document.registry
    if address is None:
        return None
    from modelguard.known_models import Place

    origin, above = rules.origin_of("registry"), request.organisation
    operators = request.policy_file is not None and origin == str(request.policy_file)
    organisations = above is not None and origin == above.origin and "://" in address
    if request.registry or operators or organisations:
        return Place(address=address)
    return Place(address=address, git=git, tree=git.tree(base), worktree=request.worktree)


def _collected(
    model: ModelChange, wanted: frozenset[str], world: World, rules: Policy, limits: Limits | None
) -> tuple[Evidence, tuple[str, ...]]:
    """The evidence on one model, and what held the process that collected it, where that is another one."""
    if limits is None:
        return collect(model, wanted, world, rules), ()
    from modelguard.evidence_apart import collect_apart  # which the hook, who waits for no library, never needs

    return collect_apart(model, wanted, world, rules, limits)


def _audit_model(model: ModelChange, checks: tuple[Check, ...], world: World, rules: Policy, request: AuditRequest) -> ModelReport:
    wanted, limits = needs(checks) | {"declaration", "previous"}, request.confined
    evidence, walls = _collected(model, wanted, world, rules, limits)
    declared = () if isinstance(evidence.declaration, Missing) else evidence.declaration.bases
    weights = None if isinstance(evidence.weights, Missing) else evidence.weights
    return ModelReport(
        subject=model.subject,
        kind=model.kind.value,
        files=model.touched,
        declared=tuple(f"{base.text} ({base.source})" for base in declared),
        resolved_base=weights.right.ref if weights else "",
        findings=examine(evidence, model.subject, checks, rules),
        exhibits=exhibits(evidence),
        weights=weights,
        previous=None if isinstance(evidence.previous, Missing) else evidence.previous,
        activations=None if isinstance(evidence.activations, Missing) else evidence.activations,
        walls=walls,
    )


def _notes(files: tuple[ChangedFile, ...], models: tuple[ModelChange, ...], rules: Policy, request: AuditRequest) -> tuple[str, ...]:
    notes = [] if models else ["no model files changed"]
    notes += [] if request.whole else steering_notes(files, request.config, rules.document.registry)
    notes += [*request.policy_notes, *rules.refused]
    notes += [f"{path}: a symbolic link or submodule, not followed" for path in not_followed(files)[:10]]
    notes += [f"{path}: removed by this change" for path in removed_weights(files)[:10]]
    return tuple(notes)


def _waivers(models: tuple[ModelChange, ...], world: World, rules: Policy) -> tuple[str, ...]:
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return waiver_notes(rules, today, {*world.tree, *world.before_tree}) if models else ()


def _server_notes(world: World, files: tuple[ChangedFile, ...]) -> tuple[str, ...]:
    """One line on an .lfsconfig of the head: whoever writes it would choose the server that the objects come from."""
    if LFS_CONFIG not in world.tree:
        return ()
    changed = " and is changed here" if any(file.path == LFS_CONFIG for file in files) else ""
    return (f"{LFS_CONFIG} stands in the head{changed}: it was not followed, Git LFS objects come from the base repository's server",)


def _command(request: AuditRequest, base: str, head: str) -> str:
    """The exact command that repeats this audit in a clone."""
    words = ["modelguard", "audit", "--base", base, "--head", head]
    words += ["--whole"] if request.whole else []
    words += ["--policy", str(request.policy_file)] if request.policy_file else []
    words += ["--policy", "ORGANISATION.yml"] if request.organisation else []
    words += ["--registry", request.registry if "://" not in request.registry else "REGISTRY"] if request.registry else []
    words += [word for glob in request.models for word in ("--models", glob)]
    words += ["--base-model", request.base_model] if request.base_model else []
    words += ["--offline"] if request.offline else []
    words += ["--activations", request.activations] if request.activations != "auto" else []
    return shlex.join(words)
