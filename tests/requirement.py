"""What a test needs from the machine: its absence is a skip on a laptop, and a failure where MODELGUARD_REQUIRE names it."""

from __future__ import annotations

import os

import pytest


def required(name: str) -> bool:
    """Whether this run must not do without the thing of that name."""
    return name in os.environ.get("MODELGUARD_REQUIRE", "").replace(",", " ").split()


def require(name: str, present: object, why: str) -> None:
    """Goes on when the thing is there; else skips the test, or fails it where the thing is required."""
    if present:
        return
    if required(name):
        pytest.fail(f"{name} is required and absent: {why}")
    pytest.skip(f"no {name}: {why}")
