"""Logs of W&B and MLflow for tests, in the bytes that these programs write."""

from __future__ import annotations

import json
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.logs.building import field, varint

BLOCK = 32768
MILLISECONDS = 1_700_000_000_000
SCHEMA = """
CREATE TABLE runs (run_uuid VARCHAR(32) NOT NULL, status VARCHAR(9), start_time BIGINT, CONSTRAINT run_pk PRIMARY KEY (run_uuid));
CREATE TABLE metrics (
    key VARCHAR(250) NOT NULL, value FLOAT NOT NULL, timestamp BIGINT NOT NULL, run_uuid VARCHAR(32) NOT NULL,
    step BIGINT DEFAULT '0' NOT NULL, is_nan BOOLEAN DEFAULT '0' NOT NULL,
    CONSTRAINT metric_pk PRIMARY KEY (key, timestamp, step, run_uuid, value, is_nan),
    FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), CHECK (is_nan IN (0, 1)));
CREATE TABLE params (key VARCHAR(250) NOT NULL, value VARCHAR(8000) NOT NULL, run_uuid VARCHAR(32) NOT NULL,
    CONSTRAINT param_pk PRIMARY KEY (key, run_uuid));
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
"""


def framed(bodies: Iterable[bytes]) -> bytes:
    """A `.wandb` file of these records: LevelDB's log, blocks of 32 KiB, after W&B's header."""
    out = bytearray(b":W&B" + struct.pack("<HB", 0xBEE1, 0))
    for body in bodies:
        rest, first = body, True
        while first or rest:
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += bytes(left)
                left = BLOCK
            piece, rest = rest[: left - 7], rest[left - 7 :]
            kind = (1 if first else 4) if not rest else (2 if first else 3)
            out += struct.pack("<IHB", zlib.crc32(piece, zlib.crc32(bytes([kind]))), len(piece), kind) + piece
            first = False
    return bytes(out)


def wide(number: int, data: bytes) -> bytes:
    """A field of bytes whose number may be above 15."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def item(key: str, value: object, *, nested: bool = False) -> bytes:
    return field(1, (wide(2, key.encode()) if nested else field(1, key.encode())) + wide(16, json.dumps(value).encode()))


def numbered(number: int, *parts: bytes) -> bytes:
    return b"\x08" + varint(number) + b"".join(parts)


def opening(run_id: str, started: int, config: Mapping[str, object]) -> bytes:
    """The run record."""
    update = b"".join(item(key, value) for key, value in config.items())
    return wide(17, field(1, run_id.encode()) + wide(4, update) + wide(17, b"\x08" + varint(started)))


def board(steps: Iterable[int], *, run_id: str = "ab12cd34", started: int = 1_700_000_000, offset: int = 0, **config: object) -> bytes:
    """A run file of the HF Trainer's callback: W&B counts rows, `train/global_step` counts steps; console output stands between."""
    bodies = [numbered(1, opening(run_id, started, config))]
    for count, step in enumerate(steps, start=offset):
        row = {"train/loss": 9 / (1 + step / 100), "train/learning_rate": 1e-5, "train/epoch": step / 1000, "train/global_step": step}
        own = {"_timestamp": started + step, "_runtime": step, "_step": count}
        history = b"".join(item(key, value, nested=True) for key, value in (row | own).items())
        bodies += [numbered(len(bodies) + 1, field(13, f"{{'loss': {step}}}\n".encode())), numbered(len(bodies) + 2, field(2, history))]
    return framed(bodies)


def metric(values: Iterable[tuple[int, float]], *more: str) -> bytes:
    """A metric file of MLflow's file store; `more` are the last fields of each line."""
    rows = (" ".join((str(MILLISECONDS + 1000 * step), repr(value), str(step), *more)) for step, value in values)
    return "".join(row + "\n" for row in rows).encode()


def database(path: Path, runs: Mapping[str, Iterable[int]], *extra: str, params: Sequence[tuple[str, str]] = (), page: int = 4096) -> bytes:
    """The bytes of an `mlflow.db` with a loss and a learning rate for each step of each run."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA page_size = {page}")
    connection.executescript(SCHEMA)
    for run_id, steps in runs.items():
        connection.execute("INSERT INTO runs VALUES (?, 'FINISHED', ?)", (run_id, MILLISECONDS))
        for step in steps:
            for key, value in (("loss", 9 / (1 + step / 100)), ("learning_rate", 1e-5)):
                connection.execute("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, 0)", (key, value, MILLISECONDS + 1000 * step, run_id, step))
        connection.executemany("INSERT INTO params VALUES (?, ?, ?)", [(*pair, run_id) for pair in params])
    for statement in extra:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path.read_bytes()
