"""The zoo's page on what the models do: unit matching, and teacher evidence. `python -m benchmarks.zoo --behaviour` writes it alone."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

from benchmarks.zoo import cache

TITLE = "## What the models do"
SETS = ("chosen", "first", "held out")
BASES = 8  # models of which derivatives are run
UNITS = (
    "Two networks of one architecture are run on the same public texts (docs/activations.md); a test fires at p at most 1e-9. A student\n"
    "of another initialisation shares no unit with its teacher: no test of this kind can see it. These llamas have too few heads for the\n"
    "test on heads."
)
TEACHERS = (
    "Teacher evidence from weights (docs/teacher-evidence.md): seven candidates and six controls a suspect, text that no model was\n"
    "trained on. Every floor was chosen on the first set, the regression on the second; the third had no part in either."
)


def section(folder: Path, sets: Iterable[str] = SETS) -> str:
    """The section as Markdown, of the models in that cache folder. What it does not hold is trained."""
    from transformers.utils import logging

    from benchmarks import behaviour, unit_matching
    from benchmarks.zoo.population import LLAMAS

    os.environ[cache.PLACE] = str(folder)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = [TITLE, "### Units, axes and heads", UNITS, unit_matching.table(LLAMAS, LLAMAS[:BASES]), "### Whose answers", TEACHERS]
        for name in sets:
            title, suspects, known = behaviour.SETS[name]
            parts.append(f"{title}:\n\n{behaviour.markdown(behaviour.table(suspects(), known))}".rstrip())
    return "\n\n".join(parts) + "\n"


def with_section(page: str, made: str) -> str:
    """The page with that section at its end, in the place of an older one."""
    return page.partition(f"\n{TITLE}\n")[0].rstrip("\n") + f"\n\n{made}"
