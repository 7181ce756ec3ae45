"""A policy tried on repositories, as Markdown or as the document `modelguard.org-policy/1`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelguard.render.markdown import WORDS
from modelguard.render.text import markdown, prose
from modelguard.types.findings import Verdict
from modelguard.types.sweep import LeftOut, Tried, TriedModel

SCHEMA = "modelguard.org-policy/1"
HEADER = ("repository", "model", "today", "proposed", "rules that differ")


def document(rows: Sequence[Tried], left_out: Sequence[LeftOut], policy: str) -> dict[str, object]:
    """The trial for machines."""
    return {
        "schema": SCHEMA,
        "policy": policy,
        "repositories": [_row(row) for row in rows],
        "left_out": [{"repository": item.repository, "why": item.why} for item in left_out],
    }


def as_markdown(rows: Sequence[Tried], left_out: Sequence[LeftOut]) -> str:
    """What would change: a table of models whose verdict or rules do, then each repository's settings."""
    return "\n".join((*_models(rows), *_settings(rows), *_left_out(left_out))).rstrip() + "\n"


def _row(row: Tried) -> dict[str, object]:
    answered = {"repository": row.repository, "answer": row.answer, "digest": row.digest, "details": list(row.details)}
    return {**answered, "models": [_model(model) for model in row.models], "why": row.why}


def _model(model: TriedModel) -> dict[str, object]:
    rules = [{"rule": move.rule, "before": move.before, "after": move.after} for move in model.moves]
    verdict = {"before": model.before.value, "after": model.after.value}
    return {"subject": model.subject, "verdict": verdict, "rules": rules, "collected": model.collected}


def _models(rows: Sequence[Tried]) -> Iterator[str]:
    models = [(row, model) for row in rows for model in row.models]
    if not models:
        return
    moved = [(row, model) for row, model in models if model.moves or model.before is not model.after]
    verdicts = sum(model.before is not model.after for _, model in models)
    yield f"### modelguard: {_count(verdicts, 'verdict')} of {len(models)} would change"
    yield ""
    if moved:
        yield f"| {' | '.join(HEADER)} |"
        yield f"|{' --- |' * len(HEADER)}"
    for row, model in moved:
        rules = "; ".join(f"{markdown(move.rule)} {move.before} → {move.after}" for move in model.moves)
        yield f"| {markdown(row.repository)} | {markdown(model.subject)} | {_word(model.before)} | {_changed(model)} | {rules} |"
    if len(moved) < len(models):
        yield f"\n{_count(len(models) - len(moved), 'model')} would be judged as today, by the same rules."
    if twice := sum(model.collected > 1 for _, model in models):
        yield f"\nFor {_count(twice, 'model')} the two policies ask for different evidence, which was collected for each."
    yield ""


def _settings(rows: Sequence[Tried]) -> Iterator[str]:
    for row in rows:
        yield f"{markdown(row.repository)}: {row.answer}"
        yield from (f"- {markdown(line, 600)}" for line in row.details)
        if row.why:
            yield f"- its models could not be looked at: {prose(row.why)}"


def _left_out(left_out: Sequence[LeftOut]) -> Iterator[str]:
    yield from (f"{markdown(item.repository)}: {prose(item.why)}" for item in left_out)


def _word(verdict: Verdict) -> str:
    return WORDS[verdict]


def _changed(model: TriedModel) -> str:
    return _word(model.after) if model.before is model.after else f"**{_word(model.after)}**"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
