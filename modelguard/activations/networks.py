"""Networks without weights, built by transformers from numbers that we checked (`network_settings`), and where their weights are.

The matrices of a network are never allocated here: they are described, and the checkpoint must have each of them in its shape.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

from modelguard.activations.experts import stacked
from modelguard.activations.network_settings import Settings
from modelguard.checkpoints.base import Checkpoint
from modelguard.types.findings import Missing

REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)  # by torch and transformers
STORED = frozenset(("F64", "F32", "F16", "BF16"))
MAX_MATRIX_BYTES = 8 << 30  # of one matrix in float32, except tables that are read by rows
MAX_EXPERTS = 1 << 15  # in all layers
MASKED = frozenset(("gpt_neo",))  # families that keep a mask of all positions in every layer, a byte a pair
MAX_MASK_BYTES = 1 << 30
ENCODERS = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel"}  # what the encoder of a family of two halves is called
PREFIXES = (
    *("", "model.", "transformer.", "bert.", "roberta.", "distilbert.", "mpnet.", "electra.", "gpt_neox.", "vit."),
    *("auto_model.", "0.auto_model.", "model.model.", "model.language_model.", "base_model.model.model."),
)
EARLIER = (  # early BERT, and the ViT that is on the hub; in this order
    ("LayerNorm.weight", "LayerNorm.gamma"),
    ("LayerNorm.bias", "LayerNorm.beta"),
    ("layers.", "encoder.layer."),
    (".attention.q_proj.", ".attention.attention.query."),
    (".attention.k_proj.", ".attention.attention.key."),
    (".attention.v_proj.", ".attention.attention.value."),
    (".attention.o_proj.", ".attention.output.dense."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
)
SPELLINGS = (EARLIER, ((".mlp.", ".block_sparse_moe."),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network without weights: transformers' configuration of it, and the shape of every tensor that it needs.

    `stacks` are where its layers stand, such as `encoder.layer`, in the order in which they run, `depths` how many in each; `units` how
    many an MLP has, 0 where a layer has several MLPs. A network for images has no `vocabulary`.
    """

    family: str
    config: Any
    shapes: Mapping[str, tuple[int, ...]]
    tables: frozenset[str]  # tensors that are looked up by rows
    stacks: tuple[str, ...]
    depths: tuple[int, ...]
    heads: int
    groups: int  # of heads that share keys and values; as many as heads where none do
    width: int
    units: int
    vocabulary: int
    positions: int
    notes: tuple[str, ...]

    @property
    def layers(self) -> int:
        return sum(self.depths)

    @property
    def text(self) -> str:
        grouped = f" in {self.groups} groups" if self.groups != self.heads else ""
        return f"{self.family}, {'+'.join(map(str, self.depths))} layers, {self.heads} heads{grouped}, width {self.width}"

    @property
    def places(self) -> tuple[str, ...]:
        """Where each layer stands, in the order in which they run."""
        return tuple(f"{stack}.{index}" for stack, depth in zip(self.stacks, self.depths, strict=True) for index in range(depth))

    def needed(self, depth: int) -> dict[str, tuple[int, ...]]:
        """Shapes by name of what the first `depth` layers need. A pooler works on what they gave."""
        beyond = tuple(f"{place}." for place in self.places[depth:])
        return {name: shape for name, shape in self.shapes.items() if not name.startswith((*beyond, "pooler."))}


def design(settings: Settings, ref: str) -> Architecture | Missing:
    """The network that settings describe, measured without allocating it."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        with quiet():
            config = AutoConfig.for_model(settings.family, **settings.values, bos_token_id=None, eos_token_id=None)
            if too_large := _too_large(config):
                return Missing(f"{ref}: {too_large} by its config.json")
            network = skeleton(settings.family, config)
            return _measured(settings, config, network, ref)
    except (StrictDataclassError, *REFUSALS) as error:
        return Missing(f"{ref}: transformers builds no network from this config.json ({type(error).__name__})")


def _too_large(config: Any) -> str:
    """What of a network would take more than a description before its first weight is read; "" where nothing does."""
    layers = int(config.num_hidden_layers)
    if layers * _experts(config) > MAX_EXPERTS:
        return f"more than {MAX_EXPERTS} experts"
    masks = layers * int(config.max_position_embeddings) ** 2 if config.model_type in MASKED else 0
    return f"masks of {masks >> 30} GiB" if masks > MAX_MASK_BYTES else ""


def skeleton(family: str, config: Any) -> Any:
    """The network with buffers but without weights. What `torch.empty` would allocate, and that is every matrix, is described only."""
    import torch
    import transformers
    from torch.overrides import TorchFunctionMode

    class Weightless(TorchFunctionMode):  # type: ignore[misc]  # torch is not followed
        """Keeps matrices off the memory; buffers are made by other functions."""

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = dict(kwargs or {})
            return function(*args, **given | {"device": "meta"} if function is torch.empty else given)

    encoder = getattr(transformers, ENCODERS[family]) if family in ENCODERS and not config.is_encoder_decoder else None
    with quiet(), torch.random.fork_rng(devices=[]), Weightless(), torch.no_grad():
        network = _plain(transformers.AutoModel, config) if encoder is None else encoder._from_config(config, attn_implementation="eager")
    if family in ENCODERS and encoder is None:
        network.register_forward_pre_hook(_both_halves, with_kwargs=True)
    return network.eval()


def _plain(kind: Any, config: Any) -> Any:
    return kind.from_config(config, attn_implementation="eager", trust_remote_code=False)


def _both_halves(_network: Any, given: Any, named: Any) -> Any:
    """A decoder continues the very text that the encoder was given."""
    return given, named | {"decoder_input_ids": named["input_ids"]}


def _experts(config: Any) -> int:
    """How many experts a sparse layer has; 0 where there are none."""
    return max(int(getattr(config, name, None) or 0) for name in ("num_local_experts", "num_experts"))


def _measured(settings: Settings, config: Any, network: Any, ref: str) -> Architecture | Missing:
    import torch

    heads = int(config.num_attention_heads)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    stacks = _stacks(config, network)
    tables = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, torch.nn.Embedding)}
    largest = max((4 * prod(shape) for name, shape in shapes.items() if name not in tables), default=0)
    if not stacks or largest > MAX_MATRIX_BYTES:
        return Missing(f"{ref}: no stack of layers that can be run one by one" if not stacks else f"{ref}: a matrix of {largest >> 30} GiB")
    inner = (getattr(config, name, None) for name in ("intermediate_size", "d_ff", "hidden_dim", "n_inner"))
    width = int(config.hidden_size)
    return Architecture(
        family=settings.family,
        config=config,
        shapes=shapes,
        tables=frozenset(tables),
        stacks=tuple(stacks),
        depths=tuple(stacks.values()),
        heads=heads,
        groups=int(getattr(config, "num_key_value_heads", None) or heads),
        width=width,
        units=0 if _experts(config) else int(next((size for size in inner if size), 4 * width)),
        vocabulary=int(config.vocab_size) if network.main_input_name == "input_ids" else 0,
        positions=int(getattr(config, "max_position_embeddings", None) or 512),
        notes=settings.notes,
    )


def _stacks(config: Any, network: Any) -> dict[str, int]:
    """Where the layers stand and how many there are; the largest list of the right length, or those of an encoder and its decoder."""
    import torch

    lists = {name: module for name, module in network.named_modules() if isinstance(module, torch.nn.ModuleList)}
    if config.is_encoder_decoder:
        return {name: len(lists[name]) for name in ("encoder.block", "decoder.block")}
    sizes = {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in lists.items()
        if len(module) == int(config.num_hidden_layers)
    }
    return {max(sizes, key=sizes.__getitem__): int(config.num_hidden_layers)} if sizes else {}


def align(shapes: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint) -> dict[str, str] | Missing:
    """For each tensor that a network needs, the checkpoint's name of it: behind one prefix, in today's or yesterday's spelling."""
    present = stacked(checkpoint).tensors
    prefix = max(PREFIXES, key=lambda prefix: sum(_spelling(prefix + name, present) in present for name in shapes))
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
    """The name as the checkpoint spells it, which may be an older way than that of today's networks."""
    for spelling in SPELLINGS if name not in present else ():
        old = name
        for new, earlier in spelling:
            old = old.replace(new, earlier)
        if old in present:
            return old
    return name


@contextmanager
def quiet() -> Iterator[None]:
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
