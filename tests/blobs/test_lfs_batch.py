"""Git LFS objects over the network, from a server whose answers are held against what was asked."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelguard.blobs.base import read
from modelguard.blobs.http import Client, Reachable, origin
from modelguard.blobs.lfs import Pointer
from modelguard.blobs.lfs_batch import Store
from modelguard.errors import CannotFetch, CannotRead
from tests.servers.files import Files, file_server

CONTENT = random.Random(6).randbytes(300_000)
POINTER = Pointer(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
BATCH = "/org/name.git/info/lfs/objects/batch"


@pytest.fixture
def server() -> Iterator[Files]:
    with file_server() as files:
        files.content["/object"] = CONTENT
        files.posts[BATCH] = answering(files)
        yield files


def answering(files: Files, **changes: Any) -> Callable[[bytes], tuple[int, bytes]]:
    def answer(body: bytes) -> tuple[int, bytes]:
        asked = json.loads(body)["objects"][0]
        download = {"href": f"{files.url}/object", "header": {"Authorization": "RemoteAuth x", "X-Forwarded-Host": "evil", "Cookie": "c"}}
        told = {"oid": asked["oid"], "size": asked["size"], "actions": {"download": download}} | changes
        return 200, json.dumps({"transfer": "basic", "objects": [told]}).encode()

    return answer


def store(server: Files, token: str = "secret") -> Store:
    client = Client(Reachable(operators=frozenset({origin(server.url)})), sleep=lambda _: None)
    return Store(endpoint=f"{server.url}/org/name.git/info/lfs", client=client, secret={"Authorization": f"Basic {token}"})


def test_parts_of_an_object_are_read_and_not_called_verified(server: Files) -> None:
    blob = store(server).parts(POINTER, "model.safetensors")
    assert read(blob, 150_000, 100) == CONTENT[150_000:150_100]
    assert (blob.verified, blob.sha256, blob.size) == (False, None, len(CONTENT))


def test_a_whole_object_is_held_against_its_name(server: Files, tmp_path: Path) -> None:
    blob = store(server).whole(POINTER, "model.safetensors", tmp_path)
    assert read(blob, 0, blob.size) == CONTENT
    assert blob.sha256 == POINTER.oid
    assert list(tmp_path.iterdir()) == []
    server.content["/object"] = CONTENT[:-1] + b"x"
    with pytest.raises(CannotFetch, match="not the object that the pointer names"):
        store(server).whole(POINTER, "model.safetensors", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_headers_that_authorise_are_sent_on(server: Files) -> None:
    store(server).parts(POINTER, "m")
    (_, batch), (_, part) = server.asked
    assert batch["authorization"] == "Basic secret"
    assert part["authorization"] == "RemoteAuth x"
    assert not {"x-forwarded-host", "cookie"} & part.keys()


@pytest.mark.parametrize(
    "changes",
    [
        {"oid": "0" * 64},
        {"size": 5},
        {"error": {"code": 404, "message": "gone"}},
        {"actions": {}},
        {"actions": {"download": {"href": 5}}},
        {"actions": {"download": {"href": "http://169.254.169.254/latest"}}},
        {"actions": {"download": {"href": "https://localhost:1/x"}}},
        {"actions": {"download": {"href": "file:///etc/passwd"}}},
    ],
)
def test_an_answer_for_something_else_is_refused(server: Files, changes: dict[str, Any]) -> None:
    server.posts[BATCH] = answering(server, **changes)
    with pytest.raises(CannotRead) as caught:
        store(server).parts(POINTER, "model.safetensors")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("status", "body"), [(401, b""), (404, b"{}"), (200, b"no json"), (200, b'{"objects": []}'), (200, b"[]")])
def test_a_server_that_refuses_is_one_line(server: Files, status: int, body: bytes) -> None:
    server.posts[BATCH] = lambda _: (status, body)
    with pytest.raises(CannotRead) as caught:
        store(server).parts(POINTER, "model.safetensors")
    assert "\n" not in str(caught.value)
