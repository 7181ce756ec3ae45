"""Fingerprints of weights: small, linear, made once, and compared without the weights.

T1 needs no more than the rows of 64 units of a few layers, and stays exact under any fixed map of their columns. So each row is
multiplied by a fixed random matrix of signs (Achlioptas 2003), and the products are kept. The map is linear: the difference of two
sketches is the sketch of the difference. A secret seed gives another map; such fingerprints hold the rows alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from math import frexp

import numpy as np
from numpy.typing import NDArray

from modelguard.checkpoints.base import Checkpoint, parameters
from modelguard.checkpoints.dtypes import FLOATING
from modelguard.correspondence.alignment import align
from modelguard.correspondence.tiles import rows
from modelguard.errors import BadRequest
from modelguard.fingerprint import weight_tests as tests
from modelguard.fingerprint.blocks import Block, find_blocks
from modelguard.fingerprint.embeddings import embedding_pair
from modelguard.fingerprint.relation import spread
from modelguard.types.registry import BlockSketch, Fingerprint

Matrix = NDArray[np.float32]

BLOCKS = 6
COLUMNS = 64  # of a sketch
AXES = 64  # whose gains are kept
NORMS = 512
ANCHORS = 256
LEVELS = 127
MIN_SECRET = 16  # bytes
MAX_LAYER_NAME = 200  # characters that are kept
VERSION = 1
METHOD = (
    f"weights-{VERSION}:{tests.T1}-b{BLOCKS}-w{tests.WINDOW}-e{tests.WINDOW_ENTRIES}-g{tests.TESTED_GRAM_UNITS}"
    f"-signs-shake256-d{COLUMNS}-f16"
)
OPEN = f":t0-a{AXES}-n{NORMS}-f16:gram-k{ANCHORS}-i8"


def method_of(secret: bytes = b"") -> str:
    """The method's name: with a secret, a digest of it, so that only sketches of one secret compare."""
    if not secret:
        return METHOD + OPEN
    if len(secret) < MIN_SECRET:
        raise BadRequest(f"the secret has {len(secret)} bytes, {MIN_SECRET} are needed", advice="make one with: openssl rand -hex 32")
    named = hashlib.scrypt(secret, salt=b"modelguard/secret/v1", n=1 << 14, r=8, p=1, dklen=12)
    return f"{METHOD}:secret-{named.hex()}"


def fingerprint(checkpoint: Checkpoint, secret: bytes = b"") -> Fingerprint:
    """The fingerprint of a checkpoint, reading a few stretches of it (about 6 MB of a 7B model in 16 bits)."""
    method = method_of(secret)
    alignment = align(checkpoint, checkpoint, by_content=False)
    blocks = _of_one_shape(find_blocks(checkpoint, checkpoint, alignment))
    chosen = [blocks[place] for place in spread(range(len(blocks)), BLOCKS)]
    table = embedding_pair(checkpoint, checkpoint, alignment)
    gains = b"" if secret else _gains(checkpoint, blocks[0].width if blocks else 0)
    norms = len(gains) // (2 * AXES)
    anchored, anchors = (0, 0) if secret or table is None else anchor_tokens(checkpoint.tensors[table[0]].shape[0])
    return Fingerprint(
        method=method,
        parameters=parameters(checkpoint),
        tensors=len(checkpoint.tensors),
        layers=len(blocks),
        vocabulary=checkpoint.tensors[table[0]].shape[0] if table else 0,
        shapes=_shapes(checkpoint),
        digest=checkpoint.digest,
        blocks=tuple(_sketch(checkpoint, block, secret) for block in chosen),
        axes=AXES if norms else 0,
        norms=norms,
        gains=gains,
        anchors=anchors,
        anchored=anchored,
        gram=_gram(checkpoint, table[0], anchored, anchors) if table and anchors else b"",
    )


def reveals(made: Fingerprint) -> str:
    """What a fingerprint tells of the weights, in one sentence."""
    kept = sum(block.rows * min(block.columns, block.width) for block in made.blocks)
    share = kept / max(1, made.parameters)
    whole = any(block.width <= block.columns for block in made.blocks)
    rows_kept = f"{sum(block.rows for block in made.blocks)} rows of {len(made.blocks)} layers"
    text = f"{rows_kept} in {COLUMNS} directions each ({100 * share:.2g} % of it)"
    text += ", which give these rows away whole, so narrow are they" if whole else ""
    text += f", the centred gains of {made.norms} norms on {made.axes} axes" if made.norms else ""
    text += f", cosines between the embeddings of {made.anchors} tokens" if made.anchors else ""
    return f"reveals {text}, and whether two models are related"


def signs(width: int, secret: bytes = b"") -> Matrix:
    """The fixed map of columns, (width, COLUMNS) of ±1/√COLUMNS. Its bits are SHAKE-256's, the same on every machine and version."""
    seed = b"modelguard/signs/v1/%d/%d/" % (width, COLUMNS)
    stream = hashlib.shake_256(seed + secret).digest(width * COLUMNS // 8)
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8)).reshape(width, COLUMNS)
    return np.asarray((bits.astype(np.float32) * 2 - 1) / np.float32(COLUMNS**0.5), dtype=np.float32)


def values_of(block: BlockSketch) -> Matrix:
    """A block's sketch as numbers, (rows, columns); NaN in rows that were not finite, infinite where no float32 can hold them."""
    stored = np.frombuffer(block.values, dtype="<f2").reshape(block.rows, block.columns)
    with np.errstate(over="ignore"):
        return np.asarray(np.ldexp(stored.astype(np.float32), block.exponent))


def gains_of(made: Fingerprint) -> Matrix:
    """Centred gains (axes, norms), each norm to its own scale."""
    return np.asarray(np.frombuffer(made.gains, dtype="<f2").reshape(made.norms, made.axes).T, dtype=np.float32)


def anchor_tokens(vocabulary: int) -> tuple[int, int]:
    """(first, count) of the anchor tokens: the same between two powers of two, so that a few more tokens change nothing."""
    whole = 1 << max(0, vocabulary.bit_length() - 1)
    return whole // 4, min(ANCHORS, whole // 2)


def _of_one_shape(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """The layers of the commonest shape; of equally common ones, of the shape that comes first."""
    counts = Counter((block.units, block.width) for block in blocks)
    common = max(counts, key=counts.__getitem__, default=None)
    return tuple(block for block in blocks if (block.units, block.width) == common)


def _sketch(checkpoint: Checkpoint, block: Block, secret: bytes) -> BlockSketch:
    start, stop = tests.window(block)
    units = rows(checkpoint, block.left, start, min(stop, start + tests.TESTED_UNITS)).astype(np.float64)
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(units).all(axis=1))
    projected = np.where(finite[:, None], units, 0.0) @ signs(block.width, secret).astype(np.float64)
    exponent = max(-100, min(126, frexp(float(np.abs(projected).max(initial=0.0)))[1]))
    stored = np.ldexp(projected, -exponent).astype("<f2")
    stored[~finite] = np.nan
    return BlockSketch(
        layer=block.layer[:MAX_LAYER_NAME],
        units=block.units,
        width=block.width,
        rows=len(units),
        columns=COLUMNS,
        exponent=exponent,
        values=stored.tobytes(),
    )


def _gains(checkpoint: Checkpoint, width: int) -> bytes:
    """The gains of every norm over the residual stream on its first axes, centred and scaled norm by norm, (norms, axes) float16."""
    if width < AXES:
        return b""
    vectors = (name for name, info in checkpoint.tensors.items() if info.shape == (width,) and info.dtype in FLOATING)
    names = sorted(name for name in vectors if "bias" not in name.lower())[:NORMS]
    return b"".join(_centred(rows(checkpoint, name, 0, AXES).reshape(-1)).astype("<f2").tobytes() for name in names)


def _centred(gain: NDArray[np.floating]) -> NDArray[np.float64]:
    """A vector centred and scaled to a largest entry of 1; zeros where it is constant or not finite."""
    if not np.isfinite(gain).all():
        return np.zeros(len(gain))
    moved = gain.astype(np.float64) - gain.astype(np.float64).mean()
    largest = np.abs(moved).max(initial=0.0)
    return moved / largest if largest > 1e-6 * np.abs(gain).max(initial=0.0) else np.zeros(len(gain))


def _gram(checkpoint: Checkpoint, name: str, first: int, count: int) -> bytes:
    """Cosines between the anchors' embeddings after centring over the anchors: what a rotation of the residual stream leaves alone."""
    table = rows(checkpoint, name, first, first + count).astype(np.float64)
    table[~np.isfinite(table).all(axis=1)] = 0.0
    table /= max(float(np.abs(table).max(initial=0.0)), 1e-300)
    table -= table.mean(axis=0)
    length = np.linalg.norm(table, axis=1, keepdims=True)
    unit = np.divide(table, length, out=np.zeros_like(table), where=length > 1e-12)
    levels: NDArray[np.int8] = np.rint((unit @ unit.T)[np.triu_indices(count, 1)] * LEVELS).astype(np.int8)
    return levels.tobytes()


def _shapes(checkpoint: Checkpoint) -> str:
    """A digest of all shapes, whatever the tensors are called."""
    listed = sorted(str(list(info.shape)) for info in checkpoint.tensors.values())
    return "sha256:" + hashlib.sha256("\n".join(listed).encode()).hexdigest()
