"""Logs of machines: what `nvidia-smi`, the DCGM exporter and Slurm write, read beside the training log."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.attempt import attempt
from modelguard.errors import Malformed
from modelguard.logs import dcgm, nvidia_smi, sacct
from modelguard.logs.base import assemble, read_log
from modelguard.logs.usage import read_usage
from modelguard.types.findings import Missing
from modelguard.types.logs import Allocation, Sample, TrainingLog, Usage
from tests.logs import consoles
from tests.logs.building import log_of

READERS = (nvidia_smi, dcgm, sacct)
SMI = (
    "timestamp, index, uuid, utilization.gpu [%], power.draw [W], memory.used [MiB]\n"
    "2025/03/01 08:00:00.123, 0, GPU-a, 98 %, 350.12 W, 1234 MiB\n"
    "2025/03/01 08:00:00.125, 1, GPU-b, [N/A], [Not Supported], 1 MiB\n"
    "2025/03/01 08:00:10.123, 0, GPU-a, 0 %, 60.50 W, 3 MiB\n"
)
DCGM = (
    "# time: 2025-03-01T08:00:00Z\n# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).\n# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n"
    'DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",Hostname="h"} 97\nDCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-a",Hostname="h"} 350.5\n'
    'DCGM_FI_DEV_SM_CLOCK{gpu="0",UUID="GPU-a"} 1410\nDCGM_FI_PROF_GR_ENGINE_ACTIVE{gpu="1",Hostname="h"} 0.5 1740816030000\n'
)
SACCT = (
    "JobIDRaw|Restarts|State|Start|End|ElapsedRaw|AllocTRES|NodeList\n"
    "77|1|COMPLETED|2025-03-01T08:00:00|2025-03-01T10:00:00|7200|billing=8,cpu=64,gres/gpu:a100=8,gres/gpu=8,node=1|n1\n"
    "77.batch|0|COMPLETED|2025-03-01T08:00:00|2025-03-01T10:00:00|7200|cpu=64|n1\n"
    "78|0|CANCELLED by 1000|2025-03-01T11:00:00|Unknown|0|cpu=4|n2\n"
    "79|0|PENDING|Unknown|Unknown|0||None assigned\n"
)
EIGHT = 1740816000.0


def usage_of(data: str, name: str = "gpu.csv") -> Usage:
    usage = read_usage(name, data.encode())
    assert usage is not None
    return usage


def test_nvidia_smi() -> None:
    usage = usage_of(SMI)
    assert (usage.format, usage.notes) == ("nvidia-smi", ("1 lines without a time or a value are passed over",))
    assert usage.samples == (
        Sample(time=EIGHT + 0.123, device="GPU-a", utilisation=98.0, power=350.12),
        Sample(time=EIGHT + 10.123, device="GPU-a", utilisation=0.0, power=60.5),
    )
    assert usage_of(SMI.replace(" %", "").replace(" W,", ",").replace("\n", "\r\n")).samples == usage.samples
    assert usage_of(SMI + SMI).samples == tuple(sorted(usage.samples * 2, key=lambda sample: sample.time))


def test_dcgm() -> None:
    usage = usage_of(DCGM, "scrape.prom")
    assert usage.samples == (
        Sample(time=EIGHT, device="GPU-a", utilisation=97.0, power=350.5),
        Sample(time=EIGHT + 30, device="h:1", utilisation=50.0),
    )
    with pytest.raises(Malformed, match="no line has a time and a value"):
        usage_of(DCGM.split("\n", 1)[1].replace(" 1740816030000", ""), "scrape.prom")


def test_sacct() -> None:
    usage = usage_of(SACCT, "sacct.txt")
    assert usage.allocations == (
        Allocation(job="77", start=EIGHT, end=EIGHT + 7200, state="COMPLETED", gpus=8),
        Allocation(job="78", start=EIGHT + 3 * 3600, end=None, state="CANCELLED", gpus=0),
    )
    parsable = SACCT.replace("\n", "|\n")
    assert usage_of(parsable, "sacct.txt").allocations == usage.allocations
    without = "JobID|State|Start|End\n5|RUNNING|2025-03-01T08:00:00|Unknown\n"
    assert usage_of(without, "s.txt").allocations == (Allocation(job="5", start=EIGHT, end=None, state="RUNNING", gpus=None),)


def test_a_machine_log_is_no_training_log() -> None:
    for name, text in (("gpu.csv", SMI), ("scrape.prom", DCGM), ("sacct.txt", SACCT)):
        assert [reader.FORMAT for reader in READERS if reader.sniff_usage(name, text.encode())] == [usage_of(text, name).format]
        assert read_log(name, text.encode()) is None
        assert isinstance(assemble({name: text.encode()}), Missing)
    training = consoles.console(consoles.megatron, range(10, 301, 10))
    log = log_of({"train.log": training, "gpu.csv": SMI.encode(), "scrape.prom": DCGM.encode(), "sacct.txt": SACCT.encode()})
    assert [usage.format for usage in log.usage] == ["nvidia-smi", "sacct", "dcgm"]
    assert [run.format for run in log.runs] == ["megatron"]


def test_a_machine_log_that_cannot_be_read_is_listed() -> None:
    files = {"train.log": consoles.console(consoles.megatron, range(10, 301, 10)), "gpu.csv": SMI.split("\n")[0].encode()}
    assert log_of(files).unread == ("gpu.csv: no line has a time and a value",)


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "timestamp,loss\n1,2\n", "State|Start\nx|y\n", "# HELP up\nup 1\n", "step,utilization.gpu\n"]
)
def test_other_tables_are_nobodys(text: str) -> None:
    assert read_usage("a.csv", text.encode()) is None


def survives(data: bytes) -> None:
    for reader in READERS:
        assert isinstance(reader.sniff_usage("a", data), bool)
        if reader.sniff_usage("a", data):
            outcome = attempt(lambda reader=reader: reader.read_usage("a", data), what="a reader")  # type: ignore[misc]
            assert isinstance(outcome, Usage) or ("crashed" not in outcome.why and "\n" not in outcome.why)
    log = assemble({"train.log": consoles.console(consoles.megatron, range(1, 9)), "machine.csv": data})
    assert isinstance(log, TrainingLog)
    assert "crashed" not in " ".join(log.unread)


@given(st.binary(max_size=200), st.sampled_from([SMI, DCGM, SACCT]), st.integers(0, 600), st.integers(0, 60))
@settings(max_examples=120, deadline=None)
def test_random_damage(noise: bytes, text: str, place: int, cut: int) -> None:
    data = text.encode()
    survives(data[:place] + noise + data[place + cut :])
    survives(text.split("\n")[0].encode() + b"\n" + noise)
    survives(noise)


@pytest.mark.parametrize("text", [SMI, DCGM, SACCT], ids=["nvidia-smi", "dcgm", "sacct"])
def test_hostile_values(text: str) -> None:
    head, body = text.split("\n", 1)
    survives(text.encode("utf-16"))
    survives(b"\xef\xbb\xbf" + text.encode())
    survives((text + "x" * (1 << 20)).encode())
    survives((head + "\n" + ("," * 4000 + "\n") * 20 + "|" * 4000 + "\n" + body).encode())
    survives(text.replace("2025", "0000").replace("97", "nan").replace("98", "inf").encode())
    survives(text.replace("2025", "9999").replace("350", "1e400").replace("gpu=8", "gpu=999999999").encode())
    survives(text.replace('"', "").replace("}", "").encode())


def test_times_without_a_zone_do_not_depend_on_this_machine() -> None:
    (sample, _) = usage_of(SMI).samples
    assert sample.time == datetime.datetime(2025, 3, 1, 8, 0, 0, 123000, tzinfo=datetime.UTC).timestamp()
