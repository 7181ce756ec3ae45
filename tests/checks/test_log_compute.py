"""Operations over time against what the named GPUs can do: only more than their peak is found, and never with high severity."""

from __future__ import annotations

import json

import pytest

from modelguard.attempt import attempt
from modelguard.checks.log_compute import check
from modelguard.logs.base import assemble
from modelguard.logs.gpus import gpu
from modelguard.types.findings import Absence, Claim, Level, Missing, Status
from modelguard.types.logs import TrainingLog
from modelguard.types.weights import CheckpointFacts
from tests.logs.building import lines, log_of
from tests.logs.consoles import console, megatron
from tests.logs.forgeries import as_events, as_jsonl, as_state, honest

NO_CHECKPOINT = Missing("not asked for", kind=Absence.INAPPLICABLE)
A100 = json.dumps({"gpu": "NVIDIA A100-SXM4-80GB", "gpu_count": 2}).encode()
SMI = b"timestamp, index, name, utilization.gpu [%]\n" + b"".join(
    b"2025/03/01 08:%02d:00.000, %d, NVIDIA H100 80GB HBM3, 98 %%\n" % (minute, index) for minute in range(5) for index in range(8)
)
DCGM = b"# 1740816000\n" + b"".join(
    b'DCGM_FI_DEV_GPU_UTIL{gpu="%d",UUID="GPU-%d",modelName="NVIDIA H200"} 97\n' % (index, index) for index in range(4)
)


def flops(total: float) -> dict[str, bytes]:
    """A run of about 2,000 seconds that states so many operations, on two A100."""
    log = honest(1, decimals=4)
    rows = (*log.rows[:-1], {**log.rows[-1], "total_flos": total})
    return {"run/log.jsonl": as_jsonl(type(log)(rows, log.claims)), "run/wandb-metadata.json": A100}


def said(files: dict[str, bytes], checkpoint: CheckpointFacts | Missing = NO_CHECKPOINT) -> list[Claim]:
    return list(check(log_of(files), checkpoint))


def test_machines_name_their_gpus() -> None:
    for files, count, peak in (({"gpu.csv": SMI}, 8, 1979e12), ({"a.prom": DCGM}, 4, 1979e12), ({"wandb-metadata.json": A100}, 2, 312e12)):
        (usage,) = log_of({"log.jsonl": lines(range(9)), **files}).usage
        assert [device.peak for device in usage.gpus] == [peak] * count
    newer = json.dumps({"gpu": "NVIDIA L4", "gpu_count": 2, "gpu_nvidia": [{"name": "NVIDIA L4"}, {"name": "Tesla T4"}]}).encode()
    (usage,) = log_of({"log.jsonl": lines(range(9)), "wandb-metadata.json": newer}).usage
    assert [device.peak for device in usage.gpus] == [242.5e12, 65e12]


@pytest.mark.parametrize(
    ("model", "tera"),
    [
        ("NVIDIA A100-SXM4-40GB", 312), ("NVIDIA A10G", 125), ("NVIDIA A10", 125), ("NVIDIA L40S", 733), ("NVIDIA L40", 362),
        ("NVIDIA H100 PCIe", 1513), ("NVIDIA H100 80GB HBM3", 1979), ("Tesla V100-SXM2-16GB", 130), ("NVIDIA RTX A6000", 154.8),
        ("NVIDIA RTX 6000 Ada Generation", 728.5), ("NVIDIA GeForce RTX 4090", 660.6), ("AMD Instinct MI300X OAM", 2614.9),
    ],
)  # fmt: skip
def test_names_of_devices(model: str, tera: float) -> None:
    assert gpu("0", model).peak == pytest.approx(tera * 1e12)
    assert gpu("0", "A GPU of the future").peak is None


def test_possible_and_impossible_totals() -> None:
    (fine,) = said(flops(1e17))
    assert (fine.status, float(fine.numbers["share_of_peak"]) < 0.2) == (Status.OK, True)
    (broken,) = said(flops(1e20))
    assert (broken.status, broken.severity, broken.confidence) == (Status.FOUND, Level.LOW, Level.LOW)
    assert float(broken.numbers["share_of_peak"]) > 1
    log = honest(1, decimals=4)
    rows = (*log.rows[:-1], {**log.rows[-1], "total_flos": 1e20})
    events = {"events.out.tfevents.1700000000.h.1.0": as_events(type(log)(rows, log.claims)), "wandb-metadata.json": A100}
    assert [claim.status for claim in said(events)] == [Status.FOUND]
    state = {"trainer_state.json": as_state(type(log)(rows, log.claims)), "wandb-metadata.json": A100}
    assert [claim.status for claim in said(state)] == [Status.FOUND]


def test_a_rate_of_one_gpu_beyond_its_peak() -> None:
    (fine,) = said({"train.log": console(megatron, range(10, 500, 10)), "wandb-metadata.json": A100.replace(b"A100", b"H100")})
    assert fine.status is Status.OK
    (broken,) = said({"train.log": console(megatron, range(10, 500, 10)), "wandb-metadata.json": A100})
    assert (broken.status, broken.severity, broken.numbers["tflops"]) == (Status.FOUND, Level.MEDIUM, 391.2)


def test_parameters_and_tokens_stand_in_for_a_total() -> None:
    log = honest(1, decimals=4)
    rows = tuple({key: value for key, value in row.items() if key != "total_flos"} for row in log.rows)
    files = {
        "trainer_state.json": as_state(type(log)(rows, {**log.claims, "num_input_tokens_seen": 1e9})), "wandb-metadata.json": A100,
    }  # fmt: skip
    facts = CheckpointFacts(
        ref="m", format="safetensors", tensors=1, parameters=10**9, nbytes=2 * 10**9, dtypes=("BF16",), notes=(), verified=True
    )
    assert [claim.status for claim in said(files, facts)] == [Status.FOUND]
    assert [claim.status for claim in said(files)] == [Status.NOT_APPLICABLE]


def test_what_is_not_known_is_not_judged() -> None:
    log = {"run/log.jsonl": flops(1e20)["run/log.jsonl"]}
    assert [claim.status for claim in said(log)] == [Status.NOT_APPLICABLE]
    future = {**log, "wandb-metadata.json": A100.replace(b"A100-SXM4-80GB", b"Z900")}
    assert "Z900 can compute is not known" in said(future)[0].text
    for data in (b"[]", b"{", b'{"gpu": 3, "gpu_count": "x"}', b'{"gpu_nvidia": [1, {"name": 2}]}', b'{"gpu": "x", "gpu_count": 99999}'):
        told = attempt(lambda data=data: assemble({**log, "wandb-metadata.json": data}), what="it")  # type: ignore[misc]
        assert isinstance(told, TrainingLog)
        assert [claim.status for claim in check(told, NO_CHECKPOINT)] == [Status.NOT_APPLICABLE]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0, 1e308, 5e-324])
def test_wild_totals_crash_nothing(value: float) -> None:
    for claim in said(flops(value)):
        assert claim.status in (Status.OK, Status.FOUND, Status.NOT_APPLICABLE)
