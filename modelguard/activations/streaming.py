"""Runs a network whose weights never are in memory at once: each module reads its own when it is called and lets go of them after.

So a checkpoint larger than memory runs, over any transport; of tables of embeddings only the rows are read that the probes look up;
the output head is not run at all, and nothing behind the last wanted layer is read. What a layer did is reduced before the next.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelguard.activations.experts import stacked
from modelguard.activations.heads import head_statistics
from modelguard.activations.networks import REFUSALS, Architecture, align, quiet, skeleton
from modelguard.activations.next_tokens import DECODERS
from modelguard.activations.probes import Probes
from modelguard.activations.traces import MOST_UNITS, Half, Trace, content, states
from modelguard.checkpoints.base import Checkpoint
from modelguard.checkpoints.dtypes import NUMPY, to_float32
from modelguard.types.findings import Missing

Floats = NDArray[np.float32]

TILE_BYTES = 4 << 20
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
TELLING = frozenset(("mpnet", "distilbert", "t5", "mt5"))  # show attention patterns only to those who ask; of transformers 5.0, mT5 too

Advance = Callable[[int], None]
Change = Callable[[Any], None]


class _Enough(Exception):
    """The last wanted layer has run."""


class _Source:
    """A checkpoint's tensors under the names that the network has for them."""

    def __init__(self, checkpoint: Checkpoint, names: Mapping[str, str], change: Change, advance: Advance) -> None:
        self._checkpoint, self._names = stacked(checkpoint), names
        self._change, self._advance = change, advance
        self._tile = np.empty(TILE_BYTES, dtype=np.uint8)  # one for all reads: many large arrays in turn leave holes in memory

    def whole(self, name: str) -> NDArray[np.float32]:
        info = self._checkpoint.tensors[self._names[name]]
        made = np.empty(info.entries, dtype=np.float32)
        self._fill(made, info.name, 0)
        return made.reshape(info.shape)

    def rows(self, name: str, wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        """Those rows of a table (rows, width)."""
        info = self._checkpoint.tensors[self._names[name]]
        made = np.empty((len(wanted), info.shape[1]), dtype=np.float32)
        for row, place in zip(made, wanted.tolist(), strict=True):
            self._fill(row, info.name, place * info.shape[1])
        return made

    def changed(self, tensor: Any) -> Any:
        self._change(tensor)
        return tensor

    def _fill(self, target: NDArray[np.float32], name: str, first: int) -> None:
        """Fills `target` with entries from the tensor's entry `first`, a tile at a time."""
        dtype = self._checkpoint.tensors[name].dtype
        size = NUMPY[dtype].itemsize
        step = TILE_BYTES // size
        for start in range(0, target.size, step):
            piece = target[start : start + step]
            raw = self._tile[: piece.size * size]
            self._checkpoint.readinto(name, (first + start) * size, raw.data)
            to_float32(raw, dtype, out=piece)
            self._advance(raw.nbytes)


class _Recorder:
    """What the layers did, reduced; raises _Enough behind the last wanted one, unless the network's own end is wanted too."""

    def __init__(self, architecture: Architecture, depth: int, *, telling: bool) -> None:
        self._architecture, self._depth, self._telling = architecture, depth, telling
        self._through = telling and depth == architecture.layers and architecture.family in DECODERS
        self._pattern: Half | None = None
        self._statistics: Half | None = None
        self._last: Any = None
        self._done = 0
        self._kept: dict[str, Half] = {}

    def inside(self, _module: Any, given: Any, out: Any) -> None:
        """Of each module in a layer: keeps the attention's pattern, and what went into a matrix from the MLP's width to the network's."""
        import torch

        heads = self._architecture.heads
        for part in out if isinstance(out, tuple) else ():
            if isinstance(part, torch.Tensor) and part.ndim == 4 and part.shape[1] == heads and part.shape[2] == part.shape[3]:
                self._pattern = content(_floats(part))
                self._statistics = head_statistics(_floats(part)) if self._telling else None
        into = given[0] if given and isinstance(given[0], torch.Tensor) else None
        narrow = isinstance(out, torch.Tensor) and out.ndim >= 2 and out.shape[-1] == self._architecture.width
        if into is not None and narrow and into.shape[-1] == self._architecture.units:
            self._last = into

    def behind(self, _module: Any, _given: Any, out: Any) -> None:
        """Of each layer."""
        self._keep("states", states(_floats(out[0] if isinstance(out, tuple) else out)))
        if self._pattern is not None:
            self._keep("patterns", self._pattern)
        if self._statistics is not None:
            self._keep("statistics", self._statistics)
        if self._last is not None:
            self._keep("units", states(_floats(self._last), MOST_UNITS))
        self._pattern = self._last = self._statistics = None
        self._done += 1
        if self._done == self._depth and not self._through:
            raise _Enough

    def _keep(self, what: str, made: Half) -> None:
        """Puts a layer's array into its place among all layers': NaN stays where a layer has none."""
        if what not in self._kept:
            self._kept[what] = np.full((self._depth, *made.shape), np.nan, dtype=np.float16)
        self._kept[what][self._done] = made

    def trace(self, ref: str, out: Any = None) -> Trace | Missing:
        """The trace; `out` is what the network gave where it was run to its end."""
        if "patterns" not in self._kept:
            return Missing(f"{ref}: not one attention of the network shows its patterns")
        whole = self._kept["states"]
        units = self._kept.get("units", np.zeros((*whole.shape[:2], 0), np.float16))
        made = Trace(
            states=whole,
            patterns=self._kept["patterns"],
            units=units,
            groups=self._architecture.groups,
            statistics=self._kept.get("statistics"),
            last=None if out is None else _floats(out.last_hidden_state).reshape(-1, self._architecture.width),
        )
        return made if made.finite else Missing(f"{ref}: hidden states on the probes are not finite numbers")

    @property
    def ended(self) -> bool:
        return self._through and self._done == self._depth


def run(
    checkpoint: Checkpoint,
    architecture: Architecture,
    probes: Probes,
    *,
    depth: int,
    bits: int = 0,
    advance: Advance = lambda _count: None,
    telling: bool = False,
) -> Trace | Missing:
    """Runs the first `depth` layers on the probes, weight matrices rounded to `bits` bits if any; or what stands in the way.

    `telling` asks for the heads' statistics too, and for a decoder's end where all layers are run.
    """
    import torch

    names = align(architecture.needed(depth), checkpoint)
    if isinstance(names, Missing):
        return names
    _map_large_arrays()
    recorder = _Recorder(architecture, depth, telling=telling)
    source = _Source(checkpoint, names, lambda tensor: _round(tensor, bits), advance)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with quiet(), torch.inference_mode():
            network = _prepared(architecture, source, recorder, device)
            inputs = {name: torch.from_numpy(array).to(device) for name, array in probes.inputs.items()}
            out = network(**inputs, **_settings(architecture))
            if recorder.ended:
                return recorder.trace(checkpoint.ref, out)
    except _Enough:
        return recorder.trace(checkpoint.ref)
    except REFUSALS as error:
        return Missing(f"{checkpoint.ref}: the network could not be run ({type(error).__name__})")
    return Missing(f"{checkpoint.ref}: the network ended before its layers did")


def final_states(checkpoint: Checkpoint, architecture: Architecture, ids: NDArray[np.int64], advance: Advance) -> Floats | Missing:
    """What a network hands its output head for windows of tokens `ids` (windows, tokens): (windows, tokens, width), after its last norm."""
    import torch

    names = align(architecture.needed(architecture.layers), checkpoint)
    if isinstance(names, Missing):
        return names
    _map_large_arrays()
    source = _Source(checkpoint, names, lambda _tensor: None, advance)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with quiet(), torch.inference_mode():
            network = _prepared(architecture, source, None, device)
            states = network(input_ids=torch.from_numpy(ids).to(device), **_settings(architecture)).last_hidden_state
    except REFUSALS as error:
        return Missing(f"{checkpoint.ref}: the network could not be run ({type(error).__name__})")
    made = _floats(states)
    return made if np.isfinite(made).all() else Missing(f"{checkpoint.ref}: hidden states on the texts are not finite numbers")


def _settings(architecture: Architecture) -> dict[str, bool]:
    """Decoders would keep keys and values of every layer."""
    asked = {"output_attentions": True} if architecture.family in TELLING else {}
    return asked | ({"use_cache": False} if getattr(architecture.config, "use_cache", False) else {})


def _prepared(architecture: Architecture, source: _Source, recorder: _Recorder | None, device: Any) -> Any:
    """The network with hooks that read weights, look on, and forget weights."""
    import torch

    network = skeleton(architecture.family, architecture.config)
    names: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), name)  # a shared parameter has the name under which `named_parameters` told it
    for module in network.modules():
        module._buffers.update({name: buffer.to(device) for name, buffer in module._buffers.items() if buffer is not None})
        own = {name: names[id(parameter)] for name, parameter in module.named_parameters(recurse=False)}
        if own:
            table = isinstance(module, torch.nn.Embedding)
            module.register_forward_pre_hook(_look_up(own["weight"], source, device) if table else _fill(own, source, device))
            module.register_forward_hook(_empty)
    if recorder is not None:
        _look_on(map(network.get_submodule, architecture.places), recorder)
    return network


def _look_on(layers: Iterable[Any], recorder: _Recorder) -> None:
    for layer in layers:
        for module in list(layer.modules())[1:]:
            module.register_forward_hook(recorder.inside)
        layer.register_forward_hook(recorder.behind)


def _fill(own: Mapping[str, str], source: _Source, device: Any) -> Callable[[Any, Any], None]:
    def before(module: Any, _given: Any) -> None:
        import torch

        for name, full in own.items():
            tensor = source.changed(torch.from_numpy(source.whole(full)).to(device))
            module._parameters[name] = torch.nn.Parameter(tensor, requires_grad=False)

    return before


def _look_up(full: str, source: _Source, device: Any) -> Callable[[Any, Any], Any]:
    """Gives an embedding only the rows that are asked for, and the ids of those."""

    def before(module: Any, given: Any) -> Any:
        import torch

        wanted, places = np.unique(given[0].cpu().numpy(), return_inverse=True)
        module.padding_idx = None  # matters for gradients only, and would be out of range
        if wanted.size and not 0 <= int(wanted[0]) <= int(wanted[-1]) < module.num_embeddings:
            raise IndexError(full)
        table = source.changed(torch.from_numpy(source.rows(full, wanted)).to(device))
        module._parameters["weight"] = torch.nn.Parameter(table, requires_grad=False)
        return (torch.from_numpy(places.reshape(given[0].shape)).to(device), *given[1:])

    return before


def _empty(module: Any, _given: Any, _out: Any) -> None:
    import torch

    for name, parameter in module._parameters.items():
        if parameter is not None:
            module._parameters[name] = torch.nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)


def _round(weight: Any, bits: int) -> None:
    """Rounds a weight matrix to the levels of `bits` bits, symmetric, with one scale a row."""
    if bits and weight.ndim >= 2:
        top = 2.0 ** (bits - 1) - 1
        scale = weight.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / top
        weight.div_(scale).round_().mul_(scale)


def _map_large_arrays() -> None:
    """Has the C library map arrays of a megabyte or more one by one, so that they are given back whole.

    Left alone, glibc raises that bound to the largest array it has seen freed, and the layers leave holes that the next ones do not fit
    into: half of the weights' size was still held at the end.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if tune is not None:
        tune(M_MMAP_THRESHOLD, 1 << 20)


def _floats(tensor: Any) -> NDArray[np.float32]:
    return np.asarray(tensor.detach().float().cpu().numpy())
