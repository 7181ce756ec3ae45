"""What the index shows at a glance, before anything is pushed: weights outside Git LFS, and papers that the weights' headers contradict.

An audit says most of this too, later and with more behind it. Here each remark is one line with what to do.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping

from modelguard.attempt import attempt
from modelguard.blobs.lfs import parse_pointer
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.opening import open_checkpoint
from modelguard.checkpoints.peft import low_rank_factors
from modelguard.declaration import declare
from modelguard.documents import json_object
from modelguard.git import REGULAR_MODES, Git
from modelguard.types.changes import ChangedFile, ModelChange, ModelKind, TreeEntry
from modelguard.types.findings import Missing
from modelguard.world import World

WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".keras", ".onnx", ".msgpack")
LARGE = 50 << 20  # bytes; GitHub warns from here on, and refuses twice as much
MAX_PAPER_BYTES = 4 << 20
EMBEDDING = re.compile(r"(?:model\.|transformer\.|bert\.)?(?:embed_tokens|wte|embeddings\.word_embeddings)\.weight")
LAYER = re.compile(r"model\.layers\.(\d{1,6})\.")


def outside_lfs(git: Git, files: Iterable[ChangedFile]) -> Iterator[str]:
    """Staged weights that stand in the tree themselves where a pointer should."""
    entries = [file.after for file in files if file.after is not None and file.path.lower().endswith(WEIGHTS)]
    entries = [entry for entry in entries if entry.mode in REGULAR_MODES and not _is_pointer(git, entry)]
    tracked = git.attributes("filter", (entry.path for entry in entries)) if entries else {}
    for entry in entries:
        if tracked.get(entry.path) == "lfs":
            yield f"{entry.path}: belongs in Git LFS, but the weights themselves are staged; git lfs install, then git add --renormalize"
        elif entry.size > LARGE:
            yield f"{entry.path}: {entry.size >> 20} MiB of weights outside Git LFS; git lfs track them, then git add --renormalize"


def papers_against_weights(model: ModelChange, world: World) -> Iterator[str]:
    """Where card, configuration, adapter's configuration and the weights' headers contradict one another.

    What cannot be read here is the rules' business, which say so.
    """
    if model.kind is ModelKind.ADAPTER:
        yield from _bases(model, world)
    opened = _opened(model, world) if model.weights_touched else None
    if opened is None:
        return
    for path, judge in ((model.config, against_config), (model.adapter_config, against_adapter_config)):
        settings = _settings(path, world)
        yield from (f"{path}: {text}" for text in judge(settings, opened))


def against_config(config: Mapping[str, object], checkpoint: Checkpoint) -> Iterator[str]:
    """Counts in a config.json that the tensors do not have. Silent about architectures whose names are not known here."""
    shapes = {name: info.shape for name, info in checkpoint.tensors.items()}
    rows = next((shape[0] for name, shape in shapes.items() if EMBEDDING.fullmatch(name) and len(shape) == 2), None)
    vocabulary = config.get("vocab_size")
    if rows is not None and _count(vocabulary) and rows != vocabulary:
        yield f"vocab_size is {vocabulary}, the embedding has {rows} rows; commit the configuration that was saved with the weights"
    layers = len({match[1] for name in shapes if (match := LAYER.match(name))})
    stated, extra = config.get("num_hidden_layers"), config.get("num_nextn_predict_layers")
    if layers and isinstance(stated, int) and _count(stated) and not stated <= layers <= stated + (extra if isinstance(extra, int) else 0):
        yield f"num_hidden_layers is {stated}, the weights have {layers}; commit the configuration that was saved with the weights"


def against_adapter_config(config: Mapping[str, object], checkpoint: Checkpoint) -> Iterator[str]:
    """A rank in an adapter_config.json that none of the factors may have."""
    patterns = config.get("rank_pattern")
    stated = [config.get("r"), *(patterns.values() if isinstance(patterns, dict) else ())]
    shown = {a[0] for a, _ in low_rank_factors(checkpoint).values()}
    if config.get("peft_type") == "LORA" and all(map(_count, stated)) and not shown <= set(stated):
        ranks = ", ".join(map(str, sorted(shown)[:4]))
        yield f"r is {config['r']}, the factors have rank {ranks}; commit the configuration that was saved with the adapter"


def _bases(model: ModelChange, world: World) -> Iterator[str]:
    """The card and the adapter's configuration name different bases."""
    if model.card is None or model.adapter_config is None:
        return
    card, adapter = model.card, model.adapter_config
    both = attempt(
        lambda: (
            declare(card=world.read(card), card_name=card, adapter=None, adapter_name="", pin=None).bases,
            declare(card=None, card_name="", adapter=world.read(adapter), adapter_name=adapter, pin=None).bases,
        ),
        what="reading the declaration",
    )
    if isinstance(both, Missing) or not all(both):
        return
    claimed, (named, *_) = {base.name for base in both[0]}, both[1]
    if named.name not in claimed:
        names = ", ".join(sorted(claimed))
        yield f"{model.card}: declares {names}, {posixpath.basename(model.adapter_config)} {named.name}; name the base that was trained on"


def _opened(model: ModelChange, world: World) -> Checkpoint | None:
    directory, name = posixpath.split(model.entry)
    if model.kind is ModelKind.UNSUPPORTED:
        return None
    opened = attempt(lambda: open_checkpoint(world.folder(directory), name), what="opening the checkpoint")
    return None if isinstance(opened, Missing) else opened


def _settings(path: str | None, world: World) -> Mapping[str, object]:
    if path is None or world.tree[path].size > MAX_PAPER_BYTES:
        return {}
    read = attempt(lambda: json_object(world.read(path), path), what="reading a configuration")
    return {} if isinstance(read, Missing) else read


def _is_pointer(git: Git, entry: TreeEntry) -> bool:
    return entry.size < 1024 and parse_pointer(git.read(entry.oid, 1024)) is not None


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
