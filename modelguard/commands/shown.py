"""`modelguard inspect`, `rules` and `explain`: what a checkpoint, or this program, says of itself."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from modelguard.checks.base import all_checks
from modelguard.errors import BadRequest, ExitCode
from modelguard.facts import facts
from modelguard.references import Reach, open_reference
from modelguard.render import json_v1
from modelguard.types.weights import CheckpointFacts

Result = tuple[int, str]


def inspect(options: argparse.Namespace) -> Result:
    """`modelguard inspect`."""
    listed = [facts(open_reference(file, Reach())[1]) for file in options.files]
    if options.format == "json":
        return ExitCode.CONSISTENT, json_v1.dumps({"schema": "modelguard.inspect/1", "files": [asdict(item) for item in listed]})
    return ExitCode.CONSISTENT, "".join(map(_facts_line, listed))


def rules(_options: argparse.Namespace) -> Result:
    """`modelguard rules`."""
    width = max(len(check.rule) for check in all_checks())
    return ExitCode.CONSISTENT, "".join(f"{check.rule:{width}}  {check.title}\n" for check in all_checks())


def explain(options: argparse.Namespace) -> Result:
    """`modelguard explain RULE`."""
    chosen = [check for check in all_checks() if check.rule == options.rule]
    if not chosen:
        raise BadRequest(f"{options.rule[:80]!a} is no rule", advice="`modelguard rules` lists them")
    return ExitCode.CONSISTENT, f"{chosen[0].rule}\n\n{chosen[0].doc}\n\nlooks at: {', '.join(chosen[0].wants)}\n"


def _facts_line(item: CheckpointFacts) -> str:
    from modelguard.render.text import terminal as plain

    notes = "".join(f"\n  note: {plain(note)}" for note in item.notes)
    counts = f"{item.tensors} tensors, {item.parameters:,} parameters, {item.nbytes:,} bytes"
    return f"{plain(item.ref)}: {item.format}, {counts}, {', '.join(item.dtypes)}{notes}\n"
