"""The files and commands by which a step talks to its job."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from modelguard.errors import BadRequest
from modelguard.render.text import workflow_data, workflow_property

MAX_SUMMARY_BYTES = 1 << 20  # a longer job summary is dropped whole


def append_summary(path: Path, body: str) -> None:
    """Adds to the job summary. What would make GitHub drop it whole is cut at a line's end."""
    data = body.encode("utf-8", "backslashreplace")
    if len(data) >= MAX_SUMMARY_BYTES:
        data = data[: MAX_SUMMARY_BYTES - 100].rpartition(b"\n")[0] + b"\n\n(The rest is in the report.)"
    with path.open("ab") as file:
        file.write(data + b"\n")


def append_outputs(path: Path, outputs: Mapping[str, str]) -> None:
    """Sets a step's outputs: single-line printable ASCII values, each fenced by a delimiter that nobody can guess."""
    lines = []
    for name, value in outputs.items():
        if not (value.isascii() and value.isprintable()):
            raise BadRequest(f"the output {name} is not a line of printable ASCII")
        fence = f"modelguard_{secrets.token_hex(16)}"
        lines += [f"{name}<<{fence}", value, fence]
    with path.open("a", encoding="ascii") as file:
        file.write("".join(f"{line}\n" for line in lines))


def annotation(level: str, message: str, *, title: str, file: str = "") -> str:
    """A workflow command that shows a message on the run and beside the file."""
    properties = {"file": file, "title": title}
    written = ",".join(f"{key}={workflow_property(value)}" for key, value in properties.items() if value)
    return f"::{level} {written}::{workflow_data(message, 1000)}"
