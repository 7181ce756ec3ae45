"""Scrapes of the DCGM exporter in Prometheus' text format, with their times behind the values or in a comment before them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from modelguard.errors import Malformed
from modelguard.logs.gpus import gpu
from modelguard.logs.machines import MAX_LINE, moment, quantity, text_of, usage
from modelguard.types.logs import Sample, Usage

FORMAT = "dcgm"
PATTERN = re.compile(rb"(?:^|[\r\n\xbf])DCGM_FI_(?:DEV_GPU_UTIL|DEV_POWER_USAGE|PROF_GR_ENGINE_ACTIVE)\{")
_LINE = re.compile(r"(DCGM_FI_\w{1,60})\{([^}]{0,4000})\} +([-+.\w]{1,40})(?: +(\d{1,16}))?\s*$")
_LABEL = re.compile(r'(\w{1,60})="([^"]{0,200})"')
_CLOCK = re.compile(
    r"# *(?:(?:time|timestamp|date|scraped?)(?: at)?:? *)?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S{0,12}|\d{9,10}(?:\.\d{1,6})?)\s*$", re.I
)
_BUSY = {"DCGM_FI_DEV_GPU_UTIL": 1.0, "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 100.0}
_POWER = "DCGM_FI_DEV_POWER_USAGE"


def sniff_usage(name: str, head: bytes) -> bool:
    """A line with a metric of the exporter that tells whether a GPU works."""
    return bool(PATTERN.search(head))


def read_usage(name: str, data: bytes) -> Usage:
    """One sample a GPU and scrape: utilisation in percent, power in watts. Raises Malformed."""
    seen: dict[tuple[float, str], dict[str, float]] = {}
    named: dict[str, str] = {}
    clock: float | None = None
    left_out = 0
    for line in text_of(data).splitlines():
        if len(line) > MAX_LINE:
            raise Malformed(f"{name}: a line has more than {MAX_LINE} characters", advice="commit the file as the tool wrote it")
        if comment := _CLOCK.match(line):
            clock = _seconds(comment[1])
        match = _LINE.match(line)
        if match is None or (match[1] not in _BUSY and match[1] != _POWER):
            continue
        time = int(match[4]) / 1000 if match[4] else clock
        value = quantity(match[3])
        if time is None or value is None:
            left_out += 1
            continue
        labels = dict(_LABEL.findall(match[2]))
        entry = seen.setdefault((time, _device(labels)), {})
        named.setdefault(_device(labels), labels.get("modelName", ""))
        entry["power" if match[1] == _POWER else "busy"] = value * _BUSY.get(match[1], 1.0)
    samples = [
        Sample(time=time, device=device, utilisation=values.get("busy"), power=values.get("power"))
        for (time, device), values in seen.items()
    ]
    gpus = tuple(gpu(device, model) for device, model in sorted(named.items()) if model)
    return replace(usage(name, FORMAT, samples, left_out=left_out), gpus=gpus)


def _seconds(text: str) -> float | None:
    return moment(text) if "-" in text else float(text)


def _device(labels: Mapping[str, str]) -> str:
    return labels.get("UUID") or f"{labels.get('Hostname', '')}:{labels.get('gpu', '')}"
