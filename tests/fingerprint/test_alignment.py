"""Which tensor stands for which, by name and by content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.correspondence.alignment import align, digest
from modelguard.correspondence.roles import by_role, located, paired_places
from tests.fingerprint.zoo import Arrays, model

NAMES = st.lists(st.text("abl.0123_", min_size=1, max_size=12), max_size=6, unique=True)


@given(left=NAMES, right=NAMES, by_content=st.booleans())
def test_every_tensor_is_paired_once_or_not_at_all(left: list[str], right: list[str], by_content: bool) -> None:
    ours, theirs = (Arrays({name: np.full(3, len(name), dtype=np.float32) for name in names}) for names in (left, right))
    found = align(ours, theirs, by_content=by_content)
    assert sorted([*(pair[0] for pair in found.pairs), *found.only_left]) == sorted(left)
    assert sorted([*(pair[1] for pair in found.pairs), *found.only_right]) == sorted(right)


@given(NAMES)
def test_any_name_has_a_place(names: list[str]) -> None:
    for name in names:
        place, role = located(name)
        assert place.number >= -1
        assert role.module or role.kind
    assert set(by_role(names)) == {located(name)[0] for name in names}


def test_equal_names_pair_before_equal_bytes() -> None:
    base = model(0, layers=1)
    swapped = {name: np.ascontiguousarray(value[::-1]) for name, value in base.items()}
    found = align(Arrays(swapped), Arrays(base), by_content=True)
    assert all(ours == theirs for ours, theirs in found.pairs)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_digests_tell_types_shapes_and_bytes_apart(dtype: type) -> None:
    arrays = Arrays({"a": np.zeros((2, 3), dtype), "b": np.zeros((3, 2), dtype), "c": np.ones((2, 3), dtype), "d": np.zeros((2, 3), dtype)})
    digests = {name: digest(arrays, name) for name in arrays.tensors}
    assert digests["a"] == digests["d"]
    assert len(set(digests.values())) == 3


def test_stacks_are_paired_by_name_then_by_order() -> None:
    left = by_role(["encoder.block.0.q.weight", "decoder.block.0.q.weight", "wte.weight"])
    right = by_role(["encoder.block.0.q.weight", "decoder.block.0.q.weight", "embed.weight"])
    assert all(ours == theirs for ours, theirs in paired_places(left, right).items())
    other = by_role(["enc.h.0.q.weight", "dec.h.0.q.weight"])
    assert {(ours.stack, theirs.stack) for theirs, ours in paired_places(other, right).items()} == {
        ("dec.h", "decoder.block"),
        ("enc.h", "encoder.block"),
    }
