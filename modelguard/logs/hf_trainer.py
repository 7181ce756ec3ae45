"""The state that the Hugging Face Trainer (and TRL, axolotl, LLaMA-Factory, unsloth) writes: `trainer_state.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelguard.errors import Malformed
from modelguard.logs.jsontext import decode, loads
from modelguard.logs.rows import number, numbers, record, whole
from modelguard.types.logs import Identity, LogRecord, Run, Standing

FORMAT = "hf-trainer"
FILE_NAME = "trainer_state.json"
CLAIMED = (
    "global_step",
    "max_steps",
    "logging_steps",
    "eval_steps",
    "save_steps",
    "num_train_epochs",
    "train_batch_size",
    "epoch",
    "total_flos",
    "num_input_tokens_seen",
)


def sniff(name: str, head: bytes) -> bool:
    """A JSON object with a `log_history`; the name alone claims the file too, so that a damaged state is not overlooked."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return (start.startswith(b"{") and b'"log_history"' in head) or name.rpartition("/")[2] == FILE_NAME


def read(name: str, data: bytes) -> Run:
    """The run that a trainer state tells of. Raises Malformed."""
    state = loads(decode(data, name), name)
    if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
        raise Malformed(f"{name}: no trainer state (it has no list `log_history`)", advice="commit the file as the trainer wrote it")
    history = state["log_history"]
    records = tuple(_record(name, row, position) for position, row in enumerate(history, start=1))
    kept = tuple(entry for entry in records if entry is not None)
    left = len(records) - len(kept)
    notes = (f"{left} of {len(records)} rows hold no number and are passed over",) if left else ()
    return Run(source=name, format=FORMAT, records=kept, claimed=_claimed(name, state), notes=notes, identities=_layout(state, data))


def _record(name: str, row: object, position: int) -> LogRecord | None:
    """One row of the history. The Trainer writes a whole step into every row, so anything else is damage."""
    if not isinstance(row, dict):
        raise Malformed(f"{name}: row {position} of log_history is no object", advice="commit the file as the trainer wrote it")
    entry = record(row, "step", position)
    if entry is None and numbers(row).keys() - {"epoch", "step"}:
        raise Malformed(f"{name}: row {position} of log_history has no whole step", advice="commit the file as the trainer wrote it")
    return entry


def _claimed(name: str, state: Mapping[str, Any]) -> dict[str, float]:
    """What the state says about the run as a whole. A count that is no number is damage, not silence."""
    step = number(state.get("global_step"))
    if "global_step" in state and whole(step) is None:
        raise Malformed(f"{name}: global_step is no count of steps", advice="commit the file as the trainer wrote it")
    pairs = ((key, number(state.get(key))) for key in CLAIMED)
    return {key: value for key, value in pairs if value is not None and abs(value) < float("inf")}


def _layout(state: Mapping[str, Any], data: bytes) -> tuple[Identity, ...]:
    """Whether the file is laid out as `TrainerState.save_to_json` does it: sorted keys, an indentation of 2, any line ends."""
    objects = (state, *state["log_history"])
    ordered = all(keys == sorted(keys) for keys in (list(entry) for entry in objects))
    indented = data[:16].removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"").startswith(b'{\n  "')
    if ordered and indented:
        return ()
    what = " and ".join(part for part, wrong in (("order of keys", not ordered), ("indentation", not indented)) if wrong)
    text = f"the {what} is not the Trainer's: another program wrote the file since"
    return (Identity(rule="log-number-format", name="layout", standing=Standing.BROKEN, text=text),)
