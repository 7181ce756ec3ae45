"""Headline scores held against the samples that they summarise: means, errors, counts and hashes, computed again.

What can be forged without a trace stays possible: nothing in a samples file is signed, and somebody who writes questions, answers and
hashes anew is not seen here. What follows from the samples is internally consistent, never authentic.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum, isclose, sqrt

from modelguard.evals.harness import Group, Results, Samples, accuracies
from modelguard.types.evals import Score
from modelguard.types.findings import Numbers
from modelguard.types.logs import Identity, Standing

RULE = "evals-scores"
RELATIVE = 1e-6  # float noise of another order of summation


def relations(samples: Samples, results: Results | None) -> Iterator[Identity]:
    """Every relation that one samples file should have, with what became of it."""
    for filtered, group in sorted(samples.groups.items()):
        yield from _items(samples, filtered, group)
        if results is not None:
            yield from _headlines(samples, filtered, group, results)
    yield _rehashed(samples)
    if results is None:
        yield _open("no-results", f"{samples.source}: no results file of the same run, so its scores are not held against anything")
    else:
        yield from _counts(samples, results)


def _items(samples: Samples, filtered: str, group: Group) -> Iterator[Identity]:
    """Each question's metric against the response that stands beside it."""
    where, total = _where(samples, filtered), len(group.answers)
    for metric in accuracies(group):
        own, differing = group.own.get(metric, 0), group.differing.get(metric, 0)
        numbers = {"questions": total, "recomputed": own, "differing": differing}
        if not own:
            yield _open(f"items-{metric}", f"{where}: {metric} cannot be computed again from what stands in the file", numbers)
        elif differing:
            text = f"{where}: {metric} of {differing} of {own} questions is not what the logged response gives"
            yield _broken("items", text, numbers)
        else:
            yield _holds("items", f"{where}: {metric} of {own} of {total} questions follows from the logged responses", numbers)
    if group.unpicked:
        text = f"{where}: {group.unpicked} of {group.judged} filtered responses stand nowhere in the raw response"
        yield _broken("filtered", text, {"filtered": group.judged, "differing": group.unpicked})
    if group.repeated:
        numbers = {"repeated": group.repeated, "questions": total}
        yield _open("repeated", f"{where}: {group.repeated} of {total} rows repeat a question (some data sets hold it twice)", numbers)


def _headlines(samples: Samples, filtered: str, group: Group, results: Results) -> Iterator[Identity]:
    """The mean over questions, and its standard error, against the results file."""
    where = _where(samples, filtered)
    scores = {score.metric: score for score in results.scores if score.task == samples.task and score.filter in (filtered, "")}
    for metric in accuracies(group):
        if metric not in scores:
            yield _open("absent", f"{results.source} gives no {metric} of {samples.task}, though the samples do")
            continue
        yield from _headline(where, scores[metric], group.scores[metric])


def _headline(where: str, score: Score, values: list[float]) -> Iterator[Identity]:
    mean = fsum(values) / len(values)
    numbers = {"claimed": score.value, "recomputed": round(mean, 9), "questions": len(values)}
    if not _equal(score.value, mean):
        text = f"{score.name} is {score.value:.6g} in {score.source}, but its {len(values)} samples give {mean:.6g}"
        yield _broken("mean", text, numbers)
        return
    yield _holds("mean", f"{score.name} of {score.value:.6g} follows from {len(values)} samples", numbers)
    if score.stderr is None or len(values) < 2:
        return
    error = sqrt(fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    if not _equal(score.stderr, error):
        text = f"{where}: the standard error is {score.stderr:.6g} in {score.source}, but the samples give {error:.6g}"
        yield _broken("stderr", text, {"claimed": score.stderr, "recomputed": round(error, 9), "questions": len(values)})


def _counts(samples: Samples, results: Results) -> Iterator[Identity]:
    """How many questions were asked, and the hash over all of them."""
    if (pair := results.counts.get(samples.task)) is not None:
        there, asked = pair
        few = min(len(group.answers) for group in samples.groups.values())
        many = max(len(group.answers) for group in samples.groups.values())
        numbers = {"asked": asked, "there": there, "samples": few}
        if (few, many) != (asked, asked):
            yield _broken("count", f"{samples.source}: {few} questions, but {results.source} says that {asked} were asked", numbers)
        elif asked < there:
            reason = "as the run's limit says" if results.limited else "and no limit is stated"
            yield _open("limited", f"{samples.task}: {asked} of {there} questions were asked, {reason}", numbers)
    if (told := results.hashes.get(samples.task)) is not None:
        if told == samples.task_hash:
            yield _holds("task-hash", f"{samples.task}: the hash over all questions is that of the results file", {"rows": samples.rows})
        else:
            text = f"{samples.source}: the hash over its questions, prompts and targets is not that of {results.source}"
            yield _broken("task-hash", text, {"rows": samples.rows})


def _rehashed(samples: Samples) -> Identity:
    good = sum(group.rehashed for group in samples.groups.values())
    numbers = {"rows": samples.rows, "following": good}
    if good == samples.rows:
        return _holds("hashes", f"{samples.source}: the hashes of all {good} rows are those of what stands in them", numbers)
    text = f"{samples.source}: the hashes of {samples.rows - good} of {samples.rows} rows are not those of the question, prompt or target"
    if not good:  # another version of the harness, or another harness, may hash otherwise
        return _open("hashes", f"{text}: written by a version that hashes otherwise, or edited", numbers)
    return _broken("hashes", text, numbers)


def _equal(claimed: float, own: float) -> bool:
    return isclose(claimed, own, rel_tol=RELATIVE, abs_tol=1e-9)


def _where(samples: Samples, filtered: str) -> str:
    return samples.task if filtered == "none" else f"{samples.task} ({filtered})"


def _holds(name: str, text: str, numbers: Numbers) -> Identity:
    return Identity(rule=RULE, name=name, standing=Standing.HOLDS, text=text, numbers=numbers)


def _broken(name: str, text: str, numbers: Numbers) -> Identity:
    return Identity(rule=RULE, name=name, standing=Standing.BROKEN, text=text, numbers=numbers)


def _open(name: str, text: str, numbers: Numbers | None = None) -> Identity:
    return Identity(rule=RULE, name=name, standing=Standing.OPEN, text=text, numbers=numbers or {})
