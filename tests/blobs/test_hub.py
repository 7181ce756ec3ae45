"""The hub as a transport, against the real client and a real server on loopback."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelguard.blobs.base import read, read_small
from modelguard.blobs.hub import HubFolder, open_hub
from modelguard.errors import BadRequest, CannotFetch
from tests.servers.hub import Asked, HubServer

pytest.importorskip("huggingface_hub")

WEIGHTS = os.urandom(3 << 20)
TOKEN = "hf_canaryTOKENcanary"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "config.json").write_bytes(b'{"model_type": "bert"}')
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_bytes(b"{}")
    return folder


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer({"org/name": model, "org/private": model}, tokens={"org/private": TOKEN}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.delenv("HF_HUB_CACHE", raising=False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)  # must not be used unless the caller passes it
        yield server


def opened(reference: str = "org/name", revision: str | None = None, limit: int = 1 << 30, offline: bool = False) -> HubFolder:
    return open_hub(reference, revision=revision, max_download=limit, offline=offline)


def asked(hub: HubServer) -> list[Asked]:
    """What was asked about models; the client also asks for the list of programs that it may run inside, once a process."""
    return [request for request in hub.requests if request.path != "/api/agent-harnesses"]


def refusal(error: CannotFetch | BadRequest) -> str:
    """The message of an error, after checking what holds for every one of them."""
    assert "\n" not in str(error)
    assert "\n" not in error.advice
    assert error.advice
    assert TOKEN not in str(error) + error.advice
    assert "canary" not in str(error) + error.advice
    return str(error)


def test_a_rejected_reference_is_asked_of_nobody(hub: HubServer) -> None:
    for text in ("hf:../..", "//host", "hf:a/b@main#x"):
        with pytest.raises(BadRequest):
            opened(text)
    with pytest.raises(BadRequest):
        opened("org/name@main", revision="main")
    assert asked(hub) == []


def test_resolves_once_and_fetches_only_what_is_opened(hub: HubServer) -> None:
    folder = opened()
    assert folder.ref == f"hf:org/name@{hub.commit('org/name')}"
    assert not folder.pinned
    assert folder.sizes == {"config.json": 22, "model.safetensors": len(WEIGHTS)}
    assert len(asked(hub)) == 1
    assert read_small(folder.open("config.json")) == b'{"model_type": "bert"}'
    assert not any("safetensors" in request.path or "/store/" in request.path for request in asked(hub))
    weights = folder.open("model.safetensors")
    assert weights.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert weights.verified
    assert read(weights, 7, 11) == WEIGHTS[7:18]
    assert folder.open("model.safetensors") is weights
    assert sum("/api/" in request.path for request in asked(hub)) == 1


def test_a_commit_in_the_cache_needs_no_network(hub: HubServer) -> None:
    opened().open("model.safetensors")
    commit = hub.commit("org/name")
    before = len(asked(hub))
    folder = opened(f"hf:org/name@{commit}")
    assert folder.pinned
    assert folder.open("model.safetensors").sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert len(asked(hub)) == before


def test_main_is_asked_again_and_may_have_moved(hub: HubServer, model: Path, tmp_path: Path) -> None:
    first = opened()
    (model / "config.json").write_bytes(b"{}")
    hub.replace("org/name", model)
    second = opened()
    assert first.commit != second.commit == hub.commit("org/name")
    assert read_small(second.open("config.json")) == b"{}"


def test_offline_uses_the_cache_alone(hub: HubServer) -> None:
    with pytest.raises(CannotFetch) as caught:
        opened(offline=True)
    assert "not in the cache" in refusal(caught.value)
    assert asked(hub) == []
    opened().open("model.safetensors")
    before = len(asked(hub))
    folder = opened(offline=True)
    assert folder.commit == hub.commit("org/name")
    assert read(folder.open("model.safetensors"), 0, 8) == WEIGHTS[:8]
    with pytest.raises(CannotFetch, match=r"config\.json: no sound copy is in the cache") as caught:
        folder.open("config.json")
    refusal(caught.value)
    assert len(asked(hub)) == before


def test_a_snapshot_of_another_tool_is_used(hub: HubServer, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download("org/name", endpoint=hub.url, cache_dir=tmp_path / "home" / "hub", token=False)
    before = len(asked(hub))
    offline = opened(offline=True)
    assert offline.open("model.safetensors").sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert offline.open("config.json").verified
    assert len(asked(hub)) == before
    hub.faults["api"] = "500"
    assert opened(revision=hub.commit("org/name")).open("model.safetensors").verified


def test_the_limit_is_checked_before_the_first_byte(hub: HubServer) -> None:
    def all_files(name: str, size: int) -> bool:
        return size > 0

    with pytest.raises(CannotFetch, match=r"3,145,750 bytes, the limit is 3,145,749") as caught:
        open_hub("org/name", revision=None, max_download=len(WEIGHTS) + 21, offline=False, wanted=all_files)
    refusal(caught.value)
    folder = opened(limit=len(WEIGHTS) + 21)
    folder.open("config.json")
    with pytest.raises(CannotFetch, match=r"model\.safetensors .* limit"):
        folder.open("model.safetensors")
    assert not any("/store/" in request.path for request in asked(hub))
    exact = open_hub("org/name", revision=None, max_download=len(WEIGHTS), offline=False, wanted=all_files)
    assert exact.open("model.safetensors").size == len(WEIGHTS)


def test_progress_is_told(hub: HubServer) -> None:
    seen: list[tuple[str, int, int]] = []
    folder = open_hub("org/name", revision=None, max_download=1 << 30, offline=False, progress=lambda *said: seen.append(said))
    folder.open("model.safetensors")
    assert seen[-1] == (f"{folder.ref}/model.safetensors", len(WEIGHTS), len(WEIGHTS))


def test_the_token_is_sent_only_when_given(hub: HubServer) -> None:
    with pytest.raises(CannotFetch, match="no such model") as caught:
        opened("org/private")
    refusal(caught.value)
    assert all(request.authorization is None for request in asked(hub))
    folder = open_hub("org/private", revision=None, max_download=1 << 30, offline=False, token=TOKEN)
    assert read(folder.open("model.safetensors"), 0, 4) == WEIGHTS[:4]
    stored = [request for request in asked(hub) if request.path.startswith("/store/")]
    assert stored
    assert all(request.authorization is None for request in stored), "the token must not follow a redirect to another host"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("404", "no such model"),
        ("no-revision", "not this revision"),
        ("401", r"refuses access \(401\)"),
        ("403", r"refuses access \(403\)"),
        ("gated", "is gated"),
        ("429", "answers 429"),
        ("500", "answers 500"),
        ("junk", "not one of a hub"),
    ],
)
def test_api_faults_become_one_line(hub: HubServer, fault: str, said: str) -> None:
    hub.faults["api"] = fault
    with pytest.raises(CannotFetch, match=said) as caught:
        opened()
    assert refusal(caught.value).startswith("hf:org/name@main: ")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no-file", "does not have this file"),
        ("gated", "is gated"),
        ("401", "refuses access"),
        ("wrong", "not the file"),
        ("long", "more arrives"),
    ],
)
def test_file_faults_become_one_line(hub: HubServer, fault: str, said: str) -> None:
    hub.faults["model.safetensors"] = fault
    folder = opened()
    with pytest.raises(CannotFetch, match=said) as caught:
        folder.open("model.safetensors")
    assert refusal(caught.value).startswith(f"{folder.ref}/model.safetensors: ")
    hub.faults.clear()
    assert opened().open("model.safetensors").verified, "a failure must leave nothing behind in the cache"


def test_wrong_content_of_a_small_file_is_caught_too(hub: HubServer) -> None:
    hub.faults["config.json"] = "wrong"
    with pytest.raises(CannotFetch, match="not the file that the hub lists"):
        opened().open("config.json")


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "said"), [("cut", "could not be reached|not of the size"), ("503", "answers 503")])
def test_patient_faults_become_one_line(hub: HubServer, fault: str, said: str) -> None:
    hub.faults["model.safetensors"] = fault
    with pytest.raises(CannotFetch, match=said) as caught:
        opened().open("model.safetensors")
    refusal(caught.value)


def test_a_slow_hub_is_not_an_error(hub: HubServer) -> None:
    hub.faults.update({"api": "slow", "model.safetensors": "slow"})
    assert opened().open("model.safetensors").verified


def test_a_poisoned_cache_is_not_trusted(hub: HubServer, tmp_path: Path) -> None:
    opened().open("model.safetensors")
    blob = tmp_path / "home" / "hub" / "models--org--name" / "blobs" / hashlib.sha256(WEIGHTS).hexdigest()
    blob.chmod(0o644)
    blob.write_bytes(bytes(len(WEIGHTS)))
    with pytest.raises(CannotFetch, match="no sound copy"):
        opened(offline=True).open("model.safetensors")
    assert read(opened().open("model.safetensors"), 0, 8) == WEIGHTS[:8]


def test_a_dead_hub_and_a_bad_endpoint(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CannotFetch, match="could not be reached") as caught:
        opened()
    refusal(caught.value)
    for endpoint in ("not an address", "ftp://host", "http://", "http://[", "http://host:99999"):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(BadRequest, match="HF_ENDPOINT"):
            opened()
