"""The registry of known models as a process without secrets has it: searched through the parent, private entries under their alias."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelguard.cli import main
from tests.fingerprint.zoo import model, rotated, tuned
from tests.registry.test_doors import CARD, KNOWN, OTHER, audited, hub, place

__all__ = ("hub", "place")


def test_the_registry_is_searched_from_inside(capsys: pytest.CaptureFixture[str], place: Path, hub: object) -> None:
    tensors = tuned(OTHER, seed=8)
    code, finding, here = audited(capsys, place, tensors, CARD, policy=KNOWN)
    _, _, there = _again(capsys, place)
    assert (code, finding["status"]) == (1, "found")
    assert json.dumps(here["findings"]) == json.dumps(there["findings"])


def test_private_entries_stay_aliases_from_inside(capsys: pytest.CaptureFixture[str], place: Path, hub: object) -> None:
    _, finding, here = audited(capsys, place, rotated(model(2)), CARD, policy=KNOWN)
    _, _, there = _again(capsys, place)
    assert "project x" in finding["text"] + json.dumps(finding["numbers"])
    assert json.dumps(here["findings"]) == json.dumps(there["findings"])
    assert "lab/hidden" not in json.dumps(there)


def _again(capsys: pytest.CaptureFixture[str], folder: Path) -> tuple[int, str, dict[str, Any]]:
    """The audit that was just done, confined."""
    capsys.readouterr()
    common = ["--repo", str(folder / "repository"), "--base", "main", "--head", "pr", "--activations", "off", "--format", "json", "--quiet"]
    code = main(["audit", "--confined", *common])
    said = capsys.readouterr()
    return code, said.err, json.loads(said.out)
