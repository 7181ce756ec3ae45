"""`https://` references of the command line, read by ranges from a server on loopback that the operator trusts."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from modelguard.blobs.http import origin, trusted_origins
from modelguard.cli import main
from modelguard.errors import BadRequest, CannotFetch, CannotRead
from modelguard.references import Reach, open_reference
from tests.servers.files import Files, file_server
from tests.weights import content_of, encode, random, sharded, write

WEIGHTS = encode(random())
BIG = encode(random(3, {"a.weight": (512, 512), "b.weight": (512, 512)}))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    with file_server() as files:
        files.content |= {f"/m/{name}": content for name, content in sharded([random(1, {"a": (2,)}), random(2, {"b": (2,)})]).items()}
        files.content |= {"/one/model.safetensors": WEIGHTS, "/big/model.safetensors": BIG, "/one/config.json": b'{"model_type": "x"}'}
        monkeypatch.setenv("MODELGUARD_TRUSTED_ORIGINS", f"https://mirror.example, {files.url}")
        yield files


def test_a_file_is_read_by_ranges(server: Files, tmp_path: object) -> None:
    folder, checkpoint = open_reference(f"{server.url}/big/model.safetensors", Reach())
    assert set(checkpoint.tensors) == {"a.weight", "b.weight"}
    assert not checkpoint.verified
    assert folder.ref == f"{server.url}/big/"
    read_so_far = sum(64 << 10 for path, headers in server.asked if path.startswith("/big/model") and "range" in headers)
    assert read_so_far < len(BIG) // 4
    assert content_of(checkpoint)["b.weight"][:2] == ("F32", (512, 512))


def test_it_is_the_same_as_the_file(server: Files, tmp_path: pytest.TempPathFactory) -> None:
    here = write(tmp_path / "m", {"model.safetensors": WEIGHTS})  # type: ignore[operator]
    there = content_of(open_reference(f"{server.url}/one/model.safetensors", Reach())[1])
    assert there == content_of(open_reference(str(here), Reach())[1])


def test_an_index_brings_its_shards(server: Files) -> None:
    folder, checkpoint = open_reference(f"{server.url}/m/model.safetensors.index.json?signature=canary", Reach())
    assert set(checkpoint.tensors) == {"a", "b"}
    assert all("?signature=canary" in path for path, _ in server.asked)
    assert "canary" not in folder.ref + checkpoint.ref


def test_papers_beside_it_are_found_where_they_are(server: Files) -> None:
    assert set(open_reference(f"{server.url}/one/model.safetensors", Reach())[0].sizes) == {"model.safetensors", "config.json"}
    assert set(open_reference(f"{server.url}/big/model.safetensors", Reach())[0].sizes) == {"model.safetensors"}


def test_compare_reads_both_sides_over_the_web(server: Files, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"{server.url}/big/model.safetensors"
    assert main(["compare", address, address, "--format", "json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["relation"] == "identical"
    assert document["left"]["ref"] == address


@pytest.mark.parametrize(
    ("path", "reach", "reason"),
    [
        ("/absent.safetensors", Reach(), "404"),
        ("/one/", Reach(), "names no file"),
        ("/one/model.safetensors", Reach(offline=True), "offline"),
        ("/big/model.safetensors", Reach(max_download=1000), "the limit is 1,000"),
    ],
)
def test_what_cannot_be_had_is_one_line(server: Files, path: str, reach: Reach, reason: str) -> None:
    with pytest.raises(CannotFetch, match=reason) as caught:
        open_reference(server.url + path, reach)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.advice


@pytest.mark.parametrize("shard", ["../model.safetensors", "http://169.254.169.254/x.safetensors", "a/b.safetensors", "x?y.safetensors"])
def test_an_index_names_neighbours_and_nothing_else(server: Files, shard: str) -> None:
    server.content["/evil/model.safetensors.index.json"] = json.dumps({"weight_map": {"a": shard}}).encode()
    with pytest.raises(CannotRead, match="no plain file name"):
        open_reference(f"{server.url}/evil/model.safetensors.index.json", Reach())
    assert {path for path, _ in server.asked} == {"/evil/model.safetensors.index.json"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_private_networks_are_refused_without_the_operators_word(host: str, server: Files) -> None:
    port = server.url.rpartition(":")[2]
    with pytest.raises(CannotRead) as caught:
        open_reference(f"https://{host}:{port}/one/model.safetensors", Reach())
    assert len(str(caught.value).splitlines()) == 1
    assert server.asked == []


def test_plain_http_is_refused(monkeypatch: pytest.MonkeyPatch, server: Files) -> None:
    monkeypatch.delenv("MODELGUARD_TRUSTED_ORIGINS")
    with pytest.raises(BadRequest, match="plain http"):
        open_reference(f"{server.url}/one/model.safetensors", Reach())
    assert server.asked == []


@pytest.mark.parametrize("text", ["mirror.example", "ftp://x", "https://user@x", "https://x/path", "https://x?q", "https://", "http://x:y"])
def test_an_origin_that_is_none_is_a_wrong_configuration(text: str) -> None:
    with pytest.raises((BadRequest, CannotFetch)):
        trusted_origins({"MODELGUARD_TRUSTED_ORIGINS": text})


def test_origins_are_compared_with_their_ports() -> None:
    assert trusted_origins({"MODELGUARD_TRUSTED_ORIGINS": "https://A.example http://b:8080/"}) == {"https://a.example:443", "http://b:8080"}
    assert trusted_origins({}) == frozenset()
    assert origin("https://a.example/x") == "https://a.example:443"
