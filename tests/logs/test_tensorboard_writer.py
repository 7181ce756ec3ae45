"""Event files of the real writers read the same here as in TensorBoard."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from modelguard.logs.base import read_log


def test_what_tensorboards_own_writer_writes(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer_module = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
        event_pb2 = pytest.importorskip("tensorboard.compat.proto.event_pb2")
        summary = pytest.importorskip("tensorboard.compat.proto.summary_pb2").Summary
        tensor = pytest.importorskip("tensorboard.compat.proto.tensor_pb2").TensorProto
    writer = writer_module.EventFileWriter(str(tmp_path))
    for step in range(1, 301):
        scalar = summary.Value(tag="train/loss", simple_value=3.0 / step)
        wide = summary.Value(tag="train/grad_norm", tensor=tensor(dtype=2, double_val=[0.1 * step]))
        count = summary.Value(tag="train/tokens", tensor=tensor(dtype=9, int64_val=[step * 1000]))
        packed = summary.Value(tag="train/lr", tensor=tensor(dtype=1, tensor_content=b"\x00\x00\x00\x3f"))
        text = summary.Value(tag="args", tensor=tensor(dtype=7, string_val=[b"{}"]))
        writer.add_event(event_pb2.Event(wall_time=1.5e9 + step, step=step, summary=summary(value=[scalar, wide, count, packed, text])))
    writer.close()
    (path,) = tmp_path.iterdir()
    run = read_log(path.name, path.read_bytes())
    assert run is not None
    assert not run.notes
    assert [entry.step for entry in run.records] == list(range(1, 301))
    assert run.records[2].values == {"train/loss": 1.0, "train/grad_norm": 0.1 * 3, "train/tokens": 3000.0, "train/lr": 0.5}
    assert run.records[2].time == 1.5e9 + 3


@pytest.mark.slow
@pytest.mark.parametrize("new_style", [False, True])
def test_what_torch_writes(tmp_path: Path, new_style: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensorboard = pytest.importorskip("torch.utils.tensorboard")
        with tensorboard.SummaryWriter(str(tmp_path)) as writer:
            for step in range(5):
                writer.add_scalar("train/loss", 0.5 * step, step, new_style=new_style)
    (path,) = tmp_path.iterdir()
    run = read_log(path.name, path.read_bytes())
    assert run is not None
    assert [(entry.step, entry.values["train/loss"]) for entry in run.records] == [(step, 0.5 * step) for step in range(5)]
