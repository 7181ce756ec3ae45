"""Trains what is missing and compares every pair, in worker processes. What comes back does not depend on how many there are."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from benchmarks.zoo import cache
from benchmarks.zoo.outcomes import Outcome, outcome
from benchmarks.zoo.pairs import pairs
from benchmarks.zoo.preparation import prepare, stages
from benchmarks.zoo.statistics import null_counts
from benchmarks.zoo.training import Recipe

T = TypeVar("T")
WORKERS = 2
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def run(part: str, folder: Path) -> tuple[tuple[Outcome, ...], NDArray[np.int64]]:
    """All outcomes of that part, in the pairs' order, and T1's fixed points over its models. The models are kept in `folder`."""
    os.environ.update({cache.PLACE: str(folder), **dict.fromkeys(ONE_THREAD, "1")})
    context = multiprocessing.get_context("spawn")  # so that the workers read the variables before numpy starts its threads
    with ProcessPoolExecutor(WORKERS, mp_context=context, initializer=_quiet) as pool, Progress(console=Console(stderr=True)) as progress:
        for number, jobs in enumerate(stages(part), start=1):
            list(_done(progress, f"training, stage {number}", [pool.submit(prepare, job) for job in jobs]))
        compared = [pool.submit(_compared, place, part) for place in range(len(pairs(part)))]
        outcomes = tuple(sorted(_done(progress, "comparing", compared), key=lambda item: item.place))
        blocks = [pool.submit(null_counts, *models) for models in combinations(_models(part), 2)]
        return outcomes, np.sum([*_done(progress, "null of T1", blocks)], axis=0)


def _done(progress: Progress, name: str, futures: list[Future[T]]) -> Iterator[T]:
    task = progress.add_task(name, total=len(futures))
    for future in as_completed(futures):
        yield future.result()
        progress.advance(task)


def _models(part: str) -> list[Recipe]:
    return list(dict.fromkeys(recipe for pair in pairs(part) if pair.group == "unrelated" for recipe in pair.models))


def _compared(place: int, part: str) -> Outcome:
    return outcome(place, pairs(part)[place], part)


def _quiet() -> None:
    """The libraries' advice about loading and saving is not about these models."""
    from transformers.utils import logging

    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
