"""Networks that are run: built by transformers from numbers that we checked, filled by our own reader.

Nothing of a checkpoint's folder is executed or resolved: of `config.json` only the keys below are taken, each of a checked type
and size; `auto_map` and whatever else would name code, kernels or places is ignored.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from modelguard.blobs.base import Folder, read_small
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import to_float32
from modelguard.documents import json_object
from modelguard.types.findings import Missing

MAX_CONFIG_BYTES = 1 << 20
MAX_NETWORK_BYTES = 4 << 30  # of float32: what a hosted runner holds beside everything else
REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)  # by torch and transformers
STORED = frozenset(("F64", "F32", "F16", "BF16"))
FAMILIES = frozenset(
    (
        *("bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "electra"),
        *("gpt2", "gpt_neo", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"),
    )
)
PREFIXES = (
    *("", "model.", "transformer.", "bert.", "roberta.", "distilbert.", "mpnet.", "electra.", "gpt_neox."),
    *("auto_model.", "0.auto_model.", "model.model.", "base_model.model.model."),
)

Width = Annotated[int, Meta(ge=1, le=1 << 15)] | UnsetType | None
Inner = Annotated[int, Meta(ge=1, le=1 << 18)] | UnsetType | None
Depth = Annotated[int, Meta(ge=1, le=256)] | UnsetType
Heads = Annotated[int, Meta(ge=1, le=512)] | UnsetType | None
Table = Annotated[int, Meta(ge=1, le=1 << 21)] | UnsetType
Reach = Annotated[int, Meta(ge=1, le=1 << 24)] | UnsetType | None
Real = Annotated[float, Meta(ge=-1e12, le=1e12)] | UnsetType | None
Flag = bool | UnsetType
Activation = Literal["gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish", "tanh"]
RopeRule = Literal["default", "linear", "dynamic", "llama3", "yarn"]


class Rope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How rotary positions are scaled."""

    rope_type: RopeRule | UnsetType = UNSET
    type: RopeRule | UnsetType = UNSET
    rope_theta: Real = UNSET
    factor: Real = UNSET
    partial_rotary_factor: Real = UNSET
    low_freq_factor: Real = UNSET
    high_freq_factor: Real = UNSET
    beta_fast: Real = UNSET
    beta_slow: Real = UNSET
    attention_factor: Real = UNSET
    original_max_position_embeddings: Reach = UNSET


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The keys of a `config.json` that are used: they give the shapes and constants of a network, and name nothing."""

    hidden_size: Width = UNSET
    n_embd: Width = UNSET
    dim: Width = UNSET
    embedding_size: Width = UNSET
    head_dim: Width = UNSET
    num_hidden_layers: Depth = UNSET
    n_layer: Depth = UNSET
    n_layers: Depth = UNSET
    num_layers: Depth = UNSET
    max_window_layers: Annotated[int, Meta(ge=0, le=256)] | UnsetType = UNSET
    num_attention_heads: Heads = UNSET
    n_head: Heads = UNSET
    n_heads: Heads = UNSET
    num_heads: Heads = UNSET
    num_key_value_heads: Heads = UNSET
    intermediate_size: Inner = UNSET
    n_inner: Inner = UNSET
    hidden_dim: Inner = UNSET
    vocab_size: Table = UNSET
    type_vocab_size: Annotated[int, Meta(ge=0, le=1 << 10)] | UnsetType = UNSET
    pad_token_id: Annotated[int, Meta(ge=0, le=1 << 21)] | UnsetType | None = UNSET
    max_position_embeddings: Reach = UNSET
    n_positions: Reach = UNSET
    window_size: Reach = UNSET
    sliding_window: Reach = UNSET
    relative_attention_num_buckets: Annotated[int, Meta(ge=2, le=1 << 12)] | UnsetType = UNSET
    attention_types: list[tuple[list[Literal["global", "local"]], Annotated[int, Meta(ge=1, le=256)]]] | UnsetType = UNSET
    layer_norm_eps: Real = UNSET
    layer_norm_epsilon: Real = UNSET
    rms_norm_eps: Real = UNSET
    rope_theta: Real = UNSET
    rotary_pct: Real = UNSET
    rotary_emb_base: Real = UNSET
    partial_rotary_factor: Real = UNSET
    rope_scaling: Rope | UnsetType | None = UNSET
    rope_parameters: Rope | UnsetType | None = UNSET
    attn_logit_softcapping: Real = UNSET
    query_pre_attn_scalar: Annotated[int, Meta(ge=1, le=1 << 20)] | UnsetType = UNSET
    hidden_act: Activation | UnsetType = UNSET
    hidden_activation: Activation | UnsetType | None = UNSET
    activation_function: Activation | UnsetType = UNSET
    activation: Activation | UnsetType = UNSET
    attention_bias: Flag = UNSET
    mlp_bias: Flag = UNSET
    use_parallel_residual: Flag = UNSET
    use_sliding_window: Flag = UNSET
    scale_attn_weights: Flag = UNSET
    scale_attn_by_inverse_layer_idx: Flag = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A network's family and its checked settings, and what was ignored and is worth saying."""

    family: str
    values: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network without weights: transformers' configuration of it, and the shape of every tensor that it needs."""

    family: str
    config: Any
    shapes: Mapping[str, tuple[int, ...]]
    layers: int
    heads: int
    groups: int  # of heads that share keys and values; as many as heads where none do
    width: int
    vocabulary: int
    positions: int
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        grouped = f" in {self.groups} groups" if self.groups != self.heads else ""
        return f"{self.family}, {self.layers} layers, {self.heads} heads{grouped}, width {self.width}"


def read_settings(folder: Folder) -> Settings | Missing:
    """The checked settings of a folder's `config.json`. Raises CannotRead for a file that is no JSON object."""
    if "config.json" not in folder.sizes:
        return Missing(f"{folder.ref}: no config.json, so the network cannot be built", advice="put config.json beside the weights")
    name = f"{folder.ref}/config.json"
    raw = json_object(read_small(folder.open("config.json"), MAX_CONFIG_BYTES), name)
    family = raw.get("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        return Missing(f"{name}: activations are not compared for the architecture {str(family)[:40]!a}")
    if raw.get("position_embedding_type", "absolute") != "absolute" or raw.get("sinusoidal_pos_embds"):
        return Missing(f"{name}: fixed or relative positions tie the axes of the hidden states, so the test would not be exact")
    try:
        values = msgspec.to_builtins(msgspec.convert(raw, ConfigFile))
    except msgspec.ValidationError as error:
        return Missing(f"{name}: not a setting that a network is run with: {' '.join(str(error).split())[:200]}")
    notes = (f"{name}: auto_map names custom code; it is ignored and was not run",) if "auto_map" in raw else ()
    return Settings(family=family, values=values, notes=notes)


def design(settings: Settings, ref: str) -> Architecture | Missing:
    """The network that settings describe, measured without allocating it."""
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModel

    try:
        with _quiet(), torch.device("meta"):
            config = AutoConfig.for_model(settings.family, **settings.values, bos_token_id=None, eos_token_id=None)
            network = AutoModel.from_config(config, attn_implementation="eager", trust_remote_code=False)
    except (StrictDataclassError, *REFUSALS) as error:
        return Missing(f"{ref}: transformers builds no network from this config.json ({type(error).__name__})")
    size = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    if size > MAX_NETWORK_BYTES:
        limit = f"more than the {MAX_NETWORK_BYTES >> 30} GiB that are run"
        return Missing(f"{ref}: the network takes {size / 2**30:.1f} GiB in float32, {limit}")
    heads = int(config.num_attention_heads)
    return Architecture(
        family=settings.family,
        config=config,
        shapes={name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if not name.startswith("pooler.")},
        layers=int(config.num_hidden_layers),
        heads=heads,
        groups=int(getattr(config, "num_key_value_heads", None) or heads),
        width=int(config.hidden_size),
        vocabulary=int(config.vocab_size),
        positions=int(config.max_position_embeddings),
        notes=settings.notes,
    )


def load(checkpoint: Checkpoint, architecture: Architecture) -> Any | Missing:
    """The network with the checkpoint's weights in it, in float32 and ready to be run; or which tensor stands in the way."""
    import torch
    from transformers import AutoModel

    names = align(architecture.shapes, checkpoint)
    if isinstance(names, Missing):
        return names
    with _quiet(), torch.random.fork_rng(devices=[]), torch.no_grad():
        network = AutoModel.from_config(architecture.config, attn_implementation="eager", trust_remote_code=False)
        for name, tensor in network.float().state_dict().items():
            if name in names:
                tensor.copy_(torch.from_numpy(_read(checkpoint, names[name])))
    return network.eval()


def align(shapes: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint) -> dict[str, str] | Missing:
    """For each tensor that a network needs, the checkpoint's name of it: behind one prefix, in today's or yesterday's spelling."""
    present = checkpoint.tensors
    prefix = max(PREFIXES, key=lambda prefix: sum(prefix + name in present for name in shapes))
    names = {name: _spelling(prefix + name, present) for name in shapes}
    for name, shape in shapes.items():
        info = present.get(names[name])
        if info is None:
            return Missing(f"{checkpoint.ref}: the tensor {name}, which its config.json calls for, is not there")
        if info.shape != shape:
            return Missing(f"{checkpoint.ref}: the tensor {name} has shape {info.shape}, {shape} by its config.json")
        if info.dtype not in STORED:
            return Missing(f"{checkpoint.ref}: the tensor {name} is stored as {info.dtype}; quantised networks are not run")
    return names


def _spelling(name: str, present: Iterable[str]) -> str:
    """The name as the checkpoint spells it; early BERT checkpoints call a normalisation's weight gamma and its bias beta."""
    old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    return old if name not in present and old in present else name


def _read(checkpoint: Checkpoint, name: str) -> NDArray[np.float32]:
    info = checkpoint.tensors[name]
    raw = np.empty(info.nbytes, dtype=np.uint8)
    checkpoint.readinto(name, 0, raw.data)
    return to_float32(raw, info.dtype).reshape(info.shape)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers' remarks about a stranger's configuration out of our output; what matters is said as a reason."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
