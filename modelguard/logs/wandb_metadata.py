"""The machine as W&B notes it beside a run, `wandb-metadata.json`: which GPUs, and how many of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelguard.errors import Malformed
from modelguard.logs.gpus import gpu
from modelguard.logs.jsontext import decode, loads
from modelguard.types.logs import Gpu, Usage

FORMAT = "wandb-metadata"
FILE_NAME = "wandb-metadata.json"
MAX_GPUS = 1024  # of one machine


def sniff_usage(name: str, head: bytes) -> bool:
    """The name that W&B gives the file."""
    return name.rpartition("/")[2] == FILE_NAME


def read_usage(name: str, data: bytes) -> Usage:
    """The GPUs of one machine. Raises Malformed."""
    value = loads(decode(data, name), name)
    if not isinstance(value, dict):
        raise Malformed(f"{name}: no object of W&B's", advice="commit the file as W&B wrote it")
    return Usage(source=name, format=FORMAT, gpus=tuple(_gpus(value, name)))


def _gpus(value: Mapping[str, Any], name: str) -> Iterator[Gpu]:
    """One a device: from the list of newer versions, else from the one name and the count of older ones."""
    listed = value.get("gpu_nvidia") or value.get("gpu_amd")
    if isinstance(listed, list) and listed:
        named = [entry.get("name") for entry in listed[:MAX_GPUS] if isinstance(entry, dict)]
        yield from (gpu(f"{name}:{place}", model) for place, model in enumerate(named) if isinstance(model, str))
        return
    model, count = value.get("gpu"), value.get("gpu_count")
    if isinstance(model, str) and type(count) is int and 0 < count <= MAX_GPUS:
        yield from (gpu(f"{name}:{place}", model) for place in range(count))
