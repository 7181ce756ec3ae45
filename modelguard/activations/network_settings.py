"""What of a `config.json` is believed: shapes and constants of a network, each of a checked type and size.

Nothing of a checkpoint's folder is executed or resolved: `auto_map` and whatever else would name code, kernels or places is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from modelguard.blobs.base import Folder, read_small
from modelguard.documents import json_object
from modelguard.types.findings import Missing

MAX_CONFIG_BYTES = 1 << 20
FAMILIES = frozenset(
    (
        *("bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "electra"),
        *("gpt2", "gpt_neo", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "t5", "vit"),
    )
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
    d_model: Width = UNSET
    d_kv: Width = UNSET
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
    d_ff: Inner = UNSET
    image_size: Annotated[int, Meta(ge=8, le=1 << 11)] | UnsetType = UNSET
    patch_size: Annotated[int, Meta(ge=1, le=1 << 9)] | UnsetType = UNSET
    num_channels: Annotated[int, Meta(ge=1, le=16)] | UnsetType = UNSET
    vocab_size: Table = UNSET
    type_vocab_size: Annotated[int, Meta(ge=0, le=1 << 10)] | UnsetType = UNSET
    pad_token_id: Annotated[int, Meta(ge=0, le=1 << 21)] | UnsetType | None = UNSET
    max_position_embeddings: Reach = UNSET
    n_positions: Reach = UNSET
    window_size: Reach = UNSET
    sliding_window: Reach = UNSET
    relative_attention_max_distance: Reach = UNSET
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
    final_logit_softcapping: Real = UNSET
    query_pre_attn_scalar: Annotated[int, Meta(ge=1, le=1 << 20)] | UnsetType = UNSET
    hidden_act: Activation | UnsetType = UNSET
    hidden_activation: Activation | UnsetType | None = UNSET
    activation_function: Activation | UnsetType = UNSET
    activation: Activation | UnsetType = UNSET
    feed_forward_proj: Literal["relu", "gelu", "gated-gelu", "gated-silu"] | UnsetType = UNSET
    qkv_bias: Flag = UNSET
    attention_bias: Flag = UNSET
    mlp_bias: Flag = UNSET
    use_parallel_residual: Flag = UNSET
    use_sliding_window: Flag = UNSET
    tie_word_embeddings: Flag = UNSET
    scale_attn_weights: Flag = UNSET
    scale_attn_by_inverse_layer_idx: Flag = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A network's family and its checked settings, and what was ignored and is worth saying."""

    family: str
    values: Mapping[str, Any]
    notes: tuple[str, ...]


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
