"""The git hook: what is staged, or about to be pushed. Offline, silent when all is well, and done at once when no model is touched."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path

from modelguard.errors import BadRequest, ExitCode
from modelguard.git import Git
from modelguard.types.changes import ChangedFile, ModelChange
from modelguard.types.findings import Absence, Finding, Status, Verdict

CONCERNED = (
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".h5",
    ".onnx",
    ".keras",
    ".msgpack",
    ".jsonl",
    ".csv",
)
PAPERS = ("README.md", "config.json", "adapter_config.json", "trainer_state.json", ".modelguard.yml")

OF_WEIGHTS = {"checkpoint", "weights", "previous", "adapter", "activations", "optimizer_state", "displacement", "kinship"}


def staged(repo: Path) -> tuple[int, str]:
    """(exit code, what to say) about the index. Reads headers, papers and logs; the weights are the Action's business."""
    git = Git(repo)
    paths = [path for path in git.staged() if concerns(path)]
    if not paths:
        return ExitCode.CONSISTENT, ""
    from modelguard.verdict import EXIT_CODES

    findings, remarks, verdict = _examine(git, repo)
    found = [finding for finding in findings if finding.status is Status.FOUND]
    broken = [finding for finding in findings if finding.status is Status.UNKNOWN and finding.absence is Absence.BROKEN]
    code = ExitCode.INCONSISTENT if remarks else EXIT_CODES[verdict]
    return code, "\n".join((*remarks, *_lines((*found, *broken))))


def push_range(environ: Mapping[str, str]) -> tuple[str, str]:
    """The commits that are about to be pushed, as pre-commit names them."""
    base, head = environ.get("PRE_COMMIT_FROM_REF", ""), environ.get("PRE_COMMIT_TO_REF", "")
    if not base or not head:
        raise BadRequest("--push runs under pre-commit's pre-push stage", advice="outside it, use `modelguard audit --base REV --head REV`")
    return base, head


def concerns(path: str) -> bool:
    """Whether a staged path can matter, by its name alone."""
    name = posixpath.basename(path)
    return name in PAPERS or name.lower().endswith(CONCERNED) or "tfevents" in name


def _examine(git: Git, repo: Path) -> tuple[tuple[Finding, ...], tuple[str, ...], Verdict]:
    from modelguard.blobs.git_object import first_bytes
    from modelguard.changes import group
    from modelguard.checks.base import needs, select
    from modelguard.evidence import collect
    from modelguard.pipeline import SNIFFED, examine, read_policy
    from modelguard.policy import default
    from modelguard.staged import outside_lfs, papers_against_weights
    from modelguard.verdict import decide
    from modelguard.world import World

    head = git.head()
    tree, before = git.index(), git.tree(head) if head else {}
    rules = read_policy(git, head, None) if head else default()
    changed = sorted(path for path in tree.keys() | before.keys() if tree.get(path) != before.get(path))
    files = [ChangedFile(path=path, before=before.get(path), after=tree.get(path)) for path in changed]
    world = World(git=git, head="index", tree=tree, before=head, before_tree=before, worktree=repo, offline=True, headers_only=True)
    models = group(files, tree, before, lambda entry: first_bytes(git, entry, repo, SNIFFED))
    checks = select(rules)
    wanted = needs(checks) - {"activations", "previous"}
    findings = tuple(
        found for model in models for found in examine(collect(model, _of(model, wanted), world, rules), model.subject, checks, rules)
    )
    remarks = (*outside_lfs(git, files), *(remark for model in models for remark in papers_against_weights(model, world)))
    return findings, remarks, decide(findings, rules, partial=True)


def _of(model: ModelChange, wanted: frozenset[str]) -> frozenset[str]:
    """What is collected of a model: weights that the commit does not touch need not be at hand, as in a clone without LFS objects."""
    return wanted if model.weights_touched else wanted - OF_WEIGHTS


def _lines(findings: tuple[Finding, ...]) -> list[str]:
    """One line a reason, with what to do and the rules that it concerns."""
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        advice = f"; {finding.claim.settle}" if finding.claim.settle else ""
        reasons.setdefault(f"{finding.claim.text}{advice}", []).append(finding.rule)
    return [f"{reason} ({', '.join(dict.fromkeys(rules))})" for reason, rules in reasons.items()]
