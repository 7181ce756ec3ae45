"""Attempts of a pull request to weaken its own judgement, each against a real repository through `modelguard audit`: none succeeds.

The first table stands on a training log with a hole in it, the second on weights of another model than the pinned base; without an
attempt both are inconsistent (exit 1). An attempt succeeds if it earns 0. The third table holds the same weapons in the hands of a
repository's own policy (the base commit's) against its organisation's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from demo.hub_server import HubServer
from modelguard.cli import main
from tests.fingerprint.zoo import Tensors, model
from tests.repositories import Content, Link, Repository, Submodule, pointer_to

OFF = ("weights-base-mismatch", "weights-untouched", "weights-undeclared-base", "log-cannot-explain-weights", "activations-base-mismatch")
ONLY_LOGS = "version: 1\nrequire: [log]\nrules:\n" + "".join(f"  {rule}: {{enabled: false}}\n" for rule in OFF)
LENIENT = "version: 1\nblock: {severity: high, confidence: high}\nrules:\n  log-gap: {enabled: false}\n"
WAIVED = "waivers:\n  - {{rule: log-gap, subject: {}, reason: known, owner: me, expires: {}{}}}\n"
WEIGHTS = save({"w": np.arange(4096, dtype=np.float32)})
CARD = b"---\nbase_model: lab/base\n---\n"


def log(*, whole: bool) -> bytes:
    """A trainer's state over 500 steps; a dishonest one lacks a stretch."""
    steps = [step for step in range(10, 501, 10) if whole or not 200 <= step <= 300]
    rows = [{"step": step, "epoch": step / 100, "loss": 2.0 / (1 + step / 50), "learning_rate": 1e-4} for step in steps]
    return json.dumps({"global_step": 500, "max_steps": 500, "logging_steps": 10, "save_steps": 500, "log_history": rows}).encode()


GAP: Mapping[str, Content] = {
    "m/model.safetensors": WEIGHTS,
    "m/README.md": CARD,
    "m/trainer_state.json": log(whole=False),
}


@dataclass(frozen=True)
class Attempt:
    """What stands in the base commit beside the policy, what the pull request adds to the lie, and what must come of it."""

    change: Mapping[str, Content] = field(default_factory=dict)
    base: Mapping[str, Content] = field(default_factory=dict)
    code: int = 1
    said: str = ""


def workflow(text: str) -> bytes:
    return f"on: pull_request\njobs:\n  m:\n    steps:\n      - uses: org/modelguard@v1\n        with: {{{text}}}\n".encode()


POLICY = ".modelguard.yml"
ON_LOGS: dict[str, Attempt] = {
    "edits the policy": Attempt({POLICY: LENIENT.encode()}, said="edits .modelguard.yml: it was judged under the base version"),
    "deletes the policy": Attempt({POLICY: None}, said="edits .modelguard.yml"),
    "replaces the policy by a link": Attempt({POLICY: Link("m/lenient.yml"), "m/lenient.yml": LENIENT.encode()}, said="not followed"),
    "replaces the policy by a submodule": Attempt({POLICY: Submodule()}, said="not followed"),
    "waives itself": Attempt({POLICY: (ONLY_LOGS + WAIVED.format("m", "2999-01-01", "")).encode()}, said="edits .modelguard.yml"),
    "a policy of another case": Attempt({".ModelGuard.yml": LENIENT.encode()}, said="read by nobody"),
    "a policy of another suffix": Attempt({".modelguard.yaml": LENIENT.encode()}, said="read by nobody"),
    "a policy beside the model": Attempt({f"m/{POLICY}": LENIENT.encode()}, said="read by nobody"),
    "a second document in the policy": Attempt({POLICY: f"{ONLY_LOGS}---\n{LENIENT}".encode()}, said="edits .modelguard.yml"),
    "a key twice in the policy": Attempt({POLICY: f"{ONLY_LOGS}rules: {{}}\n".encode()}, said="edits .modelguard.yml"),
    "a merge key in the policy": Attempt({POLICY: b"x: &x {severity: low}\nversion: 1\nblock: {<<: *x}\n"}, said="edits .modelguard.yml"),
    "a huge policy": Attempt({POLICY: b"#" * (2 << 20)}, said="edits .modelguard.yml"),
    "edits the workflow": Attempt({".github/workflows/modelguard.yml": workflow("fail-on: never")}, said="look at it yourself"),
    "adds a code owner": Attempt({".github/CODEOWNERS": b"* @me\n"}, said="look at it yourself"),
    "names an LFS server": Attempt({".lfsconfig": b"[lfs]\nurl = http://127.0.0.1:9/\n"}, said="had no say"),
    "hides files by attributes": Attempt({".gitattributes": b"* -diff filter=x export-ignore binary\n"}, said="had no say"),
    "attributes in the model's directory": Attempt({"m/.gitattributes": b"* filter=lfs -text\n"}, said="had no say"),
    "drops the log": Attempt({"m/trainer_state.json": None}, code=2),
    "links to an honest log": Attempt(
        {"m/trainer_state.json": Link("../honest/trainer_state.json")}, {"honest/trainer_state.json": log(whole=True)}, code=2
    ),
    "a log that is an LFS pointer": Attempt({"m/trainer_state.json": pointer_to("ab" * 32, 12345)}, code=2),
    "weights without a suffix": Attempt({"m/model.safetensors": None, "m/weights": WEIGHTS}),
    "weights with another suffix": Attempt({"m/model.safetensors": None, "m/model.dat": WEIGHTS}),
    "weights in capitals": Attempt({"m/model.safetensors": None, "m/MODEL.SAFETENSORS": WEIGHTS}),
    "weights behind a pointer of no name": Attempt({"m/model.safetensors": None, "m/blob": pointer_to("cd" * 32, 5 << 20)}, code=1),
    "weights behind a link": Attempt({"m/model.safetensors": Link("../other/model.safetensors")}, {"other/model.safetensors": WEIGHTS}),
    "a directory of weights becomes a link": Attempt(
        {**dict.fromkeys(GAP), "m": Link("other")}, {"m/model.safetensors": WEIGHTS, "other/model.safetensors": WEIGHTS}, code=2
    ),
    "a directory of weights becomes a submodule": Attempt(
        {**dict.fromkeys(GAP), "m": Submodule()}, {"m/model.safetensors": WEIGHTS}, code=2
    ),
    "unseen weights behind a pointer of no name": Attempt(
        {"m/model.safetensors": None, "m/blob": pointer_to("cd" * 32, 5 << 20), "m/trainer_state.json": log(whole=True)}, code=2
    ),
    "unseen weights behind a link": Attempt(
        {"m/model.safetensors": Link("/tmp/model.safetensors"), "m/trainer_state.json": log(whole=True)}, code=2, said="not followed"
    ),
    "a path that speaks to the runner": Attempt({**dict.fromkeys(GAP), **{f"n\n::x::\n{path}": file for path, file in GAP.items()}}),
    "an expired waiver": Attempt(base={POLICY: (ONLY_LOGS + WAIVED.format("m", "2020-01-01", "")).encode()}, said="covers nothing"),
    "another model's waiver": Attempt(base={POLICY: (ONLY_LOGS + WAIVED.format("n", "2999-01-01", "")).encode()}, said="covers nothing"),
    "another finding's waiver": Attempt(base={POLICY: (ONLY_LOGS + WAIVED.format("m", "2999-01-01", ", fingerprint: f-0")).encode()}),
}  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "somebody@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    return Repository(tmp_path / "repository")


def audited(repository: Repository, capsys: pytest.CaptureFixture[str], *options: str, base: str = "main") -> tuple[int, dict[str, Any]]:
    where = ("--repo", str(repository.path), "--base", base, "--head", "pr")
    code = main(["audit", *where, "--activations", "off", "--format", "json", *options])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else {"stopped": captured.err, "notes": []}


def lie(repository: Repository, base: Mapping[str, Content], change: Mapping[str, Content]) -> None:
    """The base commit on main and the pull request on pr."""
    repository.commit(base)
    repository.git("branch", "--quiet", "--force", "pr")
    repository.git("symbolic-ref", "HEAD", "refs/heads/pr")
    repository.commit(change)
    repository.git("symbolic-ref", "HEAD", "refs/heads/main")
    repository.git("read-tree", "main")


def test_without_an_attempt_the_lie_is_seen_and_the_truth_passes(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    lie(repository, {POLICY: ONLY_LOGS.encode()}, GAP)
    assert audited(repository, capsys)[0] == 1
    lie(repository, {}, {**GAP, "m/trainer_state.json": log(whole=True)})
    assert audited(repository, capsys)[0] == 0


def test_there_are_enough_attempts() -> None:
    assert len(ON_LOGS) + len(ON_WEIGHTS) + len(ON_HISTORY) + len(ON_THE_ORGANISATION) >= 25


@pytest.mark.parametrize("name", ON_LOGS)
def test_a_pull_request_cannot_weaken_its_own_judgement(name: str, repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    attempt = ON_LOGS[name]
    lie(repository, {POLICY: ONLY_LOGS.encode(), **attempt.base}, {**GAP, **attempt.change})
    code, document = audited(repository, capsys)
    assert code == attempt.code, document
    assert any(attempt.said in note for note in document["notes"]) or not attempt.said, document["notes"]


def _replaced(repository: Repository) -> None:
    strict, lenient = (repository.blob(text.encode()) for text in (ONLY_LOGS, LENIENT))
    repository.git("replace", strict, lenient)


def _old_fork(repository: Repository) -> None:
    """The pull request grew from a commit with a lenient policy; its target has a strict one by now."""
    repository.commit({POLICY: ONLY_LOGS.encode()})


ON_HISTORY = {"replaces the policy's object": (ONLY_LOGS, _replaced), "forks where policy was lenient": (LENIENT, _old_fork)}


@pytest.mark.parametrize("name", ON_HISTORY)
def test_history_weakens_nothing(name: str, repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    policy, arrange = ON_HISTORY[name]
    lie(repository, {POLICY: policy.encode()}, GAP)
    arrange(repository)
    assert audited(repository, capsys)[0] == 1


PIN = "version: 1\nmodels: [{path: 'm/**', base: hf:lab/base}]\n"
OTHERS_CARD = b"---\nbase_model: lab/other\n---\n"
ON_WEIGHTS: dict[str, dict[str, Content]] = {
    "a card that names another base": {"m/README.md": OTHERS_CARD},
    "a model that leaves its entry": {**dict.fromkeys(("m/model.safetensors", "m/README.md")), "n/README.md": OTHERS_CARD},
    "an adapter's configuration beside full weights": {
        "m/README.md": OTHERS_CARD,
        "m/adapter_config.json": b'{"base_model_name_or_path": "lab/other", "peft_type": "LORA"}',
    },
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    for name, seed in {"base": 0, "other": 1}.items():
        (tmp_path / name).mkdir()
        save_file(model(seed), tmp_path / name / "model.safetensors")
    with HubServer({"lab/base": tmp_path / "base", "lab/other": tmp_path / "other"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        yield server


@pytest.mark.parametrize("name", ON_WEIGHTS)
def test_a_pinned_base_stays_pinned(name: str, repository: Repository, hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    weights: Tensors = model(1)
    where = "n" if "n/README.md" in ON_WEIGHTS[name] else "m"
    base = {POLICY: PIN.encode(), "m/model.safetensors": save(model(0)), "m/README.md": CARD}
    lie(repository, base, {**ON_WEIGHTS[name], f"{where}/model.safetensors": save(weights)})
    code, document = audited(repository, capsys)
    finding = next(finding for finding in document["findings"] if finding["rule"] == "weights-base-mismatch")
    assert (code, finding["status"]) == (1, "found"), document
    if where == "n":
        assert any("held to the base that policy pins for m/model.safetensors" in note for note in document["notes"])


ON_THE_ORGANISATION = {
    "blocks nothing": ("block: {severity: high, confidence: high}\nrules: {log-gap: {severity: low}}", "rules.log-gap.severity to low"),
    "switches the rule off": ("rules: {log-gap: {enabled: false}}", "rules.log-gap.enabled to false"),
    "allows half of the log": ("rules: {log-gap: {max-missing: 50%}}", "rules.log-gap.max-missing to 50%"),
    "waives what may not be waived": (WAIVED.format("m", "2999-01-01", "").removesuffix("\n"), "a waiver of log-gap"),
    "takes the organisation's part": ("organisation: {no-waivers: []}\n" + WAIVED.format("m", "2999-01-01", ""), "sets organisation to"),
}


@pytest.mark.parametrize("name", ON_THE_ORGANISATION)
def test_a_repository_cannot_loosen_its_organisations_policy(
    name: str, repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, said = ON_THE_ORGANISATION[name]
    above = tmp_path / "organisation.yml"
    above.write_text(ONLY_LOGS + "organisation: {no-waivers: [log-gap]}\n")
    lie(repository, {POLICY: f"version: 1\n{text}\n".encode()}, GAP)
    code, document = audited(repository, capsys, "--policy", str(above))
    assert code == 1
    assert [note for note in document["notes"] if said in note and "refused" in note], document["notes"]


def test_a_repository_names_no_registry_outside_its_base_commit(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    above, outside = tmp_path / "organisation.yml", tmp_path / "registry.sqlite"
    above.write_text("version: 1\nrules:\n" + "".join(f"  {rule}: {{enabled: false}}\n" for rule in OFF if "undeclared" not in rule))
    outside.write_bytes(b"")
    for address in (str(outside), "postgresql://127.0.0.1:9/x"):
        lie(repository, {POLICY: f"version: 1\nregistry: {address}\n".encode()}, {**GAP, "m/trainer_state.json": log(whole=True)})
        code, document = audited(repository, capsys, "--policy", str(above))
        finding = next(finding for finding in document["findings"] if finding["rule"] == "weights-undeclared-base")
        assert (code, finding["status"]) == (2, "unknown")
        assert "is no file of the base commit" in finding["why"]
