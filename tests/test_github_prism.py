"""The client against Prism, somebody else's server made of GitHub's description: it refuses what the description does not allow."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from modelguard.github.api import Api, Destination, Meaning, Refused
from modelguard.github.check_run import CheckRun, Conclusion, Note, post
from tests.requirement import require
from tests.servers.github_description import HOW, PLACE, REST

HEAD = "a" * 40
NOTE = Note(path="m.safetensors", title="a-rule", message="what it says", blocks=True)
PRISM = PLACE.parent / ".bin/prism"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prism(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    require("prism", PRISM.exists() and REST.exists(), f"{HOW}, with @stoplight/prism-cli")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (
        str(PRISM),
        "mock",
        "-p",
        str(port),
        "-h",
        "127.0.0.1",
        str(REST),
    )  # --errors would refuse GitHub's own example of a pull request
    home = {"PATH": os.environ["PATH"], "HOME": str(tmp_path_factory.mktemp("home"))}
    with (
        Path(tmp_path_factory.mktemp("log"), "prism").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=home) as running,
    ):
        try:
            _wait(f"http://127.0.0.1:{port}/zen", running)
            yield f"http://127.0.0.1:{port}"
        finally:
            running.terminate()


def _wait(url: str, running: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert running.poll() is None, "prism ended"
        try:
            requests.get(url, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("prism did not start")


@pytest.fixture
def api(prism: str) -> Iterator[Api]:
    opened = Api(Destination(api_url=prism, repository="octocat/hello", number=7, token="a-token", patience=0))
    yield opened
    opened.close()


def test_prism_takes_every_request_that_a_run_makes(api: Api) -> None:
    assert api.live_head()
    assert "body" in next(api.pages("/issues/7/comments"))  # Prism links every page to a next one
    assert "path" in next(api.pages("/pulls/7/comments"))
    assert api.create("/issues/7/comments", {"body": "the report"})["id"]
    assert api.update("/issues/comments/1", {"body": "the report"})["id"]
    thread = {"body": "a finding", "commit_id": HEAD, "path": "models/m.safetensors", "subject_type": "file"}
    assert api.create("/pulls/7/comments", thread)["id"]
    assert api.update("/pulls/comments/1", {"body": "resolved"})["id"]
    assert post(api, CheckRun(head=HEAD, conclusion=Conclusion.NEUTRAL, title="t", summary="s", notes=(NOTE,)))
    assert api.update("/check-runs/1", {"output": {"title": "t", "summary": "s", "annotations": []}})["id"]
    assert "head" in next(api.listed("/pulls", {"head": "someone:topic", "state": "open"}))


def test_prism_refuses_what_the_description_does_not_allow(api: Api) -> None:
    for path, body in (("/issues/7/comments", {"text": "b"}), ("/pulls/7/comments", {"body": "b", "path": "m", "subject_type": "binary"})):
        with pytest.raises(Refused) as refused:
            api.create(path, body)
        assert refused.value.meaning is Meaning.INVALID
