"""`modelguard compare`."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from functools import partial

from modelguard.activations.both_networks import run_both
from modelguard.activations.extent import Extent
from modelguard.attempt import attempt
from modelguard.commands.inputs import colour, width
from modelguard.commands.registry import by_sketch
from modelguard.errors import ExitCode
from modelguard.exhibits import compared as pictures
from modelguard.exhibits import ran as pictures_of_run
from modelguard.facts import facts
from modelguard.fingerprint.compare import compare
from modelguard.progress import shown
from modelguard.references import REGISTRY, Reach, open_reference
from modelguard.render import html, json_v1, markdown_pages, terminal
from modelguard.types.findings import Missing
from modelguard.types.weights import ActivationComparison, Comparison, Undecided

Result = tuple[int, str]


def compare_two(options: argparse.Namespace) -> Result:
    """`modelguard compare`."""
    if REGISTRY in (options.left[: len(REGISTRY)], options.right[: len(REGISTRY)]):
        return _compared(by_sketch(options), options)
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
    if not options.activations:
        return _compared(compared, options)
    with shown(quiet=options.quiet) as progress:
        extent = Extent(layers=options.layers, progress=progress)
        run = partial(run_both, left, left_folder, right_folder, right, extent)
        return _compared(compared, options, attempt(run, what="running both models on the probes"))


def _compared(compared: Comparison, options: argparse.Namespace, ran: ActivationComparison | Missing | None = None) -> Result:
    if options.format == "json":
        told = {} if ran is None else {"activations": {"unknown": ran.why} if isinstance(ran, Missing) else asdict(ran)}
        return ExitCode.CONSISTENT, json_v1.dumps(json_v1.compare_document(compared) | told)
    behaviour = None if isinstance(ran, Missing) else ran
    if isinstance(ran, Missing):
        compared = replace(compared, unknown=(*compared.unknown, Undecided(what="activations", why=ran.why)))
    if options.format == "html":
        return ExitCode.CONSISTENT, html.compare_page(compared, pictures(compared, behaviour))
    if options.format == "markdown":
        return ExitCode.CONSISTENT, markdown_pages.comparison(compared, pictures(compared, behaviour))
    drawn = () if behaviour is None else pictures_of_run(behaviour)
    return ExitCode.CONSISTENT, terminal.comparison(compared, drawn, width=width(), colour=colour())
