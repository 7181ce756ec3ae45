"""Activation fingerprints: what a network did on the probes, small enough for a registry (at most 4 MB whatever the network's size).

Of the trace a fixed choice of tokens, axes, units and heads is kept, chosen by index, and attention patterns are multiplied by a fixed
random matrix of signs. The choice is made without looking at any network, and each row (an axis, a unit, a head) is treated like every
other one: under the null the rows that are kept are as exchangeable as all of them were, so the three tests of `comparison` keep their
bound. Units that somebody permuted are not found by their index, here as there: such a copy is paired by its axes or by nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from modelguard.activations.comparison import CONTROL_BITS, hold, installed
from modelguard.activations.extent import WHOLE, Extent
from modelguard.activations.heads import MEASURES
from modelguard.activations.network_settings import read_settings
from modelguard.activations.networks import Architecture, design
from modelguard.activations.next_tokens import TOP, NextTokens
from modelguard.activations.probes import MAX_POSITIONS_SPARED, MOST_TOKENS, PROBES, Probes, Tokens, drawn, encode, written
from modelguard.activations.streaming import run
from modelguard.activations.support import ANCHORS, after, anchors, gram
from modelguard.activations.traces import MOST_ENTRIES, Trace
from modelguard.blobs.base import Folder
from modelguard.checkpoints.base import Checkpoint
from modelguard.types.activations import ActivationFingerprint
from modelguard.types.findings import Missing

VERSION = 1
LAYERS, TOKENS, AXES, UNITS, HEADS, COLUMNS, LEVELS = 40, 96, 128, 128, 64, 256, 127
PREFIX = f"activation-fingerprint-{VERSION}:"
PARAMETERS = (
    f":l{LAYERS}-t{TOKENS}-n{ANCHORS}-a{AXES}-u{UNITS}-h{HEADS}-e{MOST_ENTRIES}-signs-shake256-c{COLUMNS}-m{MEASURES}-k{TOP}-f16-gram-i8"
    f"-control{CONTROL_BITS}"
)
NOT_INSTALLED = Missing("activations extra not installed", advice="pip install 'modelguard[activations]'")

Floats = NDArray[np.float32]


def method_of(probes: str) -> str:
    """The method's name, from the name of how the probes came about."""
    return f"{PREFIX}{probes}{PARAMETERS}"


def fingerprint_activations(checkpoint: Checkpoint, folder: Folder, extent: Extent = WHOLE) -> ActivationFingerprint | Missing:
    """The activation fingerprint of a network, with a control: the same network rounded to 4 bits. Raises CannotRead for hostile files."""
    if not installed():
        return NOT_INSTALLED
    network = designed(folder)
    if isinstance(network, Missing):
        return network
    probes = own_probes(folder, network)
    depth = extent.depth(network)
    advance = extent.counting([(network, checkpoint)] * 2, depth)
    trace = run(checkpoint, network, probes, depth=depth, advance=advance, telling=True)
    if isinstance(trace, Missing):
        return trace
    rounded = run(checkpoint, network, probes, depth=depth, bits=CONTROL_BITS, advance=advance)
    control = (0.0, 0.0, 0.0)
    if not isinstance(rounded, Missing):
        layers = kept_layers(depth)
        tokens = kept_tokens(depth)
        held = hold(reduced(rounded, layers, tokens), reduced(trace, layers, tokens))
        control = (held.log10_p_hidden, held.log10_p_heads, held.log10_p_units)
    return told(checkpoint, network, probes, trace, kept_layers(depth), tokens=kept_tokens(depth), control=control)


def designed(folder: Folder) -> Architecture | Missing:
    """The network that a folder's `config.json` describes."""
    settings = read_settings(folder)
    return settings if isinstance(settings, Missing) else design(settings, folder.ref)


def own_probes(folder: Folder, network: Architecture) -> Probes:
    """The probes in a network's own tokens, or the pictures of its size."""
    if not network.vocabulary:
        return drawn(int(network.config.num_channels), int(network.config.image_size))
    return written(encode(folder, network.vocabulary, network.positions))


def told(
    checkpoint: Checkpoint,
    network: Architecture,
    probes: Probes,
    trace: Trace,
    layers: NDArray[np.int64],
    *,
    tokens: int,
    control: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> ActivationFingerprint:
    """A trace as a fingerprint, with those layers of it and about so many of its tokens."""
    small = reduced(trace, layers, tokens)
    following = after(checkpoint, network, trace)
    ids = probes.inputs.get("input_ids", np.zeros((0, 0), np.int64))
    bare = ActivationFingerprint(
        method=method_of(probes.method),
        architecture=described(network),
        layers=network.layers,
        depth=len(trace.states),
        which=tuple(layers.tolist()),
        texts=ids.shape[0],
        length=ids.shape[1],
        tokens=small.states.shape[1],
        anchors=len(anchors(trace.states.shape[1])),
        axes=small.states.shape[2],
        units=small.units.shape[2],
        heads=small.patterns.shape[1],
        groups=small.groups,
        columns=small.patterns.shape[2],
        measures=0 if small.statistics is None else small.statistics.shape[2],
        top=0 if following is None else following.ids.shape[1],
        control=control,
        ids=ids.astype("<u4").tobytes(),
    )
    return _filled(bare, small, b"".join(_gram(trace.states[layer]) for layer in layers), following)


def _filled(bare: ActivationFingerprint, small: Trace, grams: bytes, following: NextTokens | None) -> ActivationFingerprint:
    """A fingerprint with its arrays."""
    return replace(
        bare,
        states=_halves(small.states),
        unit_values=_halves(small.units),
        patterns=_halves(small.patterns),
        statistics=b"" if small.statistics is None else _halves(small.statistics),
        gram=grams,
        next_ids=b"" if following is None else following.ids.astype("<u4").tobytes(),
        next_logs=b"" if following is None else _halves(np.maximum(following.logs, -60000)),
    )


def described(network: Architecture) -> str:
    """What must be equal on both sides."""
    return f"{network.text}, {network.units} units" + ("" if network.vocabulary else ", pictures")


def reveals(made: ActivationFingerprint) -> str:
    """What a fingerprint tells of a network, in one sentence."""
    parts = [
        f"what {made.axes} axes of the hidden states and {made.units} MLP units hold at {made.tokens} tokens of public texts",
        f"projections and statistics of what {made.heads} attention heads look at",
    ]
    parts += [f"the {made.top} likeliest next tokens behind {made.anchors} of them"] if made.top else []
    where = f"in {made.kept} of {made.layers} layers"
    return f"reveals {where} {', '.join(parts)}, but no weight; of a public text's tokens it also tells their ids"


def kept_layers(depth: int) -> NDArray[np.int64]:
    """Which of the layers that were run are kept: at most LAYERS, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, depth - 1, min(depth, LAYERS)).astype(np.int64))


def kept_tokens(depth: int) -> int:
    """Of how many tokens states and units are kept: a network of few layers has room for more, and needs them more."""
    return TOKENS * (LAYERS // min(depth, LAYERS))


def reduced(trace: Trace, layers: NDArray[np.int64], most: int) -> Trace:
    """A trace at the fixed choice of at most so many tokens, of axes, units and heads, its patterns projected; those layers of it."""
    tokens, axes = _spread(trace.states.shape[1], most), _spread(trace.states.shape[2], AXES)
    units = _spread(trace.units.shape[2], UNITS)
    heads, groups = _heads(trace.patterns.shape[1], trace.groups)
    signs = _signs(trace.patterns.shape[2])
    return Trace(
        states=np.stack([_unit(trace.states[layer][np.ix_(tokens, axes)]) for layer in layers]),
        units=np.stack([trace.units[layer][np.ix_(tokens, units)] for layer in layers]),
        patterns=np.stack([trace.patterns[layer][heads].astype(np.float32) @ signs for layer in layers]).astype(np.float16),
        groups=groups,
        statistics=None if trace.statistics is None else np.stack([trace.statistics[layer][heads] for layer in layers]),
    )


def trace_of(made: ActivationFingerprint, layers: Sequence[int]) -> Trace:
    """The reduced trace that a fingerprint holds, in those of its layers."""
    places = [made.which.index(layer) for layer in layers]

    def halves(values: bytes, rows: int, columns: int) -> NDArray[np.float16]:
        return np.frombuffer(values, dtype="<f2").reshape(made.kept, rows, columns)[places]

    return Trace(
        states=halves(made.states, made.tokens, made.axes),
        units=halves(made.unit_values, made.tokens, made.units),
        patterns=halves(made.patterns, made.heads, made.columns),
        groups=made.groups,
        statistics=halves(made.statistics, made.heads, made.measures),
    )


def next_of(made: ActivationFingerprint) -> NextTokens | None:
    """The next tokens that a fingerprint holds, if any."""
    if not made.top:
        return None
    shape = (made.anchors, made.top)
    ids, logs = np.frombuffer(made.next_ids, dtype="<u4").reshape(shape), np.frombuffer(made.next_logs, dtype="<f2").reshape(shape)
    return NextTokens(ids=ids.astype(np.int64), logs=logs.astype(np.float32))


def gram_of(made: ActivationFingerprint, layer: int) -> Floats:
    """The cosines between the anchors' hidden states in one of its layers, (anchors, anchors), with zeros on the diagonal."""
    gram = np.zeros((made.anchors, made.anchors), dtype=np.float32)
    size, place = made.anchors * (made.anchors - 1) // 2, made.which.index(layer)
    levels = np.frombuffer(made.gram, dtype=np.int8)[place * size : (place + 1) * size]
    gram[np.triu_indices(made.anchors, 1)] = levels / np.float32(LEVELS)
    return gram + gram.T


def stored_probes(made: ActivationFingerprint, network: Architecture) -> Probes | Missing:
    """The probes that a fingerprint was made with, for another network of its architecture; or why that cannot be run on them."""
    name = made.method.removeprefix(PREFIX).removesuffix(PARAMETERS)
    if made.method != method_of(name):
        return Missing("the activation fingerprint was made by another method, and does not compare", advice="add the base again")
    if not network.vocabulary:
        pictures = drawn(int(network.config.num_channels), int(network.config.image_size))
        return pictures if pictures.method == name else Missing("the activation fingerprint was made with other pictures")
    ids = np.frombuffer(made.ids, dtype="<u4").reshape(made.texts, made.length).astype(np.int64)
    if made.texts != len(PROBES) or not 0 < made.length <= min(MOST_TOKENS, network.positions - MAX_POSITIONS_SPARED):
        return Missing("the activation fingerprint was made with more or longer texts than the probes")
    if ids.max() >= network.vocabulary:
        return Missing("the activation fingerprint's tokens are not in the vocabulary of this network")
    return written(Tokens(ids=ids, method=name))


def _gram(states: NDArray[np.floating]) -> bytes:
    """The upper triangle of the cosines between the anchors' states as int8."""
    made = gram(states)
    levels: NDArray[np.int8] = np.rint(made[np.triu_indices(len(made), 1)] * LEVELS).astype(np.int8)
    return levels.tobytes()


def _unit(states: NDArray[np.floating]) -> NDArray[np.float16]:
    """States (tokens, axes) with each token of length 1 again, on the axes that are kept."""
    length = np.linalg.norm(states.astype(np.float32), axis=1, keepdims=True)
    return (states / np.where(length > 0, length, 1)).astype(np.float16)


def _heads(heads: int, groups: int) -> tuple[slice, int]:
    """The heads that are kept, and in how many groups they are: the first groups as far as they fit whole, or the first heads of one."""
    each = heads // groups
    whole = max(1, min(groups, HEADS // each))
    return slice(0, whole * min(each, HEADS)), whole


def _spread(count: int, most: int) -> NDArray[np.int64]:
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


@lru_cache(maxsize=2)
def _signs(entries: int) -> Floats:
    """The fixed map of a pattern's entries, (entries, COLUMNS) of ±1/√COLUMNS. Its bits are SHAKE-256's, the same on every machine."""
    stream = hashlib.shake_256(b"modelguard/patterns/v%d/%d/%d" % (VERSION, entries, COLUMNS)).digest(entries * COLUMNS // 8)
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8)).reshape(entries, COLUMNS)
    return np.asarray((bits.astype(np.float32) * 2 - 1) / np.float32(COLUMNS**0.5), dtype=np.float32)


def _halves(array: NDArray[np.floating]) -> bytes:
    return np.ascontiguousarray(array, dtype="<f2").tobytes()
