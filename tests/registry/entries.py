"""Entries with made-up fingerprints, of the shapes that real ones have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelguard.sketches.sketch import method_of
from modelguard.types.activations import ActivationFingerprint
from modelguard.types.registry import BlockSketch, Entry, Fingerprint


def made_up(seed: int, *, units: int = 11_008, width: int = 4096, blocks: int = 2, method: str = "") -> Fingerprint:
    """A fingerprint of random numbers."""
    rng = np.random.default_rng(seed)

    def halves(*shape: int) -> bytes:
        return rng.uniform(-1, 1, shape).astype("<f2").tobytes()

    sketches = tuple(
        BlockSketch(layer=f"layers.{place}", units=units, width=width, rows=64, columns=64, exponent=-3, values=halves(64, 64))
        for place in range(blocks)
    )
    return Fingerprint(
        method=method or method_of(),
        parameters=6_738_415_616,
        tensors=291,
        layers=32,
        vocabulary=32_000,
        shapes="sha256:0",
        digest=None,
        blocks=sketches,
        axes=64,
        norms=65,
        gains=halves(65, 64),
        anchors=256,
        anchored=4096,
        gram=rng.integers(-12, 12, 32_640).astype(np.int8).tobytes(),
    )


def entry(name: str, seed: int = 0, *, alias: str = "", reference: str = "", independent: bool = False, blocks: int = 2) -> Entry:
    return Entry(name=name, alias=alias, reference=reference, independent=independent, fingerprint=made_up(seed, blocks=blocks))


def activations(seed: int = 0, *, layers: int = 4, top: int = 32) -> ActivationFingerprint:
    """An activation fingerprint of random numbers."""
    rng = np.random.default_rng(seed)
    bare = ActivationFingerprint(
        method="activation-fingerprint-1:probes-v1-00000000:random-ids:64:l40",
        architecture="llama, 4 layers, 8 heads, width 64, 96 units",
        layers=layers,
        depth=layers,
        which=tuple(range(layers)),
        texts=2,
        length=16,
        tokens=24,
        anchors=12,
        axes=64,
        units=96,
        heads=8,
        groups=2,
        columns=32,
        measures=18,
        top=top,
        control=(-89.1, -16.2, -443.3),
    )

    def halves(size: int) -> bytes:
        return rng.uniform(-1, 0, size // 2).astype("<f2").tobytes()

    ids, states, units, patterns, statistics, gram, next_ids, next_logs = bare.sizes
    return replace(
        bare,
        ids=rng.integers(0, 300, ids // 4).astype("<u4").tobytes(),
        states=halves(states),
        unit_values=halves(units),
        patterns=halves(patterns),
        statistics=halves(statistics),
        gram=rng.integers(-127, 128, gram).astype(np.int8).tobytes(),
        next_ids=rng.integers(0, 300, next_ids // 4).astype("<u4").tobytes(),
        next_logs=halves(next_logs),
    )
