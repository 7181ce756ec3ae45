"""The section on what the models do takes its own place on the zoo's page, and touches nothing else of it."""

from __future__ import annotations

from benchmarks.zoo.behaving import TITLE, with_section
from benchmarks.zoo.students import CHOSEN, FIRST, HELD_OUT, SHIFTED, chosen, first, held_out

PAGE = "# The zoo\n\n## What went wrong, by name\n\nNothing.\n"


def test_the_section_is_put_at_the_end_once() -> None:
    one = with_section(PAGE, f"{TITLE}\n\nold\n")
    assert one == f"{PAGE}\n{TITLE}\n\nold\n"
    assert with_section(one, f"{TITLE}\n\nnew\n") == f"{PAGE}\n{TITLE}\n\nnew\n"


def test_no_model_is_in_two_sets() -> None:
    sets = [{recipe for known in by_family.values() for recipe in known} for by_family in (CHOSEN, FIRST, HELD_OUT)]
    assert not sets[0] & sets[1]
    assert not sets[2] & (sets[0] | sets[1])
    for suspects, by_family in ((chosen, CHOSEN), (first, FIRST), (held_out, HELD_OUT)):
        assert all(suspect.own in by_family[suspect.own.family] for suspect in suspects())
    assert all(len(known) >= 13 for known in HELD_OUT.values())  # seven candidates and six controls
    assert all(suspect.data == "chain" for suspect in held_out() if suspect.kind == SHIFTED)
