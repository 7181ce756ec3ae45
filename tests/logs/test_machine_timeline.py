"""The picture of a machine's log beside the steps that the training log claims."""

from __future__ import annotations

from modelguard.logs.machine_timeline import machine_timeline
from modelguard.logs.timeline import timeline
from modelguard.types.logs import LogRecord, Run, Sample, Usage

START = 1_700_000_000.0


def usage(minutes: range, busy: range, devices: int = 2) -> Usage:
    samples = (
        Sample(time=START + 60 * minute, device=str(device), utilisation=95.0 if minute in busy else 0.0, power=300.0)
        for minute in minutes
        for device in range(devices)
    )
    return Usage(source="gpu.csv", format="nvidia-smi", samples=tuple(samples))


def run(zone: float = 0.0) -> Run:
    values = {"loss": 1.0, "learning_rate": 1e-4, "tokens_per_second": 900.0, "grad_norm": 0.5}
    records = (LogRecord(step=minute + 1, kind="train", values=values, time=START + 60 * minute + zone) for minute in range(10, 50))
    return Run(source="train.jsonl", format="jsonl", records=tuple(records))


def test_use_power_and_steps_share_one_axis() -> None:
    drawn = machine_timeline(usage(range(60), range(10, 50)), [run()])
    assert drawn is not None
    assert (drawn.axis, drawn.metric) == ("minute", "GPU utilisation, %")
    assert dict(drawn.points)[5] == 0.0
    assert dict(drawn.points)[20] == 95.0
    steps = dict(drawn.panels[1].points)
    assert steps[10.0] == 11.0
    assert [panel.name for panel in drawn.panels] == ["GPU power", "step of train.jsonl"]


def test_a_time_zone_moves_the_steps_to_where_they_belong() -> None:
    for hours in (-5.5, 8.0):
        drawn = machine_timeline(usage(range(60), range(10, 50)), [run(hours * 3600)])
        assert drawn is not None
        assert len(drawn.panels[1].points) == 40


def test_a_hole_in_the_machines_log_is_a_gap() -> None:
    whole, holed = usage(range(60), range(60)), usage(range(60), range(60)).samples
    holed = tuple(sample for sample in holed if not START + 60 * 20 < sample.time < START + 60 * 40)
    drawn = machine_timeline(Usage(source="gpu.csv", format="nvidia-smi", samples=holed), [])
    assert drawn is not None
    assert drawn.gaps == ((20, 40),)
    complete = machine_timeline(whole, [])
    assert complete is not None
    assert complete.gaps == ()


def test_an_accounting_log_has_no_picture() -> None:
    assert machine_timeline(Usage(source="sacct.txt", format="sacct"), [run()]) is None


def test_a_training_log_is_drawn_with_its_companions() -> None:
    drawn = timeline(run())
    assert drawn.metric == "loss"
    assert [(panel.name, panel.unit) for panel in drawn.panels] == [
        ("learning rate", ""),
        ("throughput", "per second"),
        ("gradient norm", ""),
    ]
    assert len(drawn.panels[0].points) == 40
