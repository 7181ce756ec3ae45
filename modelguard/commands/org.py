"""What `modelguard org …` does: one sweep over many repositories, a policy tried on them, the ruleset to paste."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from modelguard import __version__
from modelguard.attempt import attempt
from modelguard.checks.base import select
from modelguard.commands.org_rulesets import CHECKOUT, ruleset, workflow
from modelguard.documents import json_object
from modelguard.errors import BadRequest, CannotPost, CannotRead, ExitCode, Malformed
from modelguard.git import Git
from modelguard.github_files import Access, FilePlace, look_for, repositories_of
from modelguard.pipeline import AuditRequest, audit, read_policy
from modelguard.policy import FILE_NAME, Layer, Policy, layered, read_layer
from modelguard.render import sweep as render
from modelguard.render.json_v1 import dumps
from modelguard.render.text import markdown
from modelguard.types.findings import Finding, Missing, Status, Verdict
from modelguard.types.report import ModelReport, Report
from modelguard.types.sweep import Sweep, Swept, SweptModel
from modelguard.verdict import EXIT_CODES, decide, undecided, worst

Result = tuple[int, str]
GITHUB = "https://api.github.com"
MAX_PREVIOUS = 64 << 20


def org(options: argparse.Namespace) -> Result:
    """`modelguard org`."""
    return OPERATIONS[options.operation](options)


def swept(options: argparse.Namespace) -> Result:
    """`modelguard org audit`: the code is that of the worst repository."""
    before = _previous(options.previous)
    layer = None if options.policy is None else _layer(options.policy)
    rows = tuple(_sweep_one(clone, name, options, before.get(name, "")) for name, clone in _clones(options.clones).items())
    sweep = Sweep(
        rows=rows, gone=tuple(sorted(before.keys() - {row.repository for row in rows})), policy=_named(layer), version=__version__
    )
    forms = {"json": dumps(render.document(sweep)), "markdown": render.as_markdown(sweep), "html": render.page(sweep)}
    if options.out is not None:
        _write(options.out, {"sweep.json": forms["json"], "sweep.md": forms["markdown"], "sweep.html": forms["html"]})
    return EXIT_CODES[worst(row.verdict for row in rows)], forms[options.format]


def check_policy(options: argparse.Namespace) -> Result:
    """`modelguard org policy check`: 1 where a repository's own policy would lose a setting, or is not understood."""
    proposed, current = _layer(options.file), None if options.current is None else _layer(options.current)
    select(layered(proposed, None))
    if not options.clones and not options.organisation:
        raise BadRequest("there is no repository to try the policy on", advice="name clones, or --organisation")
    own: dict[str, Callable[[], Layer | None]] = {name: partial(_own_of_clone, clone) for name, clone in _clones(options.clones).items()}
    own |= _through_interface(options) if options.organisation else {}
    tried = [_try(name, read, proposed, current) for name, read in own.items()]
    if options.format == "json":
        text = dumps({"schema": "modelguard.org-policy/1", "policy": proposed.origin, "repositories": tried})
    else:
        text = "".join(f"{markdown(str(row['repository']))}: {row['answer']}\n{_listed(row)}" for row in tried)
    answers = {row["answer"] for row in tried}
    unread = ExitCode.CANNOT_DETERMINE if "unread" in answers else ExitCode.CONSISTENT
    return ExitCode.INCONSISTENT if answers & {"refused", "not understood"} else unread, text


def rulesets(options: argparse.Namespace) -> Result:
    """`modelguard org rulesets`."""
    required = workflow(options.uses, options.policy, options.checkout or CHECKOUT)
    rules = ruleset(options.repository_id, options.path, options.ref, options.enforcement)
    both = f"# 1. commit this as {options.path}\n{required}\n# 2. send this to POST /orgs/ORG/rulesets\n{rules}"
    return ExitCode.CONSISTENT, {"ruleset": rules, "workflow": required, "both": both}[options.only]


OPERATIONS: Mapping[str, Callable[[argparse.Namespace], Result]] = {"audit": swept, "policy": check_policy, "rulesets": rulesets}


def _sweep_one(clone: Path, name: str, options: argparse.Namespace, before: str) -> Swept:
    request = AuditRequest(
        repo=clone,
        base="HEAD",
        head="HEAD",
        whole=True,
        policy_file=options.policy,
        offline=options.offline,
        max_download=options.max_download,
        activations=options.activations,
    )
    report = attempt(lambda: (audit(request), _policy_of(clone, options.policy)), what=f"auditing {name}")
    if isinstance(report, Missing):
        open_ = Verdict.CANNOT_DETERMINE
        return Swept(repository=name, commit="", verdict=open_, models=(), found=0, undecided=0, why=report.why, before=before)
    return _row(name, *report, before)


def _policy_of(clone: Path, file: Path | None) -> Policy:
    git = Git(clone)
    try:
        return read_policy(git, git.resolve("HEAD"), file)
    finally:
        git.close()


def _row(name: str, report: Report, rules: Policy, before: str) -> Swept:
    found = [finding for finding in report.findings if _stands(finding)]
    still_open = [finding for finding in report.findings if undecided(finding, rules)]
    return Swept(
        repository=name,
        commit=report.head,
        verdict=report.verdict,
        models=tuple(_model(model, rules) for model in report.models),
        found=len(found),
        undecided=len(still_open),
        notes=report.notes if report.models else (),
        before=before,
    )


def _model(model: ModelReport, rules: Policy) -> SweptModel:
    telling = [
        finding for finding in model.findings if (finding.status is Status.FOUND and not finding.waived) or undecided(finding, rules)
    ]
    named = tuple(dict.fromkeys(finding.rule for finding in telling))
    return SweptModel(subject=model.subject, verdict=decide(model.findings, rules), rules=named)


def _stands(finding: Finding) -> bool:
    return finding.status is Status.FOUND and not finding.waived


def _clones(paths: Sequence[Path]) -> Mapping[str, Path]:
    """Clones by name: those named, and those in a named directory that is none itself."""
    found: dict[str, Path] = {}
    for path in paths:
        below = [path] if _is_clone(path) else sorted(child for child in path.iterdir() if _is_clone(child)) if path.is_dir() else []
        if not below:
            raise BadRequest(f"{path}: neither a clone nor a directory of clones", advice="clone the repositories first")
        for clone in below:
            name = clone.resolve().name.removesuffix(".git")
            found[name if name not in found else str(clone)] = clone
    return found


def _is_clone(path: Path) -> bool:
    return (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir())


def _through_interface(options: argparse.Namespace) -> dict[str, Callable[[], Layer | None]]:
    url = options.api_url or os.environ.get("GITHUB_API_URL") or GITHUB
    access = Access(api_url=url, token=os.environ.get("GITHUB_TOKEN", ""))
    return {name: partial(_own_on_github, access, name, branch) for name, branch in repositories_of(access, options.organisation)}


def _own_on_github(access: Access, name: str, branch: str) -> Layer | None:
    """The policy of a repository on GitHub; None where its default branch has none."""
    data, commit = look_for(access, FilePlace(repository=name, path=FILE_NAME, ref=branch))
    return None if data is None else read_layer(data, f"{FILE_NAME} at {commit[:12]}")


def _own_of_clone(clone: Path) -> Layer | None:
    git = Git(clone)
    try:
        commit = git.head()
        if not commit:
            raise CannotRead(f"{clone} holds no commit", advice="clone it again")
        entry = git.tree(commit).get(FILE_NAME)
        return None if entry is None else read_layer(git.read(entry.oid, 1 << 20), f"{FILE_NAME} at {commit[:12]}")
    finally:
        git.close()


def _try(name: str, read: Callable[[], Layer | None], proposed: Layer, current: Layer | None) -> dict[str, object]:
    """One repository under the proposed policy: what would be refused, and what would be different from today."""
    try:
        own = read()
        policy = layered(proposed, own)
        select(policy)
        today = layered(current, own)
    except BadRequest as error:
        return {"repository": name, "answer": "not understood", "details": [str(error)]}
    except CannotRead as error:
        return {"repository": name, "answer": "unread", "details": [str(error)]}
    changed = _differences(today, policy)
    answer = "refused" if policy.refused else "changed" if changed else "unchanged"
    return {"repository": name, "answer": answer, "digest": policy.digest, "details": [*policy.refused, *changed]}


def _differences(today: Policy, proposed: Policy) -> list[str]:
    before, after = ({item.key: item.value for item in policy.settings() if "." not in item.key} for policy in (today, proposed))
    return [f"{key}: {before.get(key)} becomes {after[key]}" for key in after if after[key] != before.get(key)]


def _listed(row: Mapping[str, object]) -> str:
    details = row["details"]
    return "".join(f"- {markdown(str(line), 600)}\n" for line in details) if isinstance(details, list) else ""


def _layer(file: Path) -> Layer:
    try:
        return read_layer(file.read_bytes(), str(file))
    except OSError as error:
        raise BadRequest(f"{file}: {error.strerror}", advice="check the policy's name") from error


def _named(layer: Layer | None) -> str:
    return "" if layer is None else layered(layer, None).digest


def _previous(file: Path | None) -> Mapping[str, str]:
    """Verdicts by repository of the sweep before."""
    if file is None:
        return {}
    try:
        written = json_object(file.read_bytes()[:MAX_PREVIOUS], str(file))
        return {str(row["repository"]): Verdict(row["verdict"]).value for row in written["repositories"]}
    except (OSError, KeyError, TypeError, ValueError, Malformed) as error:
        raise BadRequest(f"{file}: no sweep of ours ({type(error).__name__})", advice="name a sweep.json") from error


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise CannotPost(f"{folder}: {error.strerror}", advice="check --out") from error
