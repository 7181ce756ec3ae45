"""Evidence as data: every value comes back as it went, to the last bit; whatever else comes is refused in one line."""

from __future__ import annotations

import json
import random
from dataclasses import fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.confinement.data import decode, dumps, encode, loads
from modelguard.confinement.wire import as_words, from_words
from modelguard.errors import BadRequest, CannotFetch, CannotRead, Malformed, ModelguardError
from modelguard.types.changes import BaseReference, ModelChange
from modelguard.types.evidence import Evidence
from modelguard.types.findings import Absence, Missing
from modelguard.types.logs import LogRecord, Run, TrainingLog
from modelguard.types.registry import Entry
from modelguard.types.weights import CheckpointFacts

KINDS = sorted({kind for hint in get_type_hints(Evidence).values() for kind in get_args(hint)} | {Entry, BaseReference}, key=str)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([kind.__name__ for kind in KINDS]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=20,
)


def travelled(kind: Any, value: object) -> Any:
    return decode(kind, loads(dumps(encode(value))))


def sample(kind: Any, chance: random.Random) -> Any:
    """Some value of a type, with the numbers and texts that go wrong elsewhere."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return sample(chance.choice(inside), chance)
    if origin is tuple:
        members = inside if inside[-1] is not Ellipsis else inside[:1] * chance.randrange(3)
        return tuple(sample(member, chance) for member in members)
    if origin is not None:
        return {sample(str, chance): sample(inside[1], chance) for _ in range(chance.randrange(3))}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return chance.choice(list(kind))
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{field.name: sample(hints[field.name], chance) for field in fields(kind) if field.init})
    return chance.choice(PLAIN[kind])


PLAIN: dict[Any, tuple[Any, ...]] = {
    str: ("", "loss", "a\udc80\n", "Missing", "None", "\0"),
    int: (0, -1, 2**80),
    float: (0.0, -0.0, 1, 1e-320, float("nan"), float("-inf")),
    bool: (True, False),
    bytes: (b"", b"\0\xff"),
    type(None): (None,),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_piece_of_evidence_comes_back_as_it_went(kind: type) -> None:
    for seed in range(50):
        value = sample(kind, random.Random(seed))
        assert repr(travelled(kind, value)) == repr(value)
        assert repr(travelled(kind | Missing, value)) == repr(value)


def test_whole_evidence_with_what_is_missing_comes_back() -> None:
    why = Missing("nobody asked", kind=Absence.INAPPLICABLE)
    record = LogRecord(step=1, kind="train", values={"loss": float("nan"), "lr": 1e-5}, position=3)
    log = TrainingLog(runs=(Run(source="a\udc80", format="hf", records=(record,)),))
    evidence = Evidence(**dict.fromkeys(get_type_hints(Evidence), why) | {"log": log})
    back = travelled(Evidence, evidence)
    assert repr(back) == repr(evidence)
    assert back.log.runs[0].training == back.log.runs[0].records
    assert back.weights == why


def test_a_whole_number_stays_one_and_numbers_of_numpy_are_numbers() -> None:
    record = LogRecord(step=np.int64(3), kind="train", values={"loss": 2, "lr": np.float64(0.5)})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int64"):
        encode(record)
    back = travelled(LogRecord, LogRecord(step=3, kind="train", values={"loss": 2, "lr": np.float64(0.5)}))
    assert json.dumps(back.values) == '{"loss": 2, "lr": 0.5}'


REFUSED: dict[str, tuple[Any, Any]] = {
    "another dataclass": (Missing, ["CheckpointFacts", "x", "", "absent"]),
    "a field too few": (Missing, ["Missing", "x", ""]),
    "a field too many": (Missing, ["Missing", "x", "", "absent", 1]),
    "no list": (Missing, {"why": "x"}),
    "no member": (Missing, ["Missing", "x", "", "gone"]),
    "an unhashable member": (Missing, ["Missing", "x", "", []]),
    "a number for a text": (Missing, ["Missing", 1, "", "absent"]),
    "a truth for a number": (int, True),
    "a fraction for a number": (int, 1.5),
    "nothing": (CheckpointFacts, None),
    "neither of two": (CheckpointFacts | Missing, ["Evidence"]),
    "no text among numbers": (float | int | str, [1]),
    "a pair of three": (tuple[int, int], [1, 2, 3]),
    "no base64": (bytes, "?"),
    "a text beyond ASCII for bytes": (bytes, "ü"),
    "a code": (ModelChange, ["__import__", "os"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_another_shape_is_refused(what: str) -> None:
    kind, data = REFUSED[what]
    with pytest.raises(Malformed) as caught:
        decode(kind, data)
    assert "\n" not in str(caught.value)


def test_their_sound_neighbours_are_taken() -> None:
    assert decode(Missing, ["Missing", "x", "", "absent"]) == Missing("x")
    assert decode(tuple[int, int], [1, 2]) == (1, 2)
    assert decode(float | int | str, 1.5) == 1.5
    assert decode(bytes, "AAE=") == b"\0\1"
    assert decode(frozenset[str], ["b", "a"]) == frozenset("ab")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), JSON)
def test_any_json_is_a_value_or_refused(kind: type, data: Any) -> None:
    try:
        value = decode(kind | None, data)
    except Malformed:
        return
    assert value is None or isinstance(value, kind)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 200_000, b"nul"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        loads(data)


def test_types_that_do_not_travel_are_refused_at_home() -> None:
    with pytest.raises(TypeError):
        encode(object())
    with pytest.raises(TypeError):
        decode(complex, 1)


@pytest.mark.parametrize("kind", [CannotRead, CannotFetch, Malformed, BadRequest, ModelguardError])
def test_errors_keep_their_kind_their_words_and_their_advice(kind: type[ModelguardError]) -> None:
    error = from_words(json.loads(json.dumps(as_words(kind("a file: why", advice="do this")))))
    assert (type(error), str(error), error.advice) == (kind, "a file: why", "do this")


@pytest.mark.parametrize("words", [None, [], ["CannotRead", "x"], ["CannotRead", "x", 1], "CannotRead"])
def test_errors_that_are_none_are_refused(words: object) -> None:
    with pytest.raises(Malformed):
        from_words(words)


def test_strange_errors_are_one_short_line() -> None:
    error = from_words(["SystemExit", "a\n::error::b" * 1000, "c\nd"])
    assert type(error) is CannotRead
    assert "\n" not in str(error) + error.advice
    assert len(str(error)) <= 2000
