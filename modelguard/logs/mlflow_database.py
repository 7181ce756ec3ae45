"""MLflow's database, `mlflow.db`: the tables of a stranger's SQLite file, read from a private copy without running what else it holds.

What a schema can run (views, triggers, generated columns, virtual tables) is refused by an authorizer and by `trusted_schema=OFF`
(https://www.sqlite.org/security.html, section 1.2); rows, time and sizes are bounded.
"""

from __future__ import annotations

import io
import math
import re
import sqlite3
import tempfile
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from sys import float_info
from time import monotonic
from typing import BinaryIO

from modelguard.errors import Malformed
from modelguard.logs.mlflow_points import merge, point
from modelguard.logs.rows import CLAIM_KEYS, within_limit
from modelguard.types.logs import LogRecord, Run

FORMAT = "mlflow-db"
BINARY = True
MAGIC = b"SQLite format 3\0"
MAX_DATABASE = 1 << 29
MAX_RUNS = 10_000
MAX_KEYS = 10_000
MAX_KEY = 1000  # characters
MAX_TEXT = 1 << 20  # bytes of one value or of one statement of the schema
SECONDS = 60.0
TICK = 10_000  # instructions of SQLite's machine between two looks at the clock

_COLUMNS = {
    "metrics": ("run_uuid", "key", "timestamp", "value", "step", "is_nan"),
    "params": ("run_uuid", "key", "value"),
}
_TABLE = re.compile(r"\s*CREATE\s+TABLE\s", re.IGNORECASE)
_IDENTITY = re.compile(r"[\w-]{1,64}", re.ASCII)
_READABLE = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ})
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_TEXT,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: MAX_TEXT,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
}


@dataclass(slots=True)
class _RunRows:
    """What the tables say of one run: the values of each metric in the order of their rows, and claims of its parameters."""

    series: defaultdict[str, list[LogRecord]] = field(default_factory=lambda: defaultdict(list))
    claimed: dict[str, float] = field(default_factory=dict)


def sniff(name: str, head: bytes) -> bool:
    """SQLite's mark, and near it the name of a column that MLflow's schema begins with; a file named after MLflow is one or broken."""
    base = name.rpartition("/")[2].lower()
    return (head.startswith(MAGIC) and (b"run_uuid" in head or "mlflow" in base)) or base == "mlflow.db"


def read(name: str, data: bytes) -> tuple[Run, ...]:
    """The runs of a database, one for each that logged a metric; none where the database has no table of metrics. Raises Malformed."""
    return stream(name, io.BytesIO(data))


def stream(name: str, file: BinaryIO) -> tuple[Run, ...]:
    """The runs of a database of any size up to half a GiB."""
    with tempfile.TemporaryDirectory(prefix="modelguard-") as folder:
        copy = Path(folder) / "copy.db"
        wal = _copy(name, file, copy)
        try:
            with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)) as connection:
                _distrust(connection)
                rows = _rows(name, connection)
        except (sqlite3.Error, sqlite3.Warning, UnicodeDecodeError, OverflowError) as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise Malformed(
                f"{name}: SQLite cannot read it ({reason!a})", advice="commit the database as MLflow left it, closed"
            ) from error
    notes = ("the database was in write-ahead mode: what its journal held is not in this file",) if wal else ()
    return tuple(_run(name, run_id, rows[run_id], notes) for run_id in sorted(rows) if rows[run_id].series)


def _copy(name: str, file: BinaryIO, copy: Path) -> bool:
    """Writes the private copy. True when the file says that a write-ahead journal belongs to it."""
    head = file.read(100)
    if not head.startswith(MAGIC):
        raise Malformed(f"{name}: not an SQLite database", advice="commit the database as MLflow left it, closed")
    with copy.open("wb") as target:
        target.write(head)
        while block := file.read(1 << 20):
            if target.tell() + len(block) > MAX_DATABASE:
                raise Malformed(f"{name}: more than {MAX_DATABASE} bytes", advice="export the run's metrics as CSV")
            target.write(block)
        written = target.tell()
    page, pages = int.from_bytes(head[16:18], "big"), int.from_bytes(head[28:32], "big")  # https://www.sqlite.org/fileformat.html
    if written < (1 << 16 if page == 1 else page) * pages:
        raise Malformed(f"{name}: {written} bytes, cut short: its header tells of {pages} pages", advice="commit the whole database")
    return head[18:20] == b"\2\2"


def _distrust(connection: sqlite3.Connection) -> None:
    """Bounds sizes and time, and lets nothing of the schema run."""
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    deadline = monotonic() + SECONDS
    connection.set_progress_handler(lambda: monotonic() > deadline, TICK)
    for setting in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON", "mmap_size = 0", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {setting}")


def _rows(name: str, connection: sqlite3.Connection) -> dict[str, _RunRows]:
    """The rows of the tables that are real tables, by run."""
    runs: defaultdict[str, _RunRows] = defaultdict(_RunRows)
    tables = _tables(name, connection)
    connection.set_authorizer(_authorize)
    if "metrics" in tables:
        _metrics(name, connection, runs)
    if "params" in tables:
        for run_id, key, value in connection.execute("SELECT run_uuid, key, value FROM params NOT INDEXED"):
            if key in CLAIM_KEYS and isinstance(value, str) and re.fullmatch(r"\d{1,15}", value) and run_id in runs:
                runs[run_id].claimed[CLAIM_KEYS[key]] = float(value)
    return runs


def _tables(name: str, connection: sqlite3.Connection) -> frozenset[str]:
    """Which of MLflow's tables the schema has. Raises Malformed where one of their names stands for something that computes its rows."""
    found = set()
    for kind, title, page, sql in connection.execute("SELECT type, name, rootpage, sql FROM sqlite_master"):
        if title not in _COLUMNS or kind == "trigger":
            continue
        if kind != "table" or not isinstance(page, int) or page < 1 or not isinstance(sql, str) or not _TABLE.match(sql):
            raise Malformed(f"{name}: {title} is no table of its own rows", advice="commit the database as MLflow left it")
        found.add(title)
    return frozenset(found)


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, through: str | None) -> int:
    """Only reading the known columns of the known tables, and not from within a view or a trigger."""
    if action not in _READABLE or through is not None:
        return sqlite3.SQLITE_DENY
    known = first is None or (second or "").lower() in ("", "rowid", *_COLUMNS.get(first, ()))
    return sqlite3.SQLITE_OK if known and (first is None or first in _COLUMNS) else sqlite3.SQLITE_DENY


def _metrics(name: str, connection: sqlite3.Connection, runs: defaultdict[str, _RunRows]) -> None:
    keys: dict[str, str] = {}
    statement = "SELECT run_uuid, key, timestamp, value, step, is_nan FROM metrics NOT INDEXED ORDER BY rowid"
    for position, (run_id, key, time, value, step, is_nan) in enumerate(connection.execute(statement), start=1):
        within_limit(position, name)
        sound = isinstance(run_id, str) and _IDENTITY.fullmatch(run_id) and isinstance(key, str) and len(key) <= MAX_KEY
        if not sound or not isinstance(time, int) or not isinstance(value, int | float) or not isinstance(step, int):
            raise Malformed(f"{name}: row {position} of metrics is no metric", advice="commit the database as MLflow left it")
        if len(runs) > MAX_RUNS or len(keys) > MAX_KEYS:
            raise Malformed(f"{name}: more than {MAX_RUNS} runs or {MAX_KEYS} metrics", advice="export the run's metrics as CSV")
        entry = point(keys.setdefault(key, key), time, _value(value, is_nan), step, position)
        if entry is not None:
            runs[run_id].series[key].append(entry)


def _value(value: float, is_nan: object) -> float:
    """A value as it was logged: MLflow stores NaN as a flag, and infinities as the largest numbers."""
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) >= float_info.max else float(value)


def _run(name: str, run_id: str, rows: _RunRows, notes: tuple[str, ...]) -> Run:
    records = merge([rows.series[key] for key in sorted(rows.series)])
    return Run(source=f"{name} (run {run_id})", format=FORMAT, records=records, claimed=rows.claimed, notes=notes, run_id=run_id)
