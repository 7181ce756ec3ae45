"""`modelguard compare`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial

from modelguard.activations.across_apart import compare_across_apart
from modelguard.activations.apart import run_both_apart
from modelguard.activations.extent import Extent
from modelguard.activations.model import Model
from modelguard.attempt import attempt
from modelguard.commands.behaviour import beside_controls, judged, models_of, section
from modelguard.commands.inputs import colour, width
from modelguard.commands.registry import by_sketch
from modelguard.commands.stored_activations import held_by_registry
from modelguard.errors import BadRequest, ExitCode
from modelguard.exhibits import across as across_pictures
from modelguard.exhibits import compared as pictures
from modelguard.exhibits import likeness_bands
from modelguard.exhibits import ran as pictures_of_run
from modelguard.facts import facts
from modelguard.fingerprint.compare import compare
from modelguard.progress import shown
from modelguard.references import REGISTRY, Reach, open_reference
from modelguard.render import html, json_v1, markdown_pages, terminal
from modelguard.types.across import AcrossComparison
from modelguard.types.evals import TeacherEvidence
from modelguard.types.findings import Absence, Missing
from modelguard.types.weights import ActivationComparison, Comparison, Undecided

Result = tuple[int, str]


def compare_two(options: argparse.Namespace) -> Result:
    """`modelguard compare`."""
    if REGISTRY in (options.left[: len(REGISTRY)], options.right[: len(REGISTRY)]):
        return _compared(by_sketch(options), options, held_by_registry(options) if options.activations else None)
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

        beside = models_of(options.control, reach)
        controls, candidates = [one.checkpoint for one in beside], [open_reference(text, reach)[1] for text in options.candidate]
        compared = compare(left, right, depth=options.depth, controls=controls, candidates=candidates, advance=advance)
    if not options.activations:
        if options.text:
            raise BadRequest("--text belongs to --activations", advice="add --activations")
        return _compared(compared, options)
    with shown(quiet=options.quiet) as progress:
        extent = Extent(layers=options.layers, progress=progress)
        run = partial(run_both_apart, left, left_folder, right_folder, right, extent)
        ran = attempt(run, what="running both models on the probes")
        ours = Model(name=options.left, folder=left_folder, checkpoint=left)
        theirs = Model(name=options.right, folder=right_folder, checkpoint=right)
        across = None
        if beside or isinstance(ran, Missing):  # of one architecture and alone, nobody asks for a rank
            across = attempt(lambda: compare_across_apart(ours, theirs, lambda: beside, extent), what="comparing across architectures")
        teacher = beside_controls(options, replace(reach, progress=progress), progress)
    return _compared(compared, options, ran, across, teacher)


def _compared(
    compared: Comparison,
    options: argparse.Namespace,
    ran: ActivationComparison | Missing | None = None,
    across: AcrossComparison | Missing | None = None,
    teacher: TeacherEvidence | Missing | None = None,
) -> Result:
    said = () if teacher is None else judged(teacher, options.left)
    if options.format == "json":
        told = {name: _told(what) for name, what in (("activations", ran), ("across", across)) if what is not None}
        judgement = {} if teacher is None else section(teacher, said)
        return ExitCode.CONSISTENT, json_v1.dumps(json_v1.compare_document(compared) | told | judgement)
    behaviour = None if isinstance(ran, Missing) else ran
    whys = (Undecided(what=what, why=why) for what, why in (*_open(ran), *_notes(across)))
    compared = replace(compared, unknown=(*compared.unknown, *whys))
    beside = () if across is None or isinstance(across, Missing) else across_pictures(across)
    beside += () if teacher is None or isinstance(teacher, Missing) else likeness_bands(teacher)
    if options.format == "html":
        return ExitCode.CONSISTENT, html.compare_page(compared, (*pictures(compared, behaviour), *beside), said)
    if options.format == "markdown":
        return ExitCode.CONSISTENT, markdown_pages.comparison(compared, (*pictures(compared, behaviour), *beside), said)
    drawn = () if behaviour is None else pictures_of_run(behaviour)
    return ExitCode.CONSISTENT, terminal.comparison(compared, (*drawn, *beside), said, width=width(), colour=colour())


def _told(what: ActivationComparison | AcrossComparison | Missing) -> dict[str, object]:
    return {"unknown": what.why} if isinstance(what, Missing) else asdict(what)


def _open(ran: ActivationComparison | Missing | None) -> Iterator[tuple[str, str]]:
    if isinstance(ran, Missing):
        yield "activations", ran.why


def _notes(across: AcrossComparison | Missing | None) -> Iterator[tuple[str, str]]:
    """What stands in the way of a comparison across architectures, or limits it."""
    if isinstance(across, Missing):
        if across.kind is not Absence.INAPPLICABLE:
            yield "across architectures", across.why
    elif across is not None:
        yield from (("across architectures", why) for why in (*across.notes, *(f"left out: {why}" for why in across.left_out)))
