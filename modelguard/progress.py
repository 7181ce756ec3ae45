"""A progress bar on the error stream for work that takes long, on a terminal only."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from modelguard.render.text import terminal
from modelguard.world import Progress, silent

PATIENCE_S = 1.0  # work that ends sooner shows nothing


@contextmanager
def shown(*, quiet: bool) -> Iterator[Progress]:
    """A progress function whose bar disappears at the end. Silent where the error stream is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    started, lock, tasks = time.monotonic(), threading.Lock(), {}
    with Bars(*columns, console=Console(stderr=True, markup=False), transient=True) as bars:

        def advance(what: str, done: int, total: int) -> None:
            if time.monotonic() - started < PATIENCE_S:
                return
            with lock:
                if what not in tasks:
                    tasks[what] = bars.add_task(terminal(what, 60), total=total)
                bars.update(tasks[what], completed=done)

        yield advance
