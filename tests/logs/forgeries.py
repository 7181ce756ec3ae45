"""Honest runs, the ways in which a log is forged, and the formats that carry both: everything from a seed."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.logs.building import field as proto_field
from tests.logs.building import record, varint

Row = dict[str, Any]
TRAIN = ("loss", "grad_norm")


@dataclass(frozen=True)
class Log:
    """A run as its rows (training, evaluation, summary) and what the log claims of itself."""

    rows: tuple[Row, ...]
    claims: Mapping[str, float] = field(default_factory=dict)

    @property
    def training(self) -> list[int]:
        return [index for index, row in enumerate(self.rows) if "loss" in row]

    def changed(self, changes: Mapping[int, Mapping[str, Any]]) -> Log:
        return replace(self, rows=tuple({**row, **changes.get(index, {})} for index, row in enumerate(self.rows)))


def single(value: float) -> float:
    """The float32 nearest to a value."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def honest(seed: int, *, decimals: int | None, rows: int = 120) -> Log:
    """A run of the HF Trainer: a noisy falling loss, float32 gradient norms, a schedule, a clock that varies, a summary."""
    rng = random.Random(f"honest {seed}")
    every = rng.choice([5, 10, 20, 25])
    steps, base, warm = every * rows + rng.choice([0, every // 2]), rng.choice([1e-5, 5e-5, 2e-4, 3e-4]), rng.choice([0, every * 6])
    shape, late = rng.choice(["linear", "cosine", "constant"]), rng.choice([0, 1])
    time, total, out = 1.7e9 + rng.random(), 0.0, []
    per_epoch = steps / rng.choice([1, 2, 3])
    for step in range(every, steps + 1, every):
        exact = 1.2 + 2.5 * math.exp(-step / (0.3 * steps)) + rng.gauss(0, 0.05)
        loss = exact if decimals is None else round(exact, decimals)
        total += exact * every
        time += every * abs(rng.gauss(0.7, 0.03))
        rate = base * factor(shape, step - late, warm, steps)
        out.append(
            {
                "step": step,
                "loss": loss,
                "grad_norm": single(abs(rng.gauss(1.5, 0.4))),
                "learning_rate": rate,
                "epoch": step / per_epoch,
                "time": time,
            }
        )
    rest = steps - out[-1]["step"]
    total += rest * out[-1]["loss"]
    runtime = round(time - 1.7e9, 4)
    summary = {"step": steps, "train_runtime": runtime, "train_steps_per_second": round(steps / runtime, 3), "train_loss": total / steps}
    summary |= {"total_flos": 1e15, "epoch": steps / per_epoch, "time": time + 1}
    return Log((*out, summary), {"global_step": steps, "max_steps": steps, "logging_steps": every, "save_steps": every * 10})


def factor(shape: str, step: int, warm: int, steps: int) -> float:
    """The multiple of the base rate that the schedulers of transformers give (transformers/optimization.py)."""
    if step < warm:
        return step / max(1, warm)
    if shape == "constant":
        return 1.0
    done = (step - warm) / max(1, steps - warm)
    return max(0.0, 1 - done) if shape == "linear" else max(0.0, 0.5 * (1 + math.cos(math.pi * done)))


def stretch(log: Log, rng: random.Random, share: float = 0.15) -> list[int]:
    """The rows of an inner stretch of training: a share of it and at least ten rows, a tenth away from either end."""
    rows = log.training
    length = max(10, int(share * len(rows)))
    start = rng.randrange(len(rows) // 10 + 1, len(rows) - length - len(rows) // 10)
    return rows[start : start + length]


def like(log: Log, value: float) -> float:
    """A loss with as many decimals as the log's own."""
    losses = [log.rows[index]["loss"] for index in log.training]
    return round(value, 4) if all(round(loss, 4) == loss for loss in losses) else value


def nothing(log: Log, other: Log, rng: random.Random) -> Log:
    return log


def cut_stretch(log: Log, other: Log, rng: random.Random) -> Log:
    out = set(stretch(log, rng))
    return replace(log, rows=tuple(row for index, row in enumerate(log.rows) if index not in out))


def cut_tail(log: Log, other: Log, rng: random.Random) -> Log:
    """The last tenth to third is gone, with the summary; the checkpoint that lies beside the log is of the last step."""
    rows = log.training
    last = log.rows[rows[-int(rng.uniform(0.1, 0.33) * len(rows))]]["step"]
    return replace(log, rows=tuple(row for row in log.rows if row["step"] < last))


def duplicated_stretch(log: Log, other: Log, rng: random.Random) -> Log:
    """A stretch has the losses and norms of the one before it; steps, rates and times are its own."""
    place = stretch(log, rng)
    rows = log.training
    back = rng.randrange(len(place), len(place) + 5)
    sources = [rows[max(0, rows.index(index) - back)] for index in place]
    return log.changed({index: _values(log.rows[source]) for index, source in zip(place, sources, strict=True)})


def smoothed_curve(log: Log, other: Log, rng: random.Random) -> Log:
    changes, level = {}, None
    for index in log.training:
        level = log.rows[index]["loss"] if level is None else 0.9 * level + 0.1 * log.rows[index]["loss"]
        changes[index] = {"loss": like(log, level)}
    return log.changed(changes)


def edited_losses(log: Log, other: Log, rng: random.Random) -> Log:
    """The losses of the last third are a fifth to a twentieth lower."""
    less = rng.uniform(0.8, 0.95)
    rows = log.training
    return log.changed({index: {"loss": like(log, less * log.rows[index]["loss"])} for index in rows[-len(rows) // 3 :]})


def shifted_timestamps(log: Log, other: Log, rng: random.Random) -> Log:
    move = rng.uniform(0.2, 30) * 3600 * rng.choice([1, -1])
    return log.changed({index: {"time": log.rows[index]["time"] + move} for index in stretch(log, rng) if "time" in log.rows[index]})


def spliced_run(log: Log, other: Log, rng: random.Random) -> Log:
    """A stretch has the losses and norms of the middle of another run of the repository."""
    theirs = other.training
    place = stretch(log, rng)[: len(theirs) // 2]
    start = rng.randrange(len(theirs) // 10 + 1, len(theirs) - len(place))
    return log.changed({index: _values(other.rows[source]) for index, source in zip(place, theirs[start:], strict=False)})


def rewritten_learning_rate(log: Log, other: Log, rng: random.Random) -> Log:
    more = rng.choice([rng.uniform(0.3, 0.9), rng.uniform(1.1, 3)])
    return log.changed({index: {"learning_rate": more * log.rows[index]["learning_rate"]} for index in stretch(log, rng)})


def invented_steps(log: Log, other: Log, rng: random.Random) -> Log:
    """A hole is filled: losses and norms between its ends with noise, rates and epochs on the line between them."""
    place = stretch(log, rng)
    first, last = log.rows[place[0]], log.rows[place[-1]]
    changes = {}
    for index in place:
        share = (log.rows[index]["step"] - first["step"]) / (last["step"] - first["step"])
        between = {name: first[name] + share * (last[name] - first[name]) for name in (*TRAIN, "learning_rate") if name in first}
        noisy = {name: between[name] * (1 + rng.gauss(0, 0.02)) for name in TRAIN if name in between}
        changes[index] = between | noisy | {"loss": like(log, noisy["loss"])}
    return log.changed(changes)


def _values(row: Row) -> Row:
    return {name: row[name] for name in TRAIN if name in row}


Forgery = Callable[[Log, Log, random.Random], Log]
FORGERIES: tuple[Forgery, ...] = (
    nothing,
    cut_stretch,
    cut_tail,
    duplicated_stretch,
    smoothed_curve,
    edited_losses,
    shifted_timestamps,
    spliced_run,
    rewritten_learning_rate,
    invented_steps,
)


def as_state(log: Log) -> bytes:
    """A trainer state, which has no times."""
    rows = [{name: value for name, value in row.items() if name != "time"} for row in log.rows]
    return (json.dumps({**log.claims, "log_history": rows}, indent=2, sort_keys=True) + "\n").encode()


def as_jsonl(log: Log) -> bytes:
    rows = ({"timestamp" if name == "time" else name: value for name, value in row.items()} for row in log.rows)
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_csv(log: Log) -> bytes:
    """Training rows alone."""
    out = io.StringIO()
    writer = csv.DictWriter(out, ["step", "epoch", *TRAIN, "learning_rate", "timestamp"], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {("timestamp" if name == "time" else name): value for name, value in log.rows[index].items()} for index in log.training
    )
    return out.getvalue().encode()


def as_events(log: Log) -> bytes:
    """A TensorBoard file as the HF Trainer's callback writes it."""
    return _event(0, 1.7e9, {}) + b"".join(_event(row["step"], row["time"], _tags(row)) for row in log.rows)


def _tags(row: Row) -> Row:
    return {f"train/{name}": value for name, value in row.items() if name not in ("step", "time", "epoch")}


def _event(step: int, time: float, scalars: Row) -> bytes:
    head = b"\x09" + struct.pack("<d", time) + b"\x10" + varint(step)
    if not scalars:
        return record(head + proto_field(3, b"brain.Event:2"))
    values: Iterable[bytes] = (
        proto_field(1, proto_field(1, tag.encode()) + b"\x15" + struct.pack("<f", value)) for tag, value in scalars.items()
    )
    return record(head + proto_field(5, b"".join(values)))


FORMATS: Mapping[str, tuple[str, Callable[[Log], bytes], int | None]] = {
    "state 4.x": ("trainer_state.json", as_state, 4),
    "state 5.x": ("trainer_state.json", as_state, None),
    "jsonl": ("log.jsonl", as_jsonl, 4),
    "csv": ("metrics.csv", as_csv, None),
    "tfevents": ("events.out.tfevents.1700000000.host.1.0", as_events, None),
}
