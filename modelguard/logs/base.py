"""The log contract: a reader module has `sniff(name, head)` and `read(name, data)`; everything beside a model becomes one TrainingLog."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import modelguard.logs
from modelguard.attempt import attempt
from modelguard.discover import modules
from modelguard.errors import Malformed
from modelguard.logs.continuity import describe
from modelguard.logs.joining import join, share_claims, without_beginnings
from modelguard.types.findings import Missing
from modelguard.types.logs import Run, TrainingLog

HEAD_BYTES = 1 << 16
MAX_BYTES = 64 << 20
Loader = Callable[[], bytes]

_POINTER = b"version https://git-lfs.github.com/spec/"
_MUST = re.compile(r"(?:^|/)(?:trainer_state\.json|[^/]*\.tfevents\.[^/]+)$")
_LIKELY = re.compile(r"(?:^|/)[^/]*\.(?:jsonl|csv)$", re.IGNORECASE)
_JSON = re.compile(r"(?:^|/)[^/]*(?:log|history|metric|loss|train|progress)[^/]*\.json$", re.IGNORECASE)
_OTHER = re.compile(r"(?:^|/)[^/]*(?:config|token|vocab|merges|index|args|arguments)[^/]*\.json$", re.IGNORECASE)


def looks_like_log(name: str) -> bool:
    """Whether a file of this name is worth opening in search of a training log."""
    return must_be_log(name) or bool(_LIKELY.search(name)) or bool(_JSON.search(name) and not _OTHER.search(name))


def must_be_log(name: str) -> bool:
    """Whether a file of this name is a training log or broken: no other program writes such names."""
    return bool(_MUST.search(name))


def read_log(name: str, data: bytes) -> Run | None:
    """The run that a file tells of, without continuity; None when no reader claims the file. Raises Malformed."""
    if len(data) > MAX_BYTES:
        raise Malformed(f"{name}: {len(data)} bytes, more than the {MAX_BYTES} that are read of a log", advice="commit a shorter log")
    if data.startswith(_POINTER) and must_be_log(name):
        raise Malformed(f"{name}: a Git LFS pointer, not the log", advice="fetch the file with `git lfs pull`")
    claimants = tuple(reader for reader in modules(modelguard.logs, having="sniff") if reader.sniff(name, data[:HEAD_BYTES]))
    if len(claimants) > 1:
        formats = " and ".join(reader.FORMAT for reader in claimants)
        raise Malformed(f"{name}: looks like {formats} at once", advice="give the file the name that its format has")
    run: Run | None = claimants[0].read(name, data) if claimants else None
    return run


def assemble(files: Mapping[str, bytes | Loader]) -> TrainingLog | Missing:
    """Everything that these files tell of training, or why there is nothing.

    A file that must be a log and cannot be read makes the whole evidence broken; another log that cannot be read is listed
    as unread. Runs of event files are joined, and a state that is the beginning of a longer one is counted once.
    """
    outcomes = {name: _read(name, source) for name, source in sorted(files.items())}
    broken = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Missing)}
    runs = tuple(outcome for outcome in outcomes.values() if isinstance(outcome, Run))
    fatal = next((missing for name, missing in broken.items() if must_be_log(name) or not runs), None)
    if fatal is not None:
        return fatal
    if not runs:
        return Missing("no training log was found", advice="commit the trainer's log beside the weights, such as trainer_state.json")
    described = attempt(lambda: _described(runs), what="the continuity of the training log")
    if isinstance(described, Missing):
        return described
    return TrainingLog(runs=described, unread=tuple(missing.why for missing in broken.values()))


def _described(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    return without_beginnings(tuple(describe(run) for run in share_claims(join(runs))))


def _read(name: str, source: bytes | Loader) -> Run | Missing | None:
    """One file; a loader's refusal and a reader's are reasons, never a crash."""
    return attempt(lambda: read_log(name, source if isinstance(source, bytes) else source()), what=f"reading {name}")
