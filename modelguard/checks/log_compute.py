"""More computing than the GPUs that the logs name can do.

The floating point operations that a log states (or six for each parameter and token), over the time that it took, are held against the
peak of the devices that machine logs or W&B name, in the fastest number format that they have. Only more than the peak is found: less
proves nothing. Counts of operations include experts that were not used and padding, and other machines may have no log here, so it is
of low severity unless the log states the rate of one GPU itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from modelguard.types.findings import Claim, Level, Missing, Numbers, found, not_applicable, ok
from modelguard.types.logs import Gpu, Run, Standing, TrainingLog
from modelguard.types.weights import CheckpointFacts

RATES = ("throughput per GPU (TFLOP/s/GPU)", "tflops")  # that a program states for one GPU: Megatron-LM, torchtitan
STATE = "hf-trainer"
TERA = 1e12
MIN_SECONDS = 60.0
SETTLE = "the scheduler's record of all machines, and the model's size and numbers of tokens"


def check(log: TrainingLog, checkpoint: CheckpointFacts | Missing) -> Iterator[Claim]:
    """No stated rate of computing lies above the peak of the GPUs."""
    gpus = [device for usage in log.usage for device in usage.gpus]
    if not gpus or not log.judged:
        yield not_applicable("no log names the GPUs that trained" if log.judged else "no training record in any log")
        return
    unnamed = next((device for device in gpus if device.peak is None), None)
    if unnamed is not None:
        yield not_applicable(f"what {unnamed.model or 'an unnamed GPU'} can compute is not known here")
        return
    parameters = 0 if isinstance(checkpoint, Missing) else checkpoint.parameters
    claims = [claim for run in log.judged for claim in (*_stated(run, gpus), *_computed(run, log, gpus, parameters))]
    yield from claims or (not_applicable("no log states both its operations and its time"),)


def _stated(run: Run, gpus: Sequence[Gpu]) -> Iterator[Claim]:
    """The rate of one GPU as the log itself states it."""
    rates = [(entry.values[name], entry.step) for entry in run.training for name in RATES if name in entry.values]
    rates = [(rate, step) for rate, step in rates if math.isfinite(rate)]
    if not rates:
        return
    rate, step = max(rates)
    peak = max(device.peak or 0.0 for device in gpus)
    numbers: Numbers = {"tflops": rate, "peak_tflops": peak / TERA, "share": rate * TERA / peak, "step": step}
    if rate * TERA <= peak:
        yield ok(f"no step states more than {rate:.4g} TFLOP/s of one GPU, {gpus[0].model} can do {peak / TERA:.4g}", numbers=numbers)
        return
    text = f"step {step} states {rate:.4g} TFLOP/s of one GPU, {gpus[0].model} can do at most {peak / TERA:.4g}"
    yield found(text, severity=Level.MEDIUM, confidence=Level.MEDIUM, numbers=numbers, where=run.source, settle=SETTLE)


def _computed(run: Run, log: TrainingLog, gpus: Sequence[Gpu], parameters: int) -> Iterator[Claim]:
    """Operations over time, against the peak of all GPUs that are named."""
    operations, seconds = _operations(run, parameters), _seconds_per_step(run)
    if not operations or not seconds or not math.isfinite(operations / seconds):
        return
    jobs = max((job.gpus or 0 for usage in log.usage for job in usage.allocations), default=0)
    count = max(len({device.device for device in gpus}), jobs)
    peak = count * max(device.peak or 0.0 for device in gpus)
    share = operations / seconds / peak
    numbers: Numbers = {"flops_per_step": operations, "seconds_per_step": seconds, "gpus": count, "share_of_peak": share}
    if share <= 1:
        yield ok(f"{run.source}: {share:.2g} of what {count} {gpus[0].model} can compute at most", numbers=numbers, where=run.source)
        return
    text = f"the log states {share:.3g} times as many operations as {count} {gpus[0].model} can compute in its time"
    sure = Level.MEDIUM if jobs else Level.LOW
    yield found(text, severity=Level.LOW, confidence=sure, numbers=numbers, where=run.source, settle=SETTLE)


def _operations(run: Run, parameters: int) -> float:
    """Floating point operations of one step: as the log states their total, else six for each parameter and token; 0 where unknown."""
    stated = [value for entry in run.records for name, value in entry.values.items() if name.rpartition("/")[2] == "total_flos"]
    total = max((value for value in (*stated, run.claimed.get("total_flos", 0.0)) if 0 < value < 1e40), default=0.0)
    tokens = run.claimed.get("num_input_tokens_seen", 0.0)
    return (total or 6.0 * parameters * max(tokens, 0.0)) / run.length


def _seconds_per_step(run: Run) -> float:
    """Of the longest stretch of one process whose records name times; else of a run that sums itself up and was not resumed; 0 without."""
    spans: list[tuple[float, int]] = []
    for _, part in groupby(run.training, key=lambda entry: entry.session):
        timed = [(entry.step, entry.time) for entry in part if entry.time is not None and abs(entry.time) < 1e12]
        if len(timed) > 1 and timed[-1][0] > timed[0][0]:
            spans.append((timed[-1][1] - timed[0][1], timed[-1][0] - timed[0][0]))
    seconds, steps = max(spans, default=(0.0, 1))
    if seconds >= MIN_SECONDS:
        return seconds / steps
    whole = any(
        item.name == "train-loss" and item.standing is Standing.HOLDS and "resumed_at" not in item.numbers for item in run.identities
    )
    runtime = [entry.values["train_runtime"] for entry in run.records if entry.kind == "summary" and "train_runtime" in entry.values]
    return runtime[-1] / run.length if whole and run.format == STATE and runtime and runtime[-1] >= MIN_SECONDS else 0.0
