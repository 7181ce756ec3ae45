"""`modelguard compare`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial

from modelguard.activations.across import Member, compare_across
from modelguard.activations.both_networks import run_both
from modelguard.activations.extent import Extent
from modelguard.attempt import attempt
from modelguard.commands.inputs import colour, width
from modelguard.commands.registry import by_sketch
from modelguard.errors import ExitCode
from modelguard.evidence import facts
from modelguard.exhibits import across as across_pictures
from modelguard.exhibits import compared as pictures
from modelguard.fingerprint.compare import compare
from modelguard.progress import shown
from modelguard.references import REGISTRY, Reach, open_reference
from modelguard.render import html, json_v1, terminal
from modelguard.types.across import AcrossComparison
from modelguard.types.findings import Absence, Missing
from modelguard.types.weights import Comparison

Result = tuple[int, str]


def compare_two(options: argparse.Namespace) -> Result:
    """`modelguard compare`."""
    if REGISTRY in (options.left[: len(REGISTRY)], options.right[: len(REGISTRY)]):
        return _compared(by_sketch(options), options, {}, Missing(""))
    with shown(quiet=options.quiet) as progress:
        reach = Reach(repo=options.repo, offline=options.offline, max_download=options.max_download, progress=progress)
        left_folder, left = open_reference(options.left, reach)
        right_folder, right = open_reference(options.right, reach)
        facts(left), facts(right)
        total, done = 2 * sum(info.nbytes for info in left.tensors.values()), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress("comparing", min(done, total), total)

        beside = [Member(text, *open_reference(text, reach)) for text in options.control]
        controls, candidates = [one.checkpoint for one in beside], [open_reference(text, reach)[1] for text in options.candidate]
        compared = compare(left, right, depth=options.depth, controls=controls, candidates=candidates, advance=advance)
    more: dict[str, object] = {}
    across: AcrossComparison | Missing = Missing("")
    if options.activations:
        with shown(quiet=options.quiet) as progress:
            extent = Extent(layers=options.layers, progress=progress)
            run = partial(run_both, left, left_folder, right_folder, right, extent)
            ran = attempt(run, what="running both models on the probes")
            sides = Member(options.left, left_folder, left), Member(options.right, right_folder, right)
            across = compare_across(*sides, lambda: beside, extent)
        more["activations"] = {"unknown": ran.why} if isinstance(ran, Missing) else asdict(ran)
        more["across"] = {"unknown": across.why} if isinstance(across, Missing) else asdict(across)
    return _compared(compared, options, more, across)


def _compared(compared: Comparison, options: argparse.Namespace, more: dict[str, object], across: AcrossComparison | Missing) -> Result:
    if options.format == "json":
        return ExitCode.CONSISTENT, json_v1.dumps(json_v1.compare_document(compared) | more)
    drawn = () if isinstance(across, Missing) else across_pictures(across)
    notes = [f"across architectures: {note}" for note in _notes(across)]
    if options.format == "html":
        return ExitCode.CONSISTENT, html.compare_page(compared, (*pictures(compared), *drawn), notes)
    return ExitCode.CONSISTENT, terminal.comparison(compared, drawn, notes, width=width(), colour=colour())


def _notes(across: AcrossComparison | Missing) -> tuple[str, ...]:
    """What stands in the way of a comparison across architectures, or limits it."""
    if isinstance(across, Missing):
        return (across.why,) if across.why and across.kind is not Absence.INAPPLICABLE else ()
    return (*across.notes, *(f"left out: {why}" for why in across.left_out))
