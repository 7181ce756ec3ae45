"""Slurm's accounting, as `sacct -P` (or `--parsable`) prints it: jobs with start, end, state and what was allocated."""

from __future__ import annotations

import re
from collections.abc import Mapping

from modelguard.logs.machines import moment, rows, text_of, usage
from modelguard.types.logs import Allocation, Usage

FORMAT = "sacct"
_GPUS = re.compile(r"gres/gpu(?::[\w.\-]{1,60})?[=:](\d{1,9})")
_TOTAL = re.compile(r"gres/gpu[=:](\d{1,9})")
_JOBS = ("jobidraw", "jobid")
_TRES = ("alloctres", "reqtres", "allocgres")


def sniff_usage(name: str, head: bytes) -> bool:
    """The first line is a header with a job, its start, its end and its state."""
    columns = _columns(text_of(head[:4096]).partition("\n")[0].strip().split("|"))
    return {"start", "end", "state"} <= columns.keys() and any(job in columns for job in _JOBS)


def read_usage(name: str, data: bytes) -> Usage:
    """One allocation a job; the steps of a job and jobs that never started are left out. Raises Malformed."""
    table = rows(name, data, "|")
    columns = _columns(next(table, []))
    allocations, left_out = [], 0
    for cells in table:
        cells += [""] * (len(columns) - len(cells))
        job = next((cells[columns[key]] for key in _JOBS if key in columns), "")
        start = moment(cells[columns["start"]])
        if start is None:
            left_out += 1
        elif "." not in job:
            allocations.append(_allocation(cells, columns, job, start))
    return usage(name, FORMAT, allocations=allocations, left_out=left_out)


def _columns(header: list[str]) -> dict[str, int]:
    return {cell.strip().lower(): place for place, cell in enumerate(header) if cell.strip()}


def _allocation(cells: list[str], columns: Mapping[str, int], job: str, start: float) -> Allocation:
    tres = next((cells[columns[key]] for key in _TRES if key in columns), None)
    gpus = None if tres is None else int(match[1]) if (match := _TOTAL.search(tres) or _GPUS.search(tres)) else 0
    return Allocation(job=job, start=start, end=moment(cells[columns["end"]]), state=cells[columns["state"]].split(" ")[0], gpus=gpus)
