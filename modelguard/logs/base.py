"""Everything beside a model that tells of its training becomes one TrainingLog: each file by the one reader that claims it.

What a reader's module gives is told in `readers`. A file of several runs gives a tuple of runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from modelguard.attempt import attempt
from modelguard.errors import Malformed
from modelguard.logs.continuity import describe
from modelguard.logs.identities import examined
from modelguard.logs.joining import join, share_claims, without_beginnings
from modelguard.logs.names import Likelihood, likelihood, looks_like_log, must_be_log
from modelguard.logs.readers import Reader, all_readers
from modelguard.logs.sources import Loader, Opened, Source, opened
from modelguard.logs.usage import claims_usage, read_usage
from modelguard.types.findings import Missing
from modelguard.types.logs import Run, TrainingLog, Usage

__all__ = ["Loader", "Source", "assemble", "looks_like_log", "must_be_log", "read_log", "read_runs"]

HEAD_BYTES = 1 << 19  # some trainers print their own source code before their first step
MAX_BYTES = 64 << 20  # of a file that its reader takes whole
MAX_FILES = 10_000
MAX_MAYBE = 256  # files that only may be logs (a `.txt`, a `.db`)
MAX_WASTE = 256 << 20  # bytes of such files that turn out to be none
_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class _Reading:
    """What came of one file: its runs, None where no reader claims it, and how many bytes were read to learn that it tells nothing."""

    runs: tuple[Run, ...] | None
    usage: tuple[Usage, ...] = ()
    wasted: int = 0


@dataclass(slots=True)
class _Found:
    """What the files say, while they are read."""

    runs: list[Run] = field(default_factory=list)
    usage: list[Usage] = field(default_factory=list)
    broken: dict[str, Missing] = field(default_factory=dict)  # logs, or files that should be, that cannot be read
    lost: dict[str, Missing] = field(default_factory=dict)  # files that only may be logs and could not be had
    skipped: list[str] = field(default_factory=list)


def read_log(name: str, data: bytes) -> Run | None:
    """The run that a file tells of (the first, where it tells of several), without continuity; None when no reader claims it."""
    return next(iter(read_runs(name, data) or ()), None)


def read_runs(name: str, source: Source) -> tuple[Run, ...] | None:
    """The runs that a file tells of, without continuity; None when no reader claims the file. Raises Malformed."""
    return _read(name, opened(source)).runs


def assemble(files: Mapping[str, Source], *, committed: float | None = None) -> TrainingLog | Missing:
    """Everything that these files tell of training, or why there is nothing.

    A file that must be a log and cannot be read makes the whole evidence broken; another log that cannot be read is listed
    as unread. Files of one run are joined, and a state that is the beginning of a longer one is counted once. `committed` is when the
    commit was made that holds the files (unix seconds), where there is one.
    """
    found = _Found()
    _read_all(files, found)
    fatal = next((missing for name, missing in sorted(found.broken.items()) if must_be_log(name) or not found.runs), None)
    if fatal is not None:
        return fatal
    unread = (*(missing.why for _, missing in sorted((found.broken | found.lost).items())), *_unopened(found.skipped))
    if not found.runs:
        why = "; ".join(("no training log was found", *unread[:1]))
        return Missing(why, advice="commit the trainer's log beside the weights, such as trainer_state.json")
    described = attempt(lambda: _described(tuple(found.runs), committed), what="the continuity of the training log")
    if isinstance(described, Missing):
        return described
    return TrainingLog(runs=described, unread=unread, usage=tuple(sorted(found.usage, key=lambda usage: usage.source)))


def _described(runs: tuple[Run, ...], committed: float | None) -> tuple[Run, ...]:
    return examined(without_beginnings(tuple(describe(run) for run in share_claims(join(runs)))), committed)


def _read_all(files: Mapping[str, Source], found: _Found) -> None:
    """Reads the likeliest first, until the limits on files that only may be logs leave the rest out."""
    waste, maybe = 0, 0
    for place, name in enumerate(sorted(files, key=lambda name: (-_promise(name), name))):
        doubtful = likelihood(name) is Likelihood.MAYBE
        if place >= MAX_FILES or (doubtful and (maybe >= MAX_MAYBE or waste > MAX_WASTE)):
            found.skipped.append(name)
            continue
        maybe += doubtful
        waste += _read_one(name, files[name], found) * doubtful


def _read_one(name: str, source: Source, found: _Found) -> int:
    """Adds what one file says; gives the bytes that were read of a file that is no log. Refusals are reasons, never a crash."""
    file = attempt(lambda: opened(source), what=f"opening {name}")
    if isinstance(file, Missing):
        (found.lost if likelihood(name) is Likelihood.MAYBE else found.broken)[name] = file
        return 0
    reading = attempt(lambda: _read(name, file), what=f"reading {name}")
    if isinstance(reading, Missing):
        found.broken[name] = reading
        return 0
    found.runs += reading.runs or ()
    found.usage += reading.usage
    return reading.wasted


def _promise(name: str) -> Likelihood:
    """The likelihood of a name; a file that somebody named although its name promises nothing is taken at their word."""
    return likelihood(name) or Likelihood.LIKELY


def _read(name: str, source: Opened) -> _Reading:
    head = source.head(HEAD_BYTES)
    if head.startswith(_POINTER) and must_be_log(name):
        raise Malformed(f"{name}: a Git LFS pointer, not the log", advice="fetch the file with `git lfs pull`")
    claimants = _claimants(name, head)
    formats = (*(reader.format for reader in claimants), *(("the log of a machine",) if claims_usage(name, head) else ()))
    if len(formats) > 1:
        raise Malformed(f"{name}: looks like {' and '.join(formats)} at once", advice="give the file the name that its format has")
    if claimants:
        runs = _runs(claimants[0], name, source)
        return _Reading(runs, wasted=0 if runs else source.size)
    if formats:
        return _Reading((), usage=_usage(name, source))
    return _Reading(None, wasted=source.size if source.loaded else len(head))


def _usage(name: str, source: Opened) -> tuple[Usage, ...]:
    if source.size > MAX_BYTES:
        raise _too_long(name, source.size)
    usage = read_usage(name, source.file.read())
    return () if usage is None else (usage,)


def _claimants(name: str, head: bytes) -> tuple[Reader, ...]:
    """The readers that claim a file. What a binary format's mark settles is not text, whatever console output it carries along."""
    marked = tuple(reader for reader in all_readers() if reader.binary and reader.sniff("", head))
    return marked or tuple(reader for reader in all_readers() if reader.sniff(name, head))


def _runs(reader: Reader, name: str, source: Opened) -> tuple[Run, ...]:
    """What the one reader that claims a file says: of a large one as a stream, where it can."""
    if source.size <= MAX_BYTES:
        found = reader.read(name, source.file.read())
    elif reader.stream is not None:
        found = reader.stream(name, source.file)
    else:
        raise _too_long(name, source.size)
    return found if isinstance(found, tuple) else (found,)


def _too_long(name: str, size: int) -> Malformed:
    return Malformed(f"{name}: {size} bytes, more than the {MAX_BYTES} that are read of a log", advice="commit a shorter log")


def _unopened(names: list[str]) -> Iterator[str]:
    if names:
        yield f"{names[0]} and {len(names) - 1} more files that may be logs were not opened: there are too many"
