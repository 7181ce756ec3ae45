"""What the Actions runner reads out of a step's output: a port of its two command parsers, and of the pause between them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

UNSEEN = ("Cc", "Cf", "Mn", "Me")  # .NET compares by culture: collation does not see these


@dataclass(frozen=True)
class Command:
    """A command as the runner would run it."""

    name: str
    properties: Mapping[str, str]
    data: str


def parse(line: str) -> tuple[Command, ...]:
    """The commands that a line may be taken for, whether they are registered or not: `::name k=v::data` and `##[name k=v]data`."""
    seen = "".join(character for character in line if character.isspace() or unicodedata.category(character) not in UNSEEN)
    start = re.match(r"\s*::(.*?)::(.*)", seen, re.DOTALL)
    anywhere = re.search(r"##\[(.*?)\](.*)", seen, re.DOTALL)
    found = [_command(start[1], start[2], ",")] if start else []
    return (*found, _command(anywhere[1], anywhere[2], ";")) if anywhere else tuple(found)


def run(output: str) -> tuple[Command, ...]:
    """The commands that a step's whole output makes the runner run; between `stop-commands` and its token there are none."""
    token, done = "", []
    for command in (command for line in re.split(r"\r\n|\r|\n", output) for command in parse(line)):
        if token:
            token = "" if command.name == token else token
        elif command.name == "stop-commands":
            token = command.data
        else:
            done.append(command)
    assert not token, "commands were never resumed"
    return tuple(done)


def outputs(text: str) -> dict[str, str]:
    """What the runner takes from the file GITHUB_OUTPUT: `name<<fence`, lines, `fence`; a later one wins."""
    lines, taken = iter(text.splitlines()), {}
    for line in lines:
        name, sign, fence = line.partition("<<")
        assert sign, f"{line!r} opens no output"
        value = []
        for content in lines:
            if content == fence:
                break
            value.append(content)
        else:
            raise AssertionError(f"the output {name} is never closed")
        taken[name] = "\n".join(value)
    return taken


def _command(info: str, data: str, separator: str) -> Command:
    name, _, rest = info.partition(" ")
    pairs = (pair.partition("=") for pair in rest.split(separator) if "=" in pair)
    properties = {key: _decoded(value).replace("%3A", ":").replace("%2C", ",") for key, _, value in pairs}
    return Command(name, properties, _decoded(data))


def _decoded(text: str) -> str:
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
