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

from modelguard.activations.network_settings import Settings
from modelguard.checkpoints.base import Checkpoint
from modelguard.types.findings import Missing

REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)  # by torch and transformers
STORED = frozenset(("F64", "F32", "F16", "BF16"))
MAX_MATRIX_BYTES = 8 << 30  # of one matrix in float32, except tables that are read by rows
ENCODERS = {"t5": "T5EncoderModel"}  # families of two halves, of which the encoder is run
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network without weights: transformers' configuration of it, and the shape of every tensor that it needs.

    `stack` is where its layers stand, such as `encoder.layer`; `units` how many an MLP has. A network for images has no `vocabulary`.
    """

    family: str
    config: Any
    shapes: Mapping[str, tuple[int, ...]]
    tables: frozenset[str]  # tensors that are looked up by rows
    stack: str
    layers: int
    heads: int
    groups: int  # of heads that share keys and values; as many as heads where none do
    width: int
    units: int
    vocabulary: int
    positions: int
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        grouped = f" in {self.groups} groups" if self.groups != self.heads else ""
        return f"{self.family}, {self.layers} layers, {self.heads} heads{grouped}, width {self.width}"

    def needed(self, depth: int) -> dict[str, tuple[int, ...]]:
        """Shapes by name of what the first `depth` layers need. A pooler works on what they gave."""
        beyond = tuple(f"{self.stack}.{index}." for index in range(depth, self.layers))
        return {name: shape for name, shape in self.shapes.items() if not name.startswith((*beyond, "pooler."))}


def design(settings: Settings, ref: str) -> Architecture | Missing:
    """The network that settings describe, measured without allocating it."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        with quiet():
            config = AutoConfig.for_model(settings.family, **settings.values, bos_token_id=None, eos_token_id=None)
            network = skeleton(settings.family, config)
            return _measured(settings, config, network, ref)
    except (StrictDataclassError, *REFUSALS) as error:
        return Missing(f"{ref}: transformers builds no network from this config.json ({type(error).__name__})")


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

    kind = getattr(transformers, ENCODERS[family]) if family in ENCODERS else transformers.AutoModel
    with quiet(), torch.random.fork_rng(devices=[]), Weightless(), torch.no_grad():
        network = kind._from_config(config, attn_implementation="eager") if family in ENCODERS else _plain(kind, config)
    return network.eval()


def _plain(kind: Any, config: Any) -> Any:
    return kind.from_config(config, attn_implementation="eager", trust_remote_code=False)


def _measured(settings: Settings, config: Any, network: Any, ref: str) -> Architecture | Missing:
    import torch

    layers, heads = int(config.num_hidden_layers), int(config.num_attention_heads)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    lists = [
        (name, module) for name, module in network.named_modules() if isinstance(module, torch.nn.ModuleList) and len(module) == layers
    ]
    tables = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, torch.nn.Embedding)}
    largest = max((4 * prod(shape) for name, shape in shapes.items() if name not in tables), default=0)
    if not lists or largest > MAX_MATRIX_BYTES:
        return Missing(f"{ref}: no stack of layers that can be run one by one" if not lists else f"{ref}: a matrix of {largest >> 30} GiB")
    inner = (getattr(config, name, None) for name in ("intermediate_size", "d_ff", "hidden_dim", "n_inner"))
    width = int(config.hidden_size)
    return Architecture(
        family=settings.family,
        config=config,
        shapes=shapes,
        tables=frozenset(tables),
        stack=max(lists, key=lambda pair: sum(parameter.numel() for parameter in pair[1].parameters()))[0],
        layers=layers,
        heads=heads,
        groups=int(getattr(config, "num_key_value_heads", None) or heads),
        width=width,
        units=int(next((size for size in inner if size), 4 * width)),
        vocabulary=int(config.vocab_size) if network.main_input_name == "input_ids" else 0,
        positions=int(getattr(config, "max_position_embeddings", None) or 512),
        notes=settings.notes,
    )


def align(shapes: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint) -> dict[str, str] | Missing:
    """For each tensor that a network needs, the checkpoint's name of it: behind one prefix, in today's or yesterday's spelling."""
    present = checkpoint.tensors
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
    old = name
    for new, earlier in EARLIER:
        old = old.replace(new, earlier)
    return old if name not in present and old in present else name


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
