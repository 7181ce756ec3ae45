"""What the papers beside a model say about its optimizer: a generated card's list of hyperparameters, or a training configuration.

`training_args.bin` is a pickle and is never opened. Everything read here is a claim: it can only choose which bound is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from modelguard.blobs.base import Folder, read_small
from modelguard.documents import MAX_YAML_BYTES, json_object, yaml_document
from modelguard.errors import Malformed
from modelguard.types.displacement import OptimizerSettings

CONFIGS = (
    "training_config.json", "training_config.yaml", "training_config.yml", "training_args.json", "training_arguments.json",
    "training_args.yaml", "hparams.yaml",
)  # fmt: skip
MAX_DEPTH = 4
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_LINE = re.compile(r"^\s*[-*]\s+(optimizer|learning_rate|weight_decay|max_grad_norm|momentum)\s*:\s*(.{1,500})$", re.MULTILINE)
_NAME = re.compile(r"^(?:use\s+)?(?:OptimizerNames\.)?([A-Za-z][\w]{1,40})", re.IGNORECASE)
_BETAS = re.compile(rf"betas\s*[=:]\s*[(\[]\s*({NUMBER})\s*,\s*({NUMBER})\s*[)\]]")
_KERAS = re.compile(rf"'beta_([12])': ({NUMBER})")
NAMES = ("optim", "optimizer", "optimizer_name", "optimizer_type")
NUMBERS = {
    "learning_rate": ("learning_rate", "lr", "max_lr"),
    "weight_decay": ("weight_decay",),
    "momentum": ("momentum", "sgd_momentum"),
    "clip": ("max_grad_norm", "clip_grad", "gradient_clip_val", "grad_clip", "max_norm", "clip_grad_norm"),
}
SECOND_RATES = re.compile(
    r"(?:loraplus_lr|(?:embed(?:ding)?s?|head|vision|vision_tower|mm_projector|projector|backbone|encoder|decoder|router)_(?:lr|learning_rate)"
    r"|layer_?wise_lr|llrd|lr_groups|param_groups)"
)
LOW_RANK = ("use_peft", "peft", "lora", "use_lora", "qlora", "lora_r", "lora_rank", "peft_config", "load_in_4bit")
RANKS = ("lora_r", "lora_rank", "lora_dim")
WHOLE = ("modules_to_save", "lora_modules_to_save", "additional_target", "trainable_token_indices")  # beside an adapter
# what makes the movement of a merged adapter one of a higher rank than the adapter's own
RAISES_RANK = (
    *("load_in_4bit", "load_in_8bit", "qlora", "use_dora", "lora_use_dora", "peft_use_dora", "use_rslora_merge", "relora", "relora_steps"),
    *(
        "rank_pattern",
        "peft_init_lora_weights",
        "init_lora_weights",
        "pissa_init",
        "loftq",
        "loftq_config",
        "quantization_bit",
        "quantization_config",
    ),
)
REPEATS = (
    "num_ppo_epochs",
    "ppo_epochs",
    "num_iterations",
    "num_mini_batches",
    "updates_per_step",
    "num_updates_per_step",
    "gradient_steps",
)
FREEZES = re.compile(r"^(?:freeze|frozen)_([a-z][\w]{2,60})$")
NAMED_FROZEN = ("freeze", "frozen", "freeze_modules", "frozen_modules", "frozen_parameters", "freeze_parameters", "frozen_layers")
_PART = re.compile(r"^[A-Za-z][\w.]{2,100}$")


def settings_of(folder: Folder | None, card: bytes | None, card_name: str) -> OptimizerSettings:
    """What a training configuration in the folder states, completed by the card; nothing where neither says anything."""
    written = _from_configs(folder) if folder is not None else OptimizerSettings()
    said = from_card(card, card_name) if card is not None else OptimizerSettings()
    if not written.name:
        obstacles = (*written.obstacles, *said.obstacles)
        return replace(said, source=said.source or written.source, obstacles=obstacles, **_completed(said, written))
    if said.name and said.betas and written.betas and said.betas != written.betas:
        return replace(written, obstacles=(*written.obstacles, f"it states betas {written.betas}, {said.source} states {said.betas}"))
    return replace(written, obstacles=(*written.obstacles, *said.obstacles), **_completed(written, said))


def _completed(first: OptimizerSettings, second: OptimizerSettings) -> dict[str, Any]:
    """The numbers of the first paper, and of the second where the first is silent."""
    names = ("betas", "weight_decay", "momentum", "clip", "learning_rate")
    numbers = {name: getattr(second, name) if getattr(first, name) is None else getattr(first, name) for name in names}
    return numbers | {name: getattr(first, name) or getattr(second, name) for name in ("scaled", "rank", "whole", "frozen")}


def from_card(card: bytes, name: str) -> OptimizerSettings:
    """The list under "Training hyperparameters" of a generated model card."""
    lines = dict(_LINE.findall(card[:MAX_YAML_BYTES].decode("utf-8", errors="replace")))
    text = lines.get("optimizer", "").strip()
    match = _NAME.match(text)
    keras = dict(_KERAS.findall(text))
    pairs = [(float(a), float(b)) for a, b in _BETAS.findall(text)] or ([(float(keras["1"]), float(keras["2"]))] if len(keras) == 2 else [])
    obstacles = ("it states two pairs of betas",) if len(set(pairs)) > 1 else ()
    return OptimizerSettings(
        name=match[1].lower() if match else "",
        betas=pairs[0] if pairs else None,
        weight_decay=_plain(lines.get("weight_decay")),
        momentum=_plain(lines.get("momentum")) if "momentum" in lines else _plain_sgd(match[1] if match else "", text),
        clip=_plain(lines.get("max_grad_norm")),
        learning_rate=_plain(lines.get("learning_rate")),
        source=name if match else "",
        obstacles=obstacles,
    )


def _plain_sgd(name: str, text: str) -> float | None:
    """0 for the Trainer's SGD, which has momentum only through additional arguments."""
    return 0.0 if name.lower() == "sgd" and "No additional optimizer arguments" in text else None


def _plain(text: str | None) -> float | None:
    match = re.fullmatch(NUMBER, text.strip()) if text else None
    return float(match[0]) if match else None


def _from_configs(folder: Folder) -> OptimizerSettings:
    for name in CONFIGS:
        if name in folder.sizes:
            blob = folder.open(name)
            try:
                return from_config(read_small(blob, MAX_YAML_BYTES), blob.name)
            except Malformed as error:  # other programs' files may hold tags: what they state is then not known
                return OptimizerSettings(source=blob.name, obstacles=(f"it cannot be read ({str(error).rpartition(': ')[2]})",))
    return OptimizerSettings()


def from_config(data: bytes, name: str) -> OptimizerSettings:
    """A training configuration in JSON or YAML, whatever its nesting. Raises Malformed."""
    written = json_object(data, name) if name.endswith(".json") else yaml_document(data, name)
    if not isinstance(written, Mapping):
        raise Malformed(f"{name}: no mapping of settings", advice="write the training's settings as key: value")
    entries = list(_flat(written, MAX_DEPTH))
    values = {field: _one(entries, keys) for field, keys in NUMBERS.items()}
    named = [str(value) for key, value in entries if key in NAMES and isinstance(value, str)]
    match = _NAME.match(named[0]) if named else None
    return OptimizerSettings(
        name=match[1].lower() if match else "",
        betas=_betas(entries),
        source=name,
        scaled=any(key == "scale_parameter" and value is True for key, value in entries),
        obstacles=tuple(_obstacles(entries)),
        rank=_rank(entries),
        whole=tuple(sorted({part for key, value in entries if key in WHOLE for part in _parts(value)})),
        frozen=tuple(sorted(_frozen(entries))),
        **values,
    )


def _flat(written: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, object]]:
    """(key, value) of every entry, nested mappings included; an `optimizer` mapping lends its name or type to the key itself."""
    for key, value in written.items():
        word = str(key).lower()
        if isinstance(value, Mapping):
            if word in NAMES:
                yield from (("optimizer", inner) for field, inner in value.items() if str(field).lower() in ("name", "type", "_target_"))
            yield (word, True)
            yield from _flat(value, depth - 1) if depth else ()
        else:
            yield word, value


def _one(entries: Iterable[tuple[str, object]], keys: tuple[str, ...]) -> float | None:
    """The largest number that stands under one of the keys: what allows most movement."""
    found = [_number(value) for key, value in entries if key in keys]
    return max((value for value in found if value is not None), default=None)


def _number(value: object) -> float | None:
    if isinstance(value, str):
        return _plain(value)  # YAML reads 2e-5 as a text
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30 else None


def _betas(entries: list[tuple[str, object]]) -> tuple[float, float] | None:
    for key, value in entries:
        numbers = [_number(item) for item in value] if key in ("betas", "adam_betas") and isinstance(value, list) else []
        if len(numbers) == 2 and numbers[0] is not None and numbers[1] is not None:
            return numbers[0], numbers[1]
    first = _one(entries, ("adam_beta1", "beta1", "adam_b1"))
    second = _one(entries, ("adam_beta2", "beta2", "adam_b2"))
    return None if first is None or second is None else (first, second)


def _rank(entries: list[tuple[str, object]]) -> int:
    """The rank of a plain adapter; 0 where none is stated, or where merging one may leave a movement of a higher rank."""
    for key, value in entries:
        plain = ("default", True) if key.endswith("lora_weights") else (0,)
        if key in RAISES_RANK and value not in (None, False, *plain):
            return 0
    stated = _one(entries, RANKS)
    return int(stated) if stated is not None and 1 <= stated <= 1 << 16 else 0


def _frozen(entries: list[tuple[str, object]]) -> Iterator[str]:
    """Parts that are not trained: what `freeze_…: true` names, and lists of names."""
    for key, value in entries:
        match = FREEZES.match(key)
        if match and value is True and key not in NAMED_FROZEN:
            yield match[1]
        elif key in NAMED_FROZEN:
            yield from _parts(value)


def _parts(value: object) -> Iterator[str]:
    """Names of parts in a text or a list of texts; patterns are none, and are not tried."""
    texts = re.split(r"[,\s]+", value) if isinstance(value, str) else value if isinstance(value, list) else ()
    yield from (text.strip(".") for text in texts if isinstance(text, str) and _PART.match(text))


def _obstacles(entries: list[tuple[str, object]]) -> Iterator[str]:
    second = next((key for key, value in entries if SECOND_RATES.search(key) and value not in (None, False)), None)
    if second:
        yield f"it sets a rate of its own for some weights ({second[:40]})"
    low = next((key for key, value in entries if key in LOW_RANK and value not in (None, False, 0)), None)
    if low:
        yield f"it trains a low-rank adapter ({low[:40]})"
    repeated = next((key for key, value in entries if key in REPEATS and (_number(value) or 0) > 1), None)
    if repeated:
        yield f"several updates stand behind one logged step ({repeated[:40]})"
    if any(key == "gradient_clip_algorithm" and value == "value" for key, value in entries):
        yield "it clips gradients by value, not by norm"
