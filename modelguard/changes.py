"""From changed files to the models that they belong to: the units of an audit."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping

from modelguard.blobs.lfs import parse_pointer
from modelguard.evals.harness import looks_like_evals
from modelguard.git import REGULAR_MODES
from modelguard.logs.names import Likelihood, likelihood, looks_like_log
from modelguard.types.changes import ELSEWHERE, NOT_AT_HAND, ChangedFile, ModelChange, ModelKind, TreeEntry
from modelguard.types.findings import Absence, Missing

INDEX_SUFFIX = ".safetensors.index.json"
SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}\.safetensors", re.DOTALL)
TORCH_SHARD = re.compile(r".+-\d{5}-of-\d{5}\.(bin|pt|pth)", re.DOTALL)
ADAPTER = re.compile(r"adapter_model(\..+)?\.safetensors")
TORCH_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
OTHER_SUFFIXES = {".gguf": "GGUF", ".h5": "Keras HDF5", ".keras": "Keras", ".onnx": "ONNX", ".msgpack": "Flax msgpack"}
WEIGHT_NAMES = (".safetensors", INDEX_SUFFIX, *TORCH_SUFFIXES, *OTHER_SUFFIXES)
TRAINER_STATE = re.compile(r"(optimizer|scheduler|rng_state|training_args|scaler|random_states)[\w-]*\.(pt|pth|bin|pkl)")
CARDS = ("README.md", "MODEL_CARD.md", "model_card.md")
MEDIA = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".mp3", ".wav", ".flac", ".ogg", ".mp4", ".webm", ".mov", ".pdf")
OTHER_CONTENT = (*MEDIA, ".ttf", ".woff2", ".parquet", ".arrow")
LARGE = 1 << 20  # bytes of a Git LFS object that is taken for weights while nobody can look into it
SMALL = 1 << 12  # files below this are no pickled checkpoints, unless they say so by their name
MAX_HEADER = 100_000_000  # the safetensors format's own limit

Sniff = Callable[[TreeEntry], bytes]


def group(
    files: Iterable[ChangedFile], tree: Mapping[str, TreeEntry], before: Mapping[str, TreeEntry], sniff: Sniff
) -> tuple[ModelChange, ...]:
    """The models of `tree` (the head) that the changed files concern, in path order.

    A model is concerned when one of its weight files changed, or one of the papers beside it: a new card or log is a new claim.
    `sniff` gives the first bytes of an entry (of the object behind a Git LFS pointer, where it is at hand) and is asked only about
    changed files whose name does not tell.
    """
    touched = {file.path for file in files}
    entries = _entries(tree, before, touched, sniff)
    models = (_model(entry, kind, note, tree, before, entries, touched) for entry, (kind, note) in sorted(entries.items()))
    return tuple(model for model in models if model.touched)


def not_followed(files: Iterable[ChangedFile]) -> tuple[str, ...]:
    """Changed symbolic links and submodules: reported, never followed."""
    return tuple(file.path for file in files if file.after is not None and file.after.mode not in REGULAR_MODES)


def unread(change: ModelChange) -> Missing:
    """Why the weights of a model of unsupported kind were not looked at."""
    why, advice = f"{change.entry}: {change.format_note} weights are not read", "save them as safetensors"
    if change.format_note == NOT_AT_HAND:
        why, advice = f"{change.entry}: its Git LFS object is not here, so it may be weights", "fetch it: git lfs pull"
    if change.format_note == ELSEWHERE:
        why, advice = f"{change.entry}: a symbolic link or submodule in the place of weights", "commit the weights themselves"
    return Missing(why, advice=advice, kind=Absence.BROKEN)


def removed_weights(files: Iterable[ChangedFile]) -> tuple[str, ...]:
    """Weight files that the change takes away."""
    return tuple(file.path for file in files if file.after is None and file.path.endswith((".safetensors", INDEX_SUFFIX)))


def _entries(
    tree: Mapping[str, TreeEntry], before: Mapping[str, TreeEntry], touched: set[str], sniff: Sniff
) -> dict[str, tuple[ModelKind, str]]:
    """Every file of the tree that opens a model, with its kind. Other files count when they changed and are weights by content."""
    regular = {path: entry for path, entry in tree.items() if entry.mode in REGULAR_MODES}
    entries: dict[str, tuple[ModelKind, str]] = {}
    for path, entry in regular.items():
        name = posixpath.basename(path)
        if name.endswith(INDEX_SUFFIX):
            entries[path] = (ModelKind.SHARDED, "")
        elif name.endswith(".safetensors"):
            if not _indexed(path, regular):
                entries[path] = (ModelKind.ADAPTER if ADAPTER.fullmatch(name) else ModelKind.SINGLE, "")
        elif path in touched:
            kind = _other_format(name, entry, sniff)
            if kind:
                entries[path] = kind
    irregular = sorted((tree.keys() & touched) - regular.keys())
    return entries | {path: (ModelKind.UNSUPPORTED, ELSEWHERE) for path in irregular if _stands_for_weights(path, before)}


def _stands_for_weights(path: str, before: Mapping[str, TreeEntry]) -> bool:
    """Whether a symbolic link or submodule has a weight file's name, or stands where a directory with weights was."""
    if path.lower().endswith(WEIGHT_NAMES):
        return True
    return any(other.startswith(f"{path}/") and other.lower().endswith(WEIGHT_NAMES) for other in before)


def _indexed(path: str, regular: Mapping[str, TreeEntry]) -> bool:
    """Whether a file is a shard of an index beside it."""
    match = SHARD.fullmatch(path)
    return match is not None and f"{match['stem']}{INDEX_SUFFIX}" in regular


def _other_format(name: str, entry: TreeEntry, sniff: Sniff) -> tuple[ModelKind, str] | None:
    """What a changed file is that is no safetensors file by its name: weights in a format that is not read, or nothing of ours."""
    if TRAINER_STATE.fullmatch(name):
        return None
    suffix = posixpath.splitext(name)[1].lower()
    if suffix in OTHER_SUFFIXES:
        return ModelKind.UNSUPPORTED, OTHER_SUFFIXES[suffix]
    head = sniff(entry)
    if len(head) > 8 and head[8:].lstrip()[:1] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER:
        return ModelKind.SINGLE, ""
    if head[:4] == b"GGUF":
        return ModelKind.UNSUPPORTED, "GGUF"
    if head[:4] == b"PK\x03\x04" and (suffix in TORCH_SUFFIXES or b"/data.pkl" in head):
        return (ModelKind.UNSUPPORTED, "sharded torch") if TORCH_SHARD.fullmatch(name) else (ModelKind.SINGLE, "")
    pickled = head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    pointer = parse_pointer(head) if suffix not in OTHER_CONTENT else None
    if pointer is not None and pointer.size >= LARGE and suffix not in TORCH_SUFFIXES:
        return ModelKind.UNSUPPORTED, NOT_AT_HAND
    if suffix in TORCH_SUFFIXES or (pickled and entry.size >= SMALL):
        return ModelKind.UNSUPPORTED, "torch or pickle"
    return None


def _model(
    entry: str,
    kind: ModelKind,
    note: str,
    tree: Mapping[str, TreeEntry],
    before: Mapping[str, TreeEntry],
    entries: Mapping[str, tuple[ModelKind, str]],
    touched: set[str],
) -> ModelChange:
    """A model with its weights and the papers beside it. What the change takes away from it concerns it like what it adds."""
    directory = posixpath.dirname(entry)
    weights = _weights(entry, kind, tree) | _weights(entry, kind, before)
    others = {posixpath.dirname(other) for other in entries} - {directory}
    card, config, adapter_config, logs = _papers(directory, kind, tree, others)
    *papers_before, logs_before = _papers(directory, kind, before, others)
    told = (path for path in (*logs, *logs_before) if likelihood(path) >= Likelihood.LIKELY)  # any text file may be a log: few are
    scores = (path for path in touched if looks_like_evals(path) and _inside(path, directory, others))
    papers = {path for path in (card, config, adapter_config, *papers_before, *told, *scores) if path}
    return ModelChange(
        subject=entry,
        kind=kind,
        entry=entry,
        before_entry=entry if entry in before else None,
        card=card,
        config=config,
        adapter_config=adapter_config,
        logs=logs,
        touched=tuple(sorted((papers | weights) & touched)),
        weights_touched=bool(weights & touched),
        format_note=note,
    )


def _weights(entry: str, kind: ModelKind, tree: Mapping[str, TreeEntry]) -> set[str]:
    if kind is not ModelKind.SHARDED:
        return {entry}
    stem = entry.removesuffix(INDEX_SUFFIX)
    shards = {path for path in tree if (match := SHARD.fullmatch(path)) and match["stem"] == stem}
    return {entry} | shards


def _papers(
    directory: str, kind: ModelKind, tree: Mapping[str, TreeEntry], others: set[str]
) -> tuple[str | None, str | None, str | None, tuple[str, ...]]:
    """The card, the configuration, the adapter's configuration and the logs of a directory's model."""
    adapter_config = _beside(directory, "adapter_config.json", tree) if kind is ModelKind.ADAPTER else None
    card, config = _nearest(directory, CARDS, tree), _beside(directory, "config.json", tree)
    return card, config, adapter_config, _logs(directory, tree, others)


def _beside(directory: str, name: str, tree: Mapping[str, TreeEntry]) -> str | None:
    path = posixpath.join(directory, name)
    return path if path in tree and tree[path].mode in REGULAR_MODES else None


def _nearest(directory: str, names: tuple[str, ...], tree: Mapping[str, TreeEntry]) -> str | None:
    """The first of `names` in a directory or the nearest one above it."""
    while True:
        for name in names:
            if path := _beside(directory, name, tree):
                return path
        if not directory:
            return None
        directory = posixpath.dirname(directory)


def _logs(directory: str, tree: Mapping[str, TreeEntry], others: set[str]) -> tuple[str, ...]:
    """Log files in a model's directory and below it, except in the directories of other models."""
    prefix = f"{directory}/" if directory else ""
    below = (path for path, entry in tree.items() if path.startswith(prefix) and entry.mode in REGULAR_MODES)
    mine = (path for path in below if _inside(path, directory, others))
    return tuple(sorted(path for path in mine if looks_like_log(path)))


def _inside(path: str, directory: str, others: set[str]) -> bool:
    """Whether a path is in a model's directory or below it, and not in that of a model below it."""
    prefix = f"{directory}/" if directory else ""
    return path.startswith(prefix) and not any(_under(path, other) for other in others if other.startswith(prefix))


def _under(path: str, directory: str) -> bool:
    return bool(directory) and path.startswith(f"{directory}/")
