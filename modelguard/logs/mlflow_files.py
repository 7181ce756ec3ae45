"""MLflow's file store: one file a metric, `mlruns/<experiment>/<run>/metrics/<key>`, one line a value."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from modelguard.errors import Malformed
from modelguard.logs.mlflow_points import point
from modelguard.logs.rows import MAX_ROWS
from modelguard.types.logs import LogRecord, Run

FORMAT = "mlflow"
MAX_LINE = 1 << 12  # bytes; a line holds two to six short fields

_PATH = re.compile(r"(?:^|/)(?:mlruns/[^/]+/(?:models/)?(?P<folder>[^/]+)|(?P<run>[0-9a-f]{32}))/metrics/(?P<key>.+)$")
_RUN = re.compile(r"[0-9a-f]{32}")
# time in milliseconds, value, step, then the name and the digest of a data set, then the run that a model's metric belongs to
_VALUE = rb"[-+]?(?:\d{1,400}(?:\.\d{0,400})?(?:[eE][-+]?\d{1,5})?|(?i:nan|inf(?:inity)?))"
_LINE = re.compile(rb"(\d{1,19}) (" + _VALUE + rb")(?: (-?\d{1,19})((?: [^\s]{1,500}){0,3}))?")


def sniff(name: str, head: bytes) -> bool:
    """The path is that of a metric in a run's folder; a folder without MLflow's 32 digits must hold a metric's line too."""
    path = _PATH.search(name)
    first = head[:MAX_LINE].partition(b"\n")[0].rstrip(b"\r")
    return path is not None and (_RUN.fullmatch(path["run"] or path["folder"]) is not None or _LINE.fullmatch(first) is not None)


def read(name: str, data: bytes) -> Run:
    """The values of one metric. A last line that breaks off is an ordinary crash; damage before it is Malformed."""
    return stream(name, io.BytesIO(data))


def stream(name: str, file: BinaryIO) -> Run:
    """The values of one metric, line by line. `run_id` is what the lines of a model's metric say, else the folder of the run."""
    path = _PATH.search(name)
    key, folder = (path["key"], path["run"] or path["folder"]) if path else (name.rpartition("/")[2], "")
    notes: list[str] = []
    owners: set[str] = set()
    left = 0
    records: list[LogRecord] = []
    for position, fields in _lines(name, file, notes):
        entry = point(key, int(fields[1]), float(fields[2]), int(fields[3] or 0), position)
        owners.add(_owner(fields) or folder)
        left += entry is None
        records += (entry,) if entry else ()
    if left:
        notes.append(f"{left} values have no step that counts and are passed over")
    return Run(source=name, format=FORMAT, records=tuple(records), notes=tuple(notes), run_id=owners.pop() if len(owners) == 1 else folder)


def _lines(name: str, file: BinaryIO, notes: list[str]) -> Iterator[tuple[int, re.Match[bytes]]]:
    """(number, fields) of each line, in the order of the file."""
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), start=1):
        fields = _LINE.fullmatch(line.rstrip(b"\r\n"))
        if number > MAX_ROWS:
            raise Malformed(f"{name}: more than {MAX_ROWS} rows", advice="log less often, or commit the log in parts")
        if fields:
            yield number, fields
        elif line.endswith(b"\n") or len(line) == MAX_LINE:
            if line.strip():
                raise Malformed(f"{name}: line {number} is no metric (time, value, step)", advice="commit the file as MLflow wrote it")
        else:
            notes.append(f"line {number}, the last one, breaks off: the writer was stopped there")


def _owner(fields: re.Match[bytes]) -> str:
    """The run that a line of a model's metric names in its last field; empty where it names none."""
    more = (fields[4] or b"").decode("ascii", "replace").split()
    return more[-1] if len(more) in (1, 3) and _RUN.fullmatch(more[-1]) else ""
