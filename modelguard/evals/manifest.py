"""A manifest of a benchmark: which questions with which right answers it has, and what is claimed of the scores on them.

Logs show whether scores follow from samples, and cannot show that samples are missing, or were given other right answers with every
hash made anew: that takes a list from elsewhere. An item is the first 8 bytes of SHA-256 over the first halves of two hashes in hex,
that of the question and that of its answer as lm-evaluation-harness computes them (`doc_hash`, `target_hash`); no word stands in it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import msgspec

from modelguard.documents import json_object
from modelguard.errors import Malformed
from modelguard.evals.claims import stated
from modelguard.types.evals import Answer, Answers, EvalLogs
from modelguard.types.logs import Identity, Standing

SCHEMA = "modelguard.eval-manifest/1"
RULE = "evals-coverage"
MAX_TASKS = 5_000
MAX_ITEMS = 2_000_000  # of all tasks together
DIGITS = 16
ADVICE = "make one from logs that you trust: modelguard evals LOGS --write-manifest FILE"


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One task: its items in any order, or only how many there are; `claims` are scores by metric."""

    n: int
    items: tuple[str, ...] = ()
    claims: dict[str, float | str] = {}


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A benchmark's tasks by name; where they are from is said for people, and is not checked."""

    schema: str
    tasks: dict[str, Task]
    benchmark: str = ""
    dataset: str = ""
    revision: str = ""
    split: str = ""
    harness: str = ""


def read_manifest(data: bytes, name: str) -> Manifest:
    """The manifest in a file. Raises Malformed for anything that it does not understand: nothing in it is skipped."""
    try:
        manifest = msgspec.convert(json_object(data, name), Manifest, strict=True)
    except msgspec.ValidationError as error:
        raise Malformed(f"{name}: no manifest of a benchmark ({str(error)[:200]})", advice=ADVICE) from error
    if manifest.schema != SCHEMA:
        raise Malformed(f"{name}: its schema is {manifest.schema[:60]!a}, not {SCHEMA}", advice=ADVICE)
    if not manifest.tasks or len(manifest.tasks) > MAX_TASKS or sum(len(task.items) for task in manifest.tasks.values()) > MAX_ITEMS:
        raise Malformed(f"{name}: no tasks, more than {MAX_TASKS}, or more than {MAX_ITEMS} items")
    for called, task in manifest.tasks.items():
        if task.n < 1 or (task.items and len(task.items) != task.n) or any(not _is_item(item) for item in task.items):
            raise Malformed(f"{name}: task {called[:80]!a}: not n items of {DIGITS} lower-case hex digits", advice=ADVICE)
    return manifest


def manifest_of(logs: EvalLogs) -> dict[str, object]:
    """The manifest of the questions that these logs hold; who makes it answers for them."""
    tasks: dict[str, object] = {}
    for group in logs.answers:
        items = sorted(map(_item, group.answers))
        tasks.setdefault(group.task, {"n": len(items), "items": items})
    return {"schema": SCHEMA, "tasks": tasks}


def held_against(manifest: Manifest, name: str, logs: EvalLogs) -> Iterator[Identity]:
    """Whether the logs hold the manifest's questions and no others, and whether its claims agree with the logged scores."""
    for called, task in sorted(manifest.tasks.items()):
        groups = [group for group in logs.answers if group.task == called]
        yield from (_covered(called, task, name, group) for group in groups)
        if not groups:
            yield _absent(called, task, name, logs)
        yield from (stated(called, metric, value, f"{name} (claims)", logs.scores) for metric, value in sorted(task.claims.items()))


def _covered(called: str, task: Task, name: str, group: Answers) -> Identity:
    told = f"{group.source}: {called[:80]}"
    asked = Counter(map(_item, group.answers))
    if not task.items:
        numbers = {"questions": len(group.answers), "manifest": task.n}
        standing = Standing.HOLDS if len(group.answers) == task.n else Standing.BROKEN
        return _identity(standing, f"{told} has {len(group.answers)} questions, {name} {task.n}", numbers)
    listed = Counter(task.items)
    missing, others = (listed - asked).total(), (asked - listed).total()
    numbers = {"manifest": task.n, "missing": missing, "others": others, "questions": len(group.answers)}
    if not missing and not others:
        return _identity(Standing.HOLDS, f"{told} has the {task.n} questions of {name} with their right answers, and no others", numbers)
    if missing == task.n:
        why = "none of its questions is in it, as after another version of the dataset or of the harness"
        return _identity(Standing.OPEN, f"{told} cannot be held against {name}: {why}", numbers)
    text = f"{told}: {missing} of the {task.n} questions of {name} are missing, or have another right answer, and {others} are not in it"
    return _identity(Standing.BROKEN, text, numbers)


def _absent(called: str, task: Task, name: str, logs: EvalLogs) -> Identity:
    """A task of which there are no samples: left out, or given as a score alone."""
    if any(score.task == called for score in logs.scores):
        text = f"{called[:80]}: there is a score and no samples file, so that which questions were asked is not shown"
        return _identity(Standing.OPEN, text, {"manifest": task.n})
    return _identity(Standing.BROKEN, f"{called[:80]}: {name} lists {task.n} questions, of which the logs hold none", {"manifest": task.n})


def _identity(standing: Standing, text: str, numbers: dict[str, int]) -> Identity:
    return Identity(rule=RULE, name="coverage", standing=standing, text=text, numbers=dict(numbers))


def _item(answer: Answer) -> str:
    return hashlib.sha256(f"{answer.doc}{answer.target}".encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def _is_item(text: str) -> bool:
    return len(text) == DIGITS and set(text) <= set("0123456789abcdef")
