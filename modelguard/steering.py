"""What a change does to the files that steer how changes are judged: it is said, and has no effect on the change's own judgement."""

from __future__ import annotations

import glob
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from modelguard.policy import FILE_NAME, ModelEntry, Policy
from modelguard.types.changes import ChangedFile, ModelChange

STEERING = re.compile(
    r"\.github/workflows/.+|\.github/actions/.+|(\.github/|docs/)?CODEOWNERS|\.pre-commit-config\.yaml|\.gitmodules", re.IGNORECASE
)
EVERYWHERE = (".lfsconfig", ".gitattributes")
SHOWN = 10


def steering_notes(files: Iterable[ChangedFile], config: str, registry: str | None) -> tuple[str, ...]:
    """One line for each changed file that would steer the judgement: policy, registry, workflow, Git's attributes, Git LFS."""
    return tuple(note for file in files for note in _notes(file.path, config, registry))[:SHOWN]


def _notes(path: str, config: str, registry: str | None) -> Iterator[str]:
    name = posixpath.basename(path).casefold()
    if path in (config, registry):
        yield f"this change edits {path}: it was judged under the base version"
    elif name in (FILE_NAME.casefold(), ".modelguard.yaml", ".modelguard.json"):
        yield f"this change edits {path}, which is read by nobody: the policy is {config}"
    elif name in EVERYWHERE:
        yield f"this change edits {path}: it had no say here, Git's objects were read as they are stored"
    elif STEERING.fullmatch(path):
        yield f"this change edits {path}: look at it yourself; only a required workflow of the organisation runs whatever it says"


def follow_moves(rules: Policy, removed: Sequence[str], models: Iterable[ModelChange]) -> tuple[Policy, tuple[str, ...]]:
    """(policy, notes) in which a model that the change moves out of reach of its pinned base is held to it in its new place.

    A new model that no entry pins, in a change that removes weights whose entry pins a base, may be those weights under another path.
    Where several are removed, one of the same file name counts, else the first.
    """
    pinned = [path for path in removed if rules.base_of(path)]
    loose = [model for model in models if model.before_entry is None and not rules.base_of(model.entry)]
    if not pinned or not loose:
        return rules, ()
    entries, notes = [], []
    for model in loose:
        old = min(pinned, key=lambda path: (posixpath.basename(path) != posixpath.basename(model.entry), path))
        entries.append(ModelEntry(path=glob.escape(model.entry), base=rules.base_of(old)))
        notes.append(f"{model.entry}: held to the base that policy pins for {old}, which this change removes")
    document = msgspec.structs.replace(rules.document, models=(*entries, *rules.document.models))
    return msgspec.structs.replace(rules, document=document), tuple(notes)
