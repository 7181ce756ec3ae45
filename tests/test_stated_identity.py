"""A pointer names its object by sha256: where the hub or a registry states the base's, equal names are equal bytes, and none is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load, save

from demo.hub_server import HubServer
from modelguard.cli import main
from modelguard.registry.opening import open_registry
from modelguard.sketches.sketch import fingerprint
from modelguard.types.registry import Entry
from tests.fingerprint.zoo import model
from tests.repositories import Repository, pointer, pointer_to
from tests.servers.files import file_server
from tests.test_lfs_audit import LOG

CARD = b"---\nbase_model: lab/base\n---\n"
FINE_TUNE = b"---\nbase_model: lab/base\nbase_model_relation: finetune\n---\n"
TENSORS = model(0)
WHOLE, OTHER = save(TENSORS), save(model(1))
NAMES = sorted(TENSORS)
HALVES = {
    "model-00001-of-00002.safetensors": save({name: TENSORS[name] for name in NAMES[: len(NAMES) // 2]}),
    "model-00002-of-00002.safetensors": save({name: TENSORS[name] for name in NAMES[len(NAMES) // 2 :]}),
}
INDEX = "model.safetensors.index.json"


def index(*, swapped: bool = False) -> bytes:
    first, second = HALVES
    homes = {name: first if (place < len(NAMES) // 2) is not swapped else second for place, name in enumerate(NAMES)}
    return json.dumps({"metadata": {}, "weight_map": homes}).encode()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    root = tmp_path_factory.mktemp("hub")
    files: dict[str, dict[str, bytes]] = {
        "base": {"model.safetensors": WHOLE, "README.md": b"# base\n"},
        "shards": {**HALVES, INDEX: index()},
    }
    for name, content in files.items():
        (root / name).mkdir()
        for file, data in content.items():
            (root / name / file).write_bytes(data)
    return {name: root / name for name in files}


@pytest.fixture
def hub(folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    served = {"lab/base": folders["base"], "lab/shards": folders["shards"], "lab/gated": folders["base"]}
    with HubServer(served, tokens={"lab/gated": "hf_secret"}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def audited(path: Path, capsys: pytest.CaptureFixture[str], files: Mapping[str, bytes], *options: str) -> tuple[int, dict[str, Any]]:
    repository = Repository(path / "repository")
    base = repository.commit({"notes.txt": b""})
    head = repository.commit(files)
    where = ("--repo", str(repository.path), "--base", base, "--head", head)
    code = main(["audit", *where, "--format", "json", "--quiet", *options])
    return code, json.loads(capsys.readouterr().out)


def answer(document: dict[str, Any], rule: str) -> tuple[str, str]:
    found = next(finding for finding in document["findings"] if finding["rule"] == rule)
    return found["status"], found["text"]


def fetched(hub: HubServer) -> list[str]:
    """The files of models that were asked for."""
    return [asked.path for asked in hub.requests if "/resolve/" in asked.path or asked.path.startswith("/store/")]


def test_a_pointer_to_the_bases_own_file_passes_with_no_object_anywhere(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = audited(tmp_path, capsys, {"m/model.safetensors": pointer(WHOLE), "m/README.md": CARD})
    assert code == 0, document
    weights = document["models"][0]["weights"]
    digest = f"sha256:{hashlib.sha256(WHOLE).hexdigest()}"
    assert (weights["relation"], weights["basis"], weights["left"]["digest"], weights["right"]["digest"]) == (
        "identical",
        "bytes",
        digest,
        digest,
    )
    assert document["run"]["bytes_read"] == 0
    assert fetched(hub) == []
    status, text = answer(document, "weights-base-mismatch")
    assert status == "ok"
    assert "the object itself was not read" in text
    status, text = answer(document, "checkpoint-readable")
    assert status == "unknown"  # and blocks nothing
    assert "the object itself was not read" in text


@pytest.mark.parametrize("evidence", ["checkpoint", "kinship"])
def test_a_policy_that_requires_the_weights_has_them_read(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], evidence: str
) -> None:
    policy = tmp_path / "policy.yml"
    policy.write_text(f"version: 1\nrequire: [{evidence}]\n")
    committed = {"m/model.safetensors": pointer(WHOLE), "m/README.md": CARD}
    code, document = audited(tmp_path, capsys, committed, "--policy", str(policy))
    status, text = answer(document, "checkpoint-readable")
    assert (code, status) == (0, "ok"), document
    assert "its content was held against its sha256" in text
    assert len([path for path in fetched(hub) if path.startswith("/store/")]) == 1  # the base's copy serves as both


def test_the_lfs_server_is_asked_for_what_is_not_known_alone(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = "/org/models.git/info/lfs"
    with file_server() as files:
        files.posts[f"{endpoint}/objects/batch"] = lambda body: (404, b"")
        monkeypatch.setenv("MODELGUARD_TRUSTED_ORIGINS", files.url)
        for name, content, asked in (("same", WHOLE, False), ("other", OTHER, True)):
            committed = {"m/model.safetensors": pointer(content), "m/README.md": CARD}
            code, _ = audited(tmp_path / name, capsys, committed, "--lfs-url", files.url + endpoint)
            assert (code, bool(files.asked)) == (2 if asked else 0, asked)


def test_a_listing_of_the_cache_is_enough_offline(hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    committed = {"m/model.safetensors": pointer(WHOLE), "m/README.md": CARD}
    assert audited(tmp_path / "never seen", capsys, committed, "--offline")[0] == 2
    assert audited(tmp_path / "online", capsys, committed)[0] == 0
    before = len(hub.requests)
    code, document = audited(tmp_path / "offline", capsys, committed, "--offline", "--out", str(tmp_path / "out"))
    assert (code, len(hub.requests)) == (0, before)
    assert document["models"][0]["weights"]["relation"] == "identical"
    for name in ("report.html", "comment.md"):
        assert "the object itself was not read" in (tmp_path / "out" / name).read_text()


def test_a_pointer_to_another_object_does_not(hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = audited(tmp_path, capsys, {"m/model.safetensors": pointer(OTHER), "m/README.md": CARD})
    assert code == 2
    assert document["models"][0]["weights"] is None
    assert "whose object is not here" in answer(document, "weights-base-mismatch")[1]


@pytest.mark.parametrize("size", [0, len(WHOLE) - 1, len(WHOLE) + 1, 10**17])
def test_the_right_name_with_a_wrong_size_is_refused(hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int) -> None:
    oid = hashlib.sha256(WHOLE).hexdigest()
    code, document = audited(tmp_path, capsys, {"m/model.safetensors": pointer_to(oid, size), "m/README.md": CARD})
    assert code == 2
    status, text = answer(document, "weights-base-mismatch")
    assert status == "unknown"
    assert f"with {size} bytes, and that file has {len(WHOLE)}" in text


def test_the_bases_bytes_are_no_fine_tune(hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, document = audited(tmp_path, capsys, {"m/model.safetensors": pointer(WHOLE), "m/README.md": FINE_TUNE})
    assert answer(document, "weights-untouched")[0] == "found"
    assert fetched(hub) == []


def test_a_log_is_held_against_the_very_bytes_of_the_base(hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a log claims needs the weights: they are the base's, and are read there."""
    files = {"m/model.safetensors": pointer(WHOLE), "m/README.md": CARD, "m/trainer_state.json": LOG}
    _, document = audited(tmp_path, capsys, files)
    assert answer(document, "log-cannot-explain-weights")[0] != "not-applicable"
    assert fetched(hub)


def shards(*, swapped: bool = False, **replaced: bytes) -> dict[str, bytes]:
    card = {"m/README.md": CARD.replace(b"lab/base", b"lab/shards"), f"m/{INDEX}": index(swapped=swapped)}
    first, second = HALVES
    return {**card, f"m/{first}": pointer(HALVES[first]), f"m/{second}": replaced.get("second", pointer(HALVES[second]))}


def test_every_shard_must_be_the_bases(hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = audited(tmp_path / "same", capsys, shards())
    assert code == 0, document
    assert document["models"][0]["weights"]["relation"] == "identical"
    assert document["run"]["bytes_read"] == 0
    assert not [path for path in fetched(hub) if not path.endswith(INDEX)]
    assert "the sha256 of its 2 files are" in answer(document, "weights-base-mismatch")[1]
    for name, files in {
        "other": shards(second=pointer(OTHER)),
        "text": shards(second=b"no pointer"),
        "swapped": shards(swapped=True),
    }.items():
        code, document = audited(tmp_path / name, capsys, files)
        assert (code, document["models"][0]["weights"]) == (2, None), name


def test_shards_that_are_the_bases_come_from_there(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the model is trained on, half is left alone: the LFS server has, and is asked for, the changed shard only."""
    second = {name: tensor + 1e-3 for name, tensor in load(HALVES["model-00002-of-00002.safetensors"]).items()}
    changed = save({name: tensor.astype(TENSORS[name].dtype) for name, tensor in second.items()})
    endpoint, oid = "/org/models.git/info/lfs", hashlib.sha256(changed).hexdigest()
    with file_server() as files:

        def batch(body: bytes) -> tuple[int, bytes]:
            (asked,) = json.loads(body)["objects"]
            told = {**asked, "actions": {"download": {"href": f"{files.url}/object/{asked['oid']}"}}}
            return 200, json.dumps({"objects": [told]}).encode()

        files.posts[f"{endpoint}/objects/batch"] = batch
        files.content[f"/object/{oid}"] = changed
        monkeypatch.setenv("MODELGUARD_TRUSTED_ORIGINS", files.url)
        committed = shards(second=pointer(changed))
        code, document = audited(tmp_path, capsys, committed, "--lfs-url", files.url + endpoint, "--activations", "off")
        assert {path for path, _ in files.asked if path.startswith("/object/")} == {f"/object/{oid}"}
    weights = document["models"][0]["weights"]
    assert (code, weights["relation"]) == (0, "derived"), document
    assert weights["difference"]["identical"] == len(NAMES) // 2
    assert answer(document, "checkpoint-readable")[0] == "ok"
    assert "its content was held against its sha256" in answer(document, "checkpoint-readable")[1]


def test_an_object_at_hand_is_read_and_held_against_its_name(hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Repository(tmp_path / "repository").store(WHOLE)
    code, document = audited(tmp_path, capsys, {"m/model.safetensors": pointer(WHOLE), "m/README.md": CARD})
    assert code == 0
    status, text = answer(document, "checkpoint-readable")
    assert status == "ok"
    assert "its content was held against its sha256" in text
    assert document["models"][0]["weights"]["relation"] == "identical"


def registry(path: Path, folder: Path, **changes: object) -> Path:
    """A registry that knows the gated base."""
    from modelguard.references import Reach, open_reference

    made = replace(fingerprint(open_reference(str(folder), Reach())[1]), **changes)  # type: ignore[arg-type]
    store = open_registry(str(path), create=True)
    store.add([Entry(name="lab/gated", fingerprint=made)])
    store.close()
    return path


def test_a_base_that_may_not_be_read_is_known_by_the_registry(
    hub: HubServer, folders: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"m/model.safetensors": pointer(WHOLE), "m/README.md": CARD.replace(b"lab/base", b"lab/gated")}
    known = registry(tmp_path / "known.sqlite", folders["base"], digest=f"sha256:{hashlib.sha256(WHOLE).hexdigest()}")
    code, document = audited(tmp_path / "known", capsys, files, "--registry", str(known))
    weights = document["models"][0]["weights"]
    assert (code, weights["relation"], weights["right"]["ref"]) == (0, "identical", "registry:lab/gated"), document
    for name, digest in {"none": None, "another": f"sha256:{'0' * 64}"}.items():
        other = registry(tmp_path / f"{name}.sqlite", folders["base"], digest=digest)
        code, document = audited(tmp_path / name, capsys, files, "--registry", str(other))
        assert (code, document["models"][0]["weights"]) == (2, None), name
