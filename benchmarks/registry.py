"""How long a registry takes to search, on one core, and how little of a large model its fingerprint reads.

`python -m benchmarks.registry` makes 1,000 made-up fingerprints of a 7B model's shapes in an SQLite file and looks one up, from opening
the file to the last corrected p-value; target: at most a second of processor time, and 10 MB of bytes read.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.timing import verdict
from modelguard.blobs.local import LocalBlob
from modelguard.checkpoints.safetensors import open_safetensors
from modelguard.fingerprint.meter import Metered
from modelguard.registry.opening import open_registry
from modelguard.sketches.search import search
from modelguard.sketches.sketch import fingerprint
from modelguard.types.registry import Search
from tests.fingerprint.test_sketches import WIDE, bfloat16, wide_file
from tests.registry.entries import entry, made_up

ROUNDS = 5


def looked_up(path: Path) -> Search:
    """One search, from the file to the result."""
    query = made_up(7, blocks=6)
    with closing(open_registry(str(path))) as store:
        entries = tuple(store.entries(method=query.method, shape=query.shape))
        return search(query, entries, alpha=1e-9, registry=store.where, known=store.count())


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--entries", type=int, default=1000)
    count = arguments.parse_args().entries
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.sqlite"
        with closing(open_registry(str(path), create=True)) as store:
            store.add(entry(f"m{number}", number, blocks=6) for number in range(count))
        print(f"{count} entries, {path.stat().st_size / count / 1000:.0f} kB an entry")
        taken = []
        for _ in range(ROUNDS):
            started = time.process_time()
            found = looked_up(path)
            taken.append(time.process_time() - started)
        assert [hit.name for hit in found.hits] == ["m7"], "the one that is there, and no other"
        fast = verdict(f"search of {count}, seconds of processor time", min(taken), count / 1000, least=False, unit=" s")
        units = np.random.default_rng(0).standard_normal((64, WIDE), dtype=np.float32)
        checkpoint = Metered(open_safetensors(LocalBlob(wide_file(Path(folder) / "model.safetensors", bfloat16(units)))))
        started = time.process_time()
        fingerprint(checkpoint)
        print(f"fingerprint of a 7B model: {time.process_time() - started:.2f} s of processor time")
        small = verdict("bytes read of a 7B model, MB", checkpoint.bytes_read / 1e6, 10, least=False, unit=" MB")
    return 0 if fast and small else 1


if __name__ == "__main__":
    sys.exit(main())
