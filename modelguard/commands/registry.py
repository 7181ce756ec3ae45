"""What `modelguard registry …` does, and `modelguard compare` with a fingerprint on one side."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from modelguard.blobs.base import read_small
from modelguard.blobs.local import LocalBlob
from modelguard.errors import BadRequest, CannotPost, CannotRead, ExitCode
from modelguard.facts import facts
from modelguard.fingerprint.compare import ALPHA
from modelguard.known_models import by_name, confirmed, look_up
from modelguard.progress import shown
from modelguard.references import REGISTRY, Reach, open_reference
from modelguard.registry.base import Store
from modelguard.registry.exchange import read, written
from modelguard.registry.opening import open_registry
from modelguard.render import json_v1
from modelguard.render.text import terminal
from modelguard.sketches.comparison import compare_sketches
from modelguard.sketches.sketch import fingerprint, reveals
from modelguard.types.registry import Candidate, Entry, Fingerprint, Hit, Search
from modelguard.types.weights import Comparison

Result = tuple[int, str]
SCHEMA = "modelguard.registry/1"
MAX_SECRET = 4096


def registry(options: argparse.Namespace) -> Result:
    """`modelguard registry`."""
    return ExitCode.CONSISTENT, OPERATIONS[options.operation](options)


def by_sketch(options: argparse.Namespace) -> Comparison:
    """`modelguard compare` where a side is `registry:name`: by fingerprints alone."""
    with _opened(options) as store:
        left, right = (_fingerprint_of(reference, store, options) for reference in (options.left, options.right))
    return compare_sketches(left, right, (options.left, options.right), alpha=ALPHA)


def _add(options: argparse.Namespace) -> str:
    _, checkpoint = open_reference(options.checkpoint, _reach(options))
    facts(checkpoint)
    made = fingerprint(checkpoint, _secret(options))
    if not made.blocks:
        raise CannotRead(f"{options.checkpoint}: has no layer with a matrix of hidden units, so a fingerprint of it would find nothing")
    reference = options.reference if options.reference is not None else options.checkpoint if options.checkpoint.startswith("hf:") else ""
    name = options.name or options.checkpoint
    entry = Entry(name=name, alias=options.alias, reference=reference, independent=options.independent, fingerprint=made)
    with _opened(options, create=True) as store:
        store.add([entry], replacing=options.replace)
        where = store.where
    if options.format == "json":
        return json_v1.dumps({"schema": SCHEMA, "registry": where, "added": _entry(entry), "reveals": reveals(made)})
    return terminal(f"{where}: added {entry.shown}") + "\n" + terminal(f"its fingerprint {reveals(made)}") + "\n"


def _list(options: argparse.Namespace) -> str:
    with _opened(options) as store:
        entries = [_entry(entry) for entry in store.entries()]
        where = store.where
    if options.format == "json":
        return json_v1.dumps({"schema": SCHEMA, "registry": where, "entries": entries})
    lines = [
        f"{entry['name']}: {entry['parameters']:,} parameters, {entry['layers']} layers of {entry['shape'] or 'no known shape'}"
        + (", private" if entry["private"] else "")
        + (", independent" if entry["independent"] else "")
        for entry in entries
    ]
    return "".join(f"{terminal(line)}\n" for line in (*lines, f"{where}: {len(entries)} {_models(len(entries))}"))


def _search(options: argparse.Namespace) -> str:
    with shown(quiet=options.quiet) as progress:
        reach = _reach(options, progress)
        _, checkpoint = open_reference(options.checkpoint, reach)
        facts(checkpoint)
        with _opened(options) as store:
            found, entries = look_up(checkpoint, store, alpha=ALPHA, secret=_secret(options))
        if not options.sketches_only:
            references = {entry.shown: entry.reference for entry in entries if entry.reference and not entry.private}
            found = confirmed(found, checkpoint, references, lambda reference: open_reference(reference, reach)[1])
    if not found.searched:
        why = f"none of its {found.skipped} entries has a fingerprint of this method and shape" if found.skipped else "it holds no entries"
        raise CannotRead(
            f"{options.checkpoint}: cannot be looked up in {found.registry}: {why}", advice="`modelguard registry list` lists them"
        )
    return _search_document(found, options.checkpoint) if options.format == "json" else _search_text(found, options.checkpoint)


def _export(options: argparse.Namespace) -> str:
    with _opened(options) as store:
        lines = written(store.entries(), names=options.private_names)
        if options.file is None:
            return "".join(lines)
        try:
            with options.file.open("w", encoding="ascii") as file:
                file.writelines(lines)
        except OSError as error:
            raise CannotPost(f"{options.file}: {error.strerror}", advice="check the path") from error
        return f"{terminal(store.where)}: exported {store.count()} {_models(store.count())}\n"


def _import(options: argparse.Namespace) -> str:
    try:
        with options.file.open("rb") as file, _opened(options, create=True) as store:
            count = store.add(read(file, str(options.file)), replacing=options.replace)
            return f"{terminal(store.where)}: imported {count} {_models(count)}\n"
    except OSError as error:
        raise CannotRead(f"{options.file}: {error.strerror}", advice="check the path") from error


def _alias(options: argparse.Namespace) -> str:
    with _opened(options) as store:
        store.rename(options.name, options.alias)
    return f"{terminal(options.name)}: " + (f"now private, shown as {terminal(options.alias)}\n" if options.alias else "now public\n")


def _remove(options: argparse.Namespace) -> str:
    with _opened(options) as store:
        store.remove(options.name)
    return f"removed {terminal(options.name)}\n"


OPERATIONS: Mapping[str, Callable[[argparse.Namespace], str]] = {
    "add": _add,
    "list": _list,
    "search": _search,
    "export": _export,
    "import": _import,
    "alias": _alias,
    "remove": _remove,
}


@contextmanager
def _opened(options: argparse.Namespace, *, create: bool = False) -> Iterator[Store]:
    with closing(open_registry(options.registry, create=create)) as store:
        yield store


def _reach(options: argparse.Namespace, progress: Callable[[str, int, int], None] | None = None) -> Reach:
    return Reach(repo=options.repo, offline=options.offline, max_download=options.max_download, progress=progress)


def _fingerprint_of(reference: str, store: Store, options: argparse.Namespace) -> Fingerprint:
    if reference.startswith(REGISTRY):
        return by_name(store, reference.removeprefix(REGISTRY)).fingerprint
    _, checkpoint = open_reference(reference, _reach(options))
    facts(checkpoint)
    return fingerprint(checkpoint, _secret(options))


def _secret(options: argparse.Namespace) -> bytes:
    """The secret that a file holds; none where no file is named. An empty file is no secret, and must not make open sketches."""
    path: Path | None = options.secret
    if path is None:
        return b""
    secret = read_small(LocalBlob(path), MAX_SECRET).strip()
    if not secret:
        raise BadRequest(f"{path}: holds no secret", advice="make one with: openssl rand -hex 32")
    return secret


def _entry(entry: Entry) -> dict[str, object]:
    """An entry as outputs show it."""
    made = entry.fingerprint
    return {
        "name": entry.shown,
        "private": entry.private,
        "independent": entry.independent,
        "reference": "" if entry.private else entry.reference,
        "digest": None if entry.private else made.digest,
        "parameters": made.parameters,
        "layers": made.layers,
        "shape": made.shape,
        "vocabulary": made.vocabulary,
        "method": made.method,
    }


def _search_document(found: Search, name: str) -> str:
    document = {key: value for key, value in asdict(found).items() if key != "cost"}
    run = {**asdict(found.cost), "seconds": round(found.cost.seconds, 3)}
    return json_v1.dumps({"schema": SCHEMA, "checkpoint": name, **document, "run": run})


def _search_text(found: Search, name: str) -> str:
    lines = [f"{name}: {found.searched} of {found.searched + found.skipped} models in {found.registry} could be held against it"]
    lines += [_hit_line(hit) for hit in found.hits]
    lines += [_candidate_line(item) for item in found.candidates]
    lines += [] if found.hits or found.candidates else ["  no known model shows; a disguised, distilled or thinly merged one would not"]
    return "".join(f"{terminal(line)}\n" for line in lines)


def _hit_line(hit: Hit) -> str:
    chance = f"{hit.fixed} of {hit.rows} units at their own place, p at most 10^{hit.log10_p:.0f}"
    weights = f"; its own weights say: {hit.confirmed}" if hit.confirmed else ""
    return f"  {hit.name}: related ({chance}), distance {hit.distance:.3g}{weights}"


def _candidate_line(item: Candidate) -> str:
    weights = f"its own weights say: {item.confirmed}" if item.confirmed else "a full layer of it must be read to know"
    return f"  {item.name}: candidate, not a finding (token embeddings correlate by {item.gram:.2f}); {weights}"


def _models(count: int) -> str:
    return "model" if count == 1 else "models"
