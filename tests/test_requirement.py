"""A missing dependency is a skip, and a failure where it is required."""

from __future__ import annotations

import pytest

from tests.requirement import require, required


@pytest.mark.parametrize(
    ("names", "expected"), [("", False), ("corpus", True), ("lfs,corpus", True), ("lfs, corpus", True), ("corpus2", False)]
)
def test_required(names: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELGUARD_REQUIRE", names)
    assert required("corpus") is expected
    require("corpus", True, "here")
    with pytest.raises(pytest.fail.Exception if expected else pytest.skip.Exception, match="nothing at shared"):
        require("corpus", None, "nothing at shared")
