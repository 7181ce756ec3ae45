"""Gated and private bases on pull requests without secrets: judged from a fingerprint that the base commit's registry holds, or left open.

The hub answers 401 or 403 as the real one does. A token goes to a base that the base policy names, and to no other that a card declares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from demo.hub_server import HubServer
from modelguard.cli import main
from modelguard.policy import parse
from tests.fingerprint.zoo import Tensors, model, rotated, tuned
from tests.registry.test_doors import saved
from tests.servers.github import GitHubServer
from tests.test_action import TOKEN, Job, commit

BASE = model(0)
SECRET = "hf_secret"
CARD = b"---\nbase_model: lab/base\nbase_model_relation: finetune\n---\n# A model\n"
WITH_REGISTRY = b"version: 1\nregistry: known.sqlite\n"
REFUSALS = ("401", "403", "gated", "404")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    saved(tmp_path / "base", BASE)
    saved(tmp_path / "hidden", model(7))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with HubServer({"lab/base": tmp_path / "base", "lab/hidden": tmp_path / "hidden"}, tokens={"lab/base": SECRET}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with GitHubServer(token=TOKEN) as github:
        yield Job(tmp_path, github)


def packed(tensors: Tensors) -> bytes:
    return save({name: np.ascontiguousarray(value) for name, value in tensors.items()})


def registry(tmp_path: Path, *more: str, name: str = "lab/base") -> bytes:
    place = tmp_path / "known.sqlite"
    assert main(["registry", "add", str(tmp_path / "base"), "--name", name, "--registry", str(place), "--quiet", *more]) == 0
    return place.read_bytes()


def pull(job: Job, tensors: Tensors, base: Mapping[str, bytes], *, fork: bool = True) -> None:
    job.base = commit(job.repo, dict(base))
    job.change({"m/model.safetensors": packed(tensors), "m/README.md": CARD}, fork=fork)


def said(job: Job, rule: str) -> tuple[str, str]:
    told = [item for item in job.document["findings"] if item["rule"] == rule]
    return told[0]["status"], told[0]["text"]


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_withheld_base_is_judged_by_its_fingerprint(job: Job, hub: HubServer, tmp_path: Path, fault: str) -> None:
    hub.faults["api"] = fault
    pull(job, tuned(BASE, seed=3), {"known.sqlite": registry(tmp_path), ".modelguard.yml": WITH_REGISTRY})
    assert job.run() == 0
    status, text = said(job, "weights-base-mismatch")
    assert status == "ok"
    assert "registry:lab/base" in text
    assert "judged by its fingerprint in known.sqlite" in text
    assert "a chance of at most 10^-" in text
    assert "tells neither permuted units" in text
    weights = job.document["models"][0]["weights"]
    assert (weights["relation"], weights["basis"]) == ("derived", "exact")
    assert [item["transformation"] for item in weights["power"] if not item["detectable"]]
    assert {item["status"] for item in job.document["findings"] if item["rule"] == "weights-untouched"} == {"not-applicable"}
    comment = job.github.comments(7)[0].body
    assert "judged by its fingerprint" in comment


def test_the_same_weights_are_known_by_their_digest(job: Job, hub: HubServer, tmp_path: Path) -> None:
    pull(job, BASE, {"known.sqlite": registry(tmp_path), ".modelguard.yml": WITH_REGISTRY})
    assert job.run() in (0, 1)
    assert job.document["models"][0]["weights"]["relation"] in ("identical", "derived")


def test_weights_that_a_fingerprint_does_not_show_stay_open(job: Job, hub: HubServer, tmp_path: Path) -> None:
    for number, tensors in enumerate((model(4), rotated(BASE))):
        folder = tmp_path / f"job{number}"
        folder.mkdir()
        with GitHubServer(token=TOKEN) as github:
            other = Job(folder, github)
            known = registry(tmp_path, "--replace") if number else registry(tmp_path)
            pull(other, tensors, {"known.sqlite": known, ".modelguard.yml": WITH_REGISTRY})
            assert other.run() == 2
            status, text = said(other, "weights-base-mismatch")
            assert (status, "sketches alone deny none" in text) == ("unknown", True)
            assert not [item for item in other.document["findings"] if item["status"] == "found"]


@pytest.mark.parametrize("fault", REFUSALS)
def test_without_a_fingerprint_one_line_says_what_to_do(job: Job, hub: HubServer, fault: str) -> None:
    hub.faults["api"] = fault
    pull(job, tuned(BASE, seed=3), {".modelguard.yml": b"version: 1\n"})
    assert job.run() == 2
    assert job.outputs["verdict"] == "cannot-determine"
    comment = job.github.comments(7)[0].body
    open_ = [line for line in comment.partition("**Not determined**")[2].splitlines() if line.startswith("- ") and "lab/base" in line]
    assert len(open_) == 1
    assert "modelguard registry add" in open_[0]
    assert "hf-token" in open_[0]
    assert "Traceback" not in comment


def test_a_registry_without_that_base_leaves_it_open(job: Job, hub: HubServer, tmp_path: Path) -> None:
    pull(job, tuned(BASE, seed=3), {"known.sqlite": registry(tmp_path, name="lab/another"), ".modelguard.yml": WITH_REGISTRY})
    assert job.run() == 2
    assert said(job, "weights-base-mismatch")[0] == "unknown"


def test_a_policy_that_requires_activations_is_not_met_by_a_fingerprint(job: Job, hub: HubServer, tmp_path: Path) -> None:
    rules = WITH_REGISTRY + b"require: [displacement]\n"
    pull(job, tuned(BASE, seed=3), {"known.sqlite": registry(tmp_path), ".modelguard.yml": rules})
    assert job.run() == 2


def test_a_token_goes_to_the_base_that_base_policy_names(job: Job, hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    named = f"version: 1\nmodels:\n  - {{path: 'm/**', base: 'hf:lab/base@{hub.commit('lab/base')}'}}\n"
    pull(job, tuned(BASE, seed=3), {".modelguard.yml": named.encode()}, fork=False)
    assert job.run(hf_token=SECRET) == 0
    assert said(job, "weights-base-mismatch")[0] == "ok"
    assert {one.authorization for one in hub.requests if "lab/base" in one.path} == {f"Bearer {SECRET}"}
    everything = capsys.readouterr().out + "".join(path.read_text() for path in (job.temp / "modelguard").iterdir())
    assert SECRET not in everything


@pytest.mark.parametrize(
    "policy",
    ["version: 1\n", "version: 1\nmodels: [{path: 'm/**'}]\n", "version: 1\nmodels: [{path: 'other/**', base: 'hf:lab/other'}]\n"],
)
def test_a_token_goes_to_no_base_that_a_card_alone_declares(job: Job, hub: HubServer, policy: str) -> None:
    pull(job, tuned(BASE, seed=3), {".modelguard.yml": policy.encode()}, fork=False)
    assert job.run(hf_token=SECRET) == 2
    assert hub.requests
    assert {one.authorization for one in hub.requests} == {None}


def test_a_head_that_names_the_base_in_its_own_policy_gets_no_token(job: Job, hub: HubServer) -> None:
    job.base = commit(job.repo, {".modelguard.yml": b"version: 1\n"})
    own = b"version: 1\nmodels: [{path: 'm/**', base: 'hf:lab/base'}]\n"
    job.change({"m/model.safetensors": packed(tuned(BASE, seed=3)), "m/README.md": CARD, ".modelguard.yml": own})
    assert job.run(hf_token=SECRET) == 2
    assert {one.authorization for one in hub.requests} == {None}


def test_what_a_policy_names() -> None:
    policy = parse(
        b"version: 1\nmodels: [{path: a, base: 'hf:lab/base@main'}, {path: b}]\ncontrols: ['hf:lab/control', 'registry:lab/x']\n", "p"
    )
    assert [name for name in ("lab/base", "lab/control", "lab/x", "lab/bas", "", "LAB/base") if policy.names(name)] == [
        "lab/base",
        "lab/control",
    ]
