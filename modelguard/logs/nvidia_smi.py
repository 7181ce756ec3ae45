"""The CSV of `nvidia-smi --query-gpu=timestamp,…,utilization.gpu,power.draw --format=csv`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from modelguard.logs.gpus import gpu
from modelguard.logs.machines import moment, quantity, rows, text_of, usage
from modelguard.types.logs import Gpu, Sample, Usage

FORMAT = "nvidia-smi"
_DEVICE = ("uuid", "gpu_uuid", "index", "pci.bus_id", "gpu_bus_id", "serial", "name", "gpu_name")
_MODEL = ("name", "gpu_name")
_POWER = ("power.draw", "power.draw.instant", "power.draw.average")


def sniff_usage(name: str, head: bytes) -> bool:
    """The first line names a time stamp and what the GPU did or drew."""
    columns = _columns([cell.strip() for cell in text_of(head[:4096]).partition("\n")[0].split(",")])
    return "timestamp" in columns and bool({"utilization.gpu", *_POWER} & columns.keys())


def read_usage(name: str, data: bytes) -> Usage:
    """One sample a line: utilisation in percent, power in watts. Raises Malformed."""
    table = rows(name, data, ",")
    header = next(table, [])
    columns = _columns(header)
    samples, left_out = [], 0
    named: dict[str, str] = {}
    for cells in table:
        sample = _sample(cells, columns) if cells != header else None
        left_out += sample is None and cells != header
        if sample is not None:
            samples.append(sample)
            named.setdefault(sample.device, next((cells[columns[name]] for name in _MODEL if name in columns), ""))
    return replace(usage(name, FORMAT, samples, left_out=left_out), gpus=_gpus(named))


def _gpus(named: Mapping[str, str]) -> tuple[Gpu, ...]:
    """The devices, where the log names their models and tells one from another."""
    apart = all(device and device != model for device, model in named.items())
    return tuple(gpu(device, model) for device, model in sorted(named.items()) if model) if apart else ()


def _columns(header: list[str]) -> dict[str, int]:
    """Column names without their units, and where they stand."""
    return {cell.partition("[")[0].strip().lower(): place for place, cell in enumerate(header)}


def _sample(cells: list[str], columns: Mapping[str, int]) -> Sample | None:
    if len(cells) < len(columns):
        return None
    time = moment(cells[columns["timestamp"]])
    device = next((cells[columns[name]] for name in _DEVICE if name in columns), "")
    busy = quantity(cells[columns["utilization.gpu"]]) if "utilization.gpu" in columns else None
    drawn = next((quantity(cells[columns[name]]) for name in _POWER if name in columns), None)
    if time is None or (busy is None and drawn is None):
        return None
    return Sample(time=time, device=device, utilisation=busy, power=drawn)
