"""What a step of a job says to its runner: lines, workflow commands, outputs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelguard.github.job import annotation, append_outputs
from modelguard.render.text import terminal
from modelguard.types.findings import Verdict

Environ = Mapping[str, str]


@dataclass(slots=True)
class Step:
    """What a step has to say to its job when it ends: outputs (enums, numbers, paths, addresses of GitHub) and workflow commands."""

    environ: Environ
    outputs: dict[str, str] = field(default_factory=lambda: {"verdict": str(Verdict.CANNOT_DETERMINE)})
    commands: list[str] = field(default_factory=list)

    def fail(self, why: str, advice: str) -> None:
        """Notes one line that says why there is no verdict."""
        self.commands.append(annotation("error", f"{why}: {advice}" if advice else why, title="modelguard"))

    def warn(self, why: str, advice: str) -> None:
        """Notes one line on what was not delivered."""
        self.commands.append(annotation("warning", f"{why}: {advice}" if advice else why, title="modelguard"))

    def finish(self) -> None:
        """Hands the outputs to the runner."""
        if self.environ.get("GITHUB_OUTPUT"):
            append_outputs(Path(self.environ["GITHUB_OUTPUT"]), self.outputs)


def printable(value: str) -> str:
    """An output's value; what is not printable ASCII would need quoting by whoever uses it, and is left out."""
    return value if value.isascii() and value.isprintable() else ""


def say(text: str) -> None:
    """One line, whatever the text holds: a name with line breaks in it must not look like lines of ours."""
    write(terminal(text))


def write(line: str) -> None:
    """One line as it is: a workflow command of ours."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
