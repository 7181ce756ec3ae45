"""A check run on the commit under audit, for where the job's own check does not say there what came out.

Each run creates its own: GitHub shows the newest of a name, so that one that is written twice, because an answer got lost, does no harm.
Annotations are taken fifty at a time, and added to the check that stands there already.
Source: "Create a check run" and "Update a check run" of GitHub's documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from modelguard.github.api import Api, Json, Meaning, Refused
from modelguard.types.findings import Verdict

NAME = "modelguard verdict"
MAX_TEXT = 65_535  # of a summary; GitHub says characters, and a column that long holds bytes
AT_ONCE = 50  # annotations a request
MAX_NOTES = 100
MAX_TITLE, MAX_MESSAGE = 200, 4_000
MESSAGES = {
    Meaning.PERMISSION: "give the job `permissions: checks: write`; on pull requests from forks the token may only read",
    Meaning.NOT_FOUND: "the token cannot see the repository's checks: give the job `permissions: checks: write`",
    Meaning.INVALID: "GitHub does not take a check on this commit: it must be one of the repository's or of a pull request to it",
}


class Conclusion(StrEnum):
    """What a check comes to: a neutral one stops nothing, and does not look like a pass."""

    SUCCESS = "success"
    NEUTRAL = "neutral"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One annotation on a file."""

    path: str
    title: str
    message: str
    blocks: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRun:
    """What a check says, and on which commit. `summary` is Markdown, cut at `MAX_TEXT` bytes."""

    head: str
    conclusion: Conclusion
    title: str
    summary: str
    identity: str = "default"
    details_url: str = ""
    notes: tuple[Note, ...] = ()

    @property
    def name(self) -> str:
        return NAME if self.identity == "default" else f"{NAME} ({self.identity})"


def conclude(verdict: Verdict, *, fails: bool) -> Conclusion:
    """What the check comes to: it fails where the step does; what the step lets through without a pass is neutral."""
    if fails:
        return Conclusion.FAILURE
    return Conclusion.SUCCESS if verdict is Verdict.CONSISTENT else Conclusion.NEUTRAL


def post(api: Api, check: CheckRun) -> str:
    """Writes the check; its address. Where GitHub refuses the annotations it stands without them. Raises Refused."""
    api.begin(f"the check on {check.head[:12]} was not written", MESSAGES)
    notes = check.notes[:MAX_NOTES]
    try:
        made = _create(api, check, notes[:AT_ONCE])
    except Refused as refused:
        if refused.meaning is not Meaning.INVALID or not notes:
            raise
        notes, made = (), _create(api, check, ())
    for start in range(AT_ONCE, len(notes), AT_ONCE):
        api.update(f"/check-runs/{made.get('id')}", {"output": _output(check, notes[start : start + AT_ONCE])})
    return str(made.get("html_url") or "")


def within(text: str) -> str:
    """The text, or those of its first whole lines that fit: the last resort behind the renderer's own limit."""
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_TEXT:
        return data.decode("utf-8")
    return data[: MAX_TEXT - 100].rpartition(b"\n")[0].decode("utf-8", "ignore") + "\n\n(The rest is in the report.)"


def _create(api: Api, check: CheckRun, notes: tuple[Note, ...]) -> Json:
    body = {
        "name": check.name,
        "head_sha": check.head,
        "external_id": check.identity,
        "status": "completed",
        "conclusion": check.conclusion.value,
        "output": _output(check, notes),
    }
    return api.create("/check-runs", body | ({"details_url": check.details_url} if check.details_url else {}), again=True)


def _output(check: CheckRun, notes: tuple[Note, ...]) -> Json:
    output: dict[str, object] = {"title": check.title[:MAX_TITLE], "summary": within(check.summary)}
    return output | ({"annotations": [_annotation(note) for note in notes]} if notes else {})


def _annotation(note: Note) -> Json:
    """Weights have no lines: what is said of them stands on the first."""
    return {
        "path": note.path,
        "start_line": 1,
        "end_line": 1,
        "annotation_level": "failure" if note.blocks else "warning",
        "title": note.title[:MAX_TITLE],
        "message": note.message[:MAX_MESSAGE],
    }
