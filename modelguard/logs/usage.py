"""The contract of machine logs: a reader has `sniff_usage(name, head)` and `read_usage(name, data)`, and no part in the training log."""

from __future__ import annotations

import modelguard.logs
from modelguard.discover import modules
from modelguard.errors import Malformed
from modelguard.types.logs import Usage

HEAD_BYTES = 1 << 16
MAX_BYTES = 64 << 20


def claims_usage(name: str, head: bytes) -> bool:
    """Whether a file is the log of a machine, judged by its first bytes."""
    return any(reader.sniff_usage(name, head[:HEAD_BYTES]) for reader in modules(modelguard.logs, having="sniff_usage"))


def read_usage(name: str, data: bytes) -> Usage | None:
    """What a machine log says about the GPUs; None when no reader claims the file. Raises Malformed."""
    head = data[:HEAD_BYTES]
    readers = [reader for reader in modules(modelguard.logs, having="sniff_usage") if reader.sniff_usage(name, head)]
    if not readers:
        return None
    if len(readers) > 1:
        formats = " and ".join(reader.FORMAT for reader in readers)
        raise Malformed(f"{name}: looks like {formats} at once", advice="commit the file as the tool wrote it")
    if len(data) > MAX_BYTES:
        raise Malformed(f"{name}: {len(data)} bytes, more than the {MAX_BYTES} that are read of a log", advice="commit a shorter log")
    found: Usage = readers[0].read_usage(name, data)
    return found
