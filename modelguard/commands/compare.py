"""`modelguard compare`."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from functools import partial

from modelguard.activations.both_networks import run_both
from modelguard.activations.extent import Extent
from modelguard.attempt import attempt
from modelguard.commands.behaviour import beside_controls, judged, section
from modelguard.commands.inputs import colour, width
from modelguard.commands.registry import by_sketch
from modelguard.errors import BadRequest, ExitCode
from modelguard.evidence import facts
from modelguard.exhibits import compared as pictures
from modelguard.exhibits import likeness_bands
from modelguard.fingerprint.compare import compare
from modelguard.progress import shown
from modelguard.references import REGISTRY, Reach, open_reference
from modelguard.render import html, json_v1, terminal
from modelguard.types.findings import Finding, Missing
from modelguard.types.report import Exhibit
from modelguard.types.weights import Comparison

Result = tuple[int, str]


def compare_two(options: argparse.Namespace) -> Result:
    """`modelguard compare`."""
    if REGISTRY in (options.left[: len(REGISTRY)], options.right[: len(REGISTRY)]):
        return _compared(by_sketch(options), options, {})
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

        controls, candidates = ([open_reference(text, reach)[1] for text in texts] for texts in (options.control, options.candidate))
        compared = compare(left, right, depth=options.depth, controls=controls, candidates=candidates, advance=advance)
    more: dict[str, object] = {}
    said: tuple[Finding, ...] = ()
    bands: tuple[Exhibit, ...] = ()
    if options.activations:
        with shown(quiet=options.quiet) as progress:
            extent = Extent(layers=options.layers, progress=progress)
            run = partial(run_both, left, left_folder, right_folder, right, extent)
            ran = attempt(run, what="running both models on the probes")
            teacher = beside_controls(options, replace(reach, progress=progress), progress)
        more["activations"] = {"unknown": ran.why} if isinstance(ran, Missing) else asdict(ran)
        said = judged(teacher, options.left)
        more |= section(teacher, said)
        bands = () if isinstance(teacher, Missing) else likeness_bands(teacher)
    elif options.text:
        raise BadRequest("--text belongs to --activations", advice="add --activations")
    return _compared(compared, options, more, said, bands)


def _compared(
    compared: Comparison,
    options: argparse.Namespace,
    more: dict[str, object],
    said: tuple[Finding, ...] = (),
    bands: tuple[Exhibit, ...] = (),
) -> Result:
    if options.format == "json":
        return ExitCode.CONSISTENT, json_v1.dumps(json_v1.compare_document(compared) | more)
    if options.format == "html":
        return ExitCode.CONSISTENT, html.compare_page(compared, (*pictures(compared), *bands), said)
    return ExitCode.CONSISTENT, terminal.comparison(compared, said, bands, width=width(), colour=colour())
