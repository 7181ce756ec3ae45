"""Who came first, as far as weights tell."""

from __future__ import annotations

from modelguard.fingerprint.compare import compare
from tests.fingerprint.zoo import Arrays, four_bit, model, tuned

PARENT = model(0)


def test_two_children_have_a_common_ancestor_where_their_parent_is_known() -> None:
    ours, theirs = Arrays(tuned(PARENT, seed=3)), Arrays(tuned(PARENT, seed=4))
    assert compare(ours, theirs).direction == "unknown"
    assert compare(ours, theirs, candidates=[Arrays(model(9)), Arrays(PARENT)]).direction == "common-ancestor"


def test_a_stranger_or_a_child_of_the_child_is_no_ancestor() -> None:
    child = tuned(PARENT, seed=3)
    grandchild = tuned(child, seed=4)
    assert compare(Arrays(child), Arrays(PARENT), candidates=[Arrays(grandchild), Arrays(model(9))]).direction == "unknown"


def test_what_is_lost_is_lost_on_the_side_of_the_child() -> None:
    assert compare(Arrays(four_bit(PARENT)), Arrays(PARENT)).direction == "left-from-right"
