"""Generates what the documentation quotes from the program: help texts, the list of rules, the sample comment.

`python -m docs.generate` rewrites them, `--check` fails where they have drifted, `--sample REPO BASE HEAD` audits a pull request anew
and keeps its report as the sample.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import json
import os
import re
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import modelguard.logs
from modelguard.checks.base import all_checks
from modelguard.cli import parser
from modelguard.discover import modules
from modelguard.pipeline import AuditRequest, audit
from modelguard.render.markdown import comment
from modelguard.types.report import Report

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "docs" / "sample-report.json"
COMMANDS = ("audit", "compare", "log", "inspect", "registry", "hook")
ZOO = ROOT / "docs" / "zoo.md"


def main() -> int:
    options = _options()
    if options.sample:
        _keep_sample(*options.sample)
    drifted = [path for path, text in _pages().items() if path.read_text(encoding="utf-8") != text] if options.check else _write(_pages())
    for path in drifted:
        sys.stderr.write(f"{path.relative_to(ROOT)} has drifted: run `python -m docs.generate` and commit it\n")
    return 1 if drifted else 0


def _options() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("--sample", nargs=3, metavar=("REPO", "BASE", "HEAD"))
    return arguments.parse_args()


def _pages() -> Mapping[Path, str]:
    """Every file with generated parts, as it should be."""
    readme, rules, cli = ROOT / "README.md", ROOT / "docs" / "rules.md", ROOT / "docs" / "command-line.md"
    sample = _built(Report, json.loads(SAMPLE.read_bytes()))
    parts = {"comment": _quoted(comment(sample)), "help": _code(_help()), "tables": _tables(), "zoo": _zoo()}
    return {
        readme: _filled(readme.read_text(encoding="utf-8"), parts),
        rules: _rules(),
        cli: _command_line(),
    }


def _zoo() -> str:
    """What must not happen and what was seen, as `make zoo` last wrote it."""
    sections = {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in ZOO.read_text(encoding="utf-8").split("\n## ")}
    rows = [line.split(" | ") for line in sections["Attacks, and whether they were seen"].splitlines() if line.startswith("| ")]
    table = "\n".join(" | ".join(cells[:3]) + " |" for cells in rows)
    head, _, rest = table.partition("\n")
    return f"{sections['What must not happen']}\n\n{head}\n|---|---|---|\n{rest}\n"


def _write(pages: Mapping[Path, str]) -> list[Path]:
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return []


def _keep_sample(repo: str, base: str, head: str) -> None:
    report = audit(AuditRequest(repo=Path(repo), base=base, head=head))
    kept = dataclasses.asdict(dataclasses.replace(report, seconds=0.0))
    SAMPLE.write_text(json.dumps(kept, indent=1, default=str) + "\n", encoding="utf-8")


def _built(kind: Any, value: Any) -> Any:
    """A report's value from its JSON: of the classes that an annotation allows, the one whose fields are the value's keys."""
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _built(hints[name], entry) for name, entry in value.items()})  # type: ignore[operator]
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        return tuple(_built(kinds[0] if kinds[-1] is ... else kinds[place], entry) for place, entry in enumerate(value))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        allowed = [one for one in typing.get_args(kind) if _fits(one, value)]
        return _built(allowed[0], value) if allowed else value
    return kind(value) if isinstance(kind, type) and issubclass(kind, enum.Enum) else value


def _fits(kind: Any, value: Any) -> bool:
    if dataclasses.is_dataclass(kind):
        return isinstance(value, dict) and {field.name for field in dataclasses.fields(kind)} == set(value)
    return isinstance(kind, type) and issubclass(kind, enum.Enum) and value is not None


def _filled(text: str, parts: Mapping[str, str]) -> str:
    """`text` with everything between `<!-- generated:NAME -->` and `<!-- /generated -->` replaced."""
    for name, part in parts.items():
        pattern = re.compile(rf"(<!-- generated:{name} -->\n).*?(<!-- /generated -->)", re.DOTALL)
        text = pattern.sub(lambda match, part=part: f"{match[1]}{part}{match[2]}", text)  # type: ignore[misc]
    return text


def _quoted(markdown: str) -> str:
    return "".join(f"> {line}".rstrip() + "\n" for line in markdown.splitlines())


def _code(text: str) -> str:
    return f"```\n{text.rstrip()}\n```\n"


def _help(command: str = "") -> str:
    os.environ["COLUMNS"] = "100"
    top = parser()
    if not command:
        return top.format_help()
    choices = next(action.choices for action in top._subparsers._group_actions if action.choices)  # type: ignore[union-attr]
    return str(choices[command].format_help())  # type: ignore[index]


def _tables() -> str:
    """The rules, and the logs that are read, from their own first lines."""
    rules = "".join(f"| `{check.rule}` | {check.title} |\n" for check in all_checks())
    readers = sorted(modules(modelguard.logs, having="FORMAT"), key=lambda reader: hasattr(reader, "sniff_usage"))
    formats = "".join(
        f"| `{reader.FORMAT}` | {(reader.__doc__ or '').strip().splitlines()[0].split(':')[0].rstrip('.')} |\n" for reader in readers
    )
    return f"| rule | what it is about |\n|---|---|\n{rules}\n| log format | |\n|---|---|\n{formats}"


def _rules() -> str:
    sections = "".join(f"\n## {check.rule}\n\n{check.doc}\n\nLooks at: {', '.join(check.wants)}.\n" for check in all_checks())
    return f"# Rules\n\nGenerated from the rules themselves. A rule's id never changes once it is released.\n{sections}"


def _command_line() -> str:
    sections = "".join(f"\n## modelguard {command}\n\n{_code(_help(command))}" for command in COMMANDS)
    return f"# Command line\n\nGenerated from `--help`.\n\n{_code(_help())}{sections}"


if __name__ == "__main__":
    raise SystemExit(main())
