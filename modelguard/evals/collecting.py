"""Evaluation files of one model become one EvalLogs: scores, answers, and whether the ones follow from the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from modelguard.attempt import attempt
from modelguard.errors import CannotRead, Malformed
from modelguard.evals.harness import MAX_RESULTS, Results, Samples, is_samples, read_results, read_samples, task_of
from modelguard.evals.recomputing import relations
from modelguard.logs.sources import Source, opened
from modelguard.types.evals import Answers, EvalLogs
from modelguard.types.findings import Absence, Missing
from modelguard.types.logs import Identity

MAX_FILES = 2000
MAX_BYTES = 4 << 30  # of all samples files
POINTER = b"version https://git-lfs.github.com/spec/"
ADVICE = "give the results_*.json and samples_*.jsonl of lm-evaluation-harness (--log_samples --output_path)"


@dataclass(slots=True)
class _Found:
    results: list[Results] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)
    broken: list[Missing] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    answers: list[Answers] = field(default_factory=list)


def assemble(files: Mapping[str, Source]) -> EvalLogs | Missing:
    """Everything that these files say of one model, or why there is nothing. A samples file that cannot be read is broken evidence."""
    found = _Found()
    names = sorted(files)
    for name in (name for name in names[:MAX_FILES] if not is_samples(name)):
        _read_results(name, files[name], found)
    spent = 0
    for name in (name for name in names[:MAX_FILES] if is_samples(name)):
        spent += _read_samples(name, files[name], found, MAX_BYTES - spent)
    if len(names) > MAX_FILES:
        found.unread.append(f"{len(names) - MAX_FILES} more files were not opened: more than {MAX_FILES} are not read")
    if found.broken:
        return found.broken[0]
    if not found.results and not found.samples:
        why = "; ".join(("no evaluation log was found", *found.unread[:1]))
        return Missing(why, advice=ADVICE, kind=Absence.ABSENT)
    return EvalLogs(
        scores=tuple(score for results in found.results for score in results.scores),
        answers=tuple(found.answers),
        identities=tuple(_identities(found)),
        model=next((results.model for results in found.results if results.model), ""),
        unread=tuple(found.unread),
    )


def _read_results(name: str, source: Source, found: _Found) -> None:
    def read() -> Results | None:
        file = opened(source)
        if file.size > MAX_RESULTS:
            raise Malformed(f"{name}: {file.size} bytes, more than the {MAX_RESULTS} that are read of a results file")
        data = file.file.read()
        if data.startswith(POINTER):
            raise CannotRead(f"{name}: a Git LFS pointer, not the log", advice="fetch the file with `git lfs pull`")
        return read_results(name, data)

    results = attempt(read, what=f"reading {name}")
    if isinstance(results, Missing):
        found.broken.append(results)
    elif results is None:
        found.unread.append(f"{name}: no results of lm-evaluation-harness")
    else:
        found.results.append(results)


def _read_samples(name: str, source: Source, found: _Found, room: int) -> int:
    """Adds one samples file; gives how many bytes it has."""

    def read() -> tuple[Samples, int]:
        file = opened(source)
        if file.size > room:
            raise Malformed(f"{name}: more than {MAX_BYTES} bytes of samples are not read", advice="name fewer files at once")
        if file.head(len(POINTER)) == POINTER:
            raise CannotRead(f"{name}: a Git LFS pointer, not the log", advice="fetch the file with `git lfs pull`")
        task = task_of(name)[0]
        results = _belonging(name, found.results)
        return read_samples(name, file.file, results.configs.get(task, {}) if results else {}), file.size

    read_one = attempt(read, what=f"reading {name}")
    if isinstance(read_one, Missing):
        found.broken.append(read_one)
        return 0
    samples, size = read_one
    found.samples.append(samples)
    for filtered, group in sorted(samples.groups.items()):
        metric = next(iter(sorted(group.scores)))
        told = Answers(task=samples.task, filter=filtered, metric=metric, answers=tuple(group.answers), source=name)
        found.answers.append(told)
    return size


def _identities(found: _Found) -> Iterator[Identity]:
    for samples in found.samples:
        yield from relations(samples, _belonging(samples.source, found.results))


def _belonging(name: str, results: list[Results]) -> Results | None:
    """The results of the same run: those with the same time stamp in the same folder, else the only ones that know the task."""
    task, stamp = task_of(name)
    folder = name.rpartition("/")[0]
    same = [one for one in results if stamp in one.source and one.source.rpartition("/")[0] == folder]
    knowing = [one for one in results if any(score.task == task for score in one.scores)]
    return same[0] if same else knowing[0] if len(knowing) == 1 else None
