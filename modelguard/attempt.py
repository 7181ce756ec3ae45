"""The one place where anything may go wrong without taking the run down: a crash becomes a reason, never a pass."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from modelguard.errors import ModelguardError
from modelguard.types.findings import Absence, Missing

T = TypeVar("T")
log = logging.getLogger(__name__)


def attempt(action: Callable[[], T], *, what: str, passing: type[ModelguardError] | tuple[()] = ()) -> T | Missing:
    """The result of `action`, or why there is none. Readers' refusals keep their own words; a crash names itself as a bug.

    Errors of the kind `passing` go through: a door tells a bad request from a question that stayed open.
    """
    try:
        return action()
    except passing:
        raise
    except ModelguardError as error:
        return Missing(str(error), advice=error.advice, kind=Absence.BROKEN)
    except MemoryError:
        return Missing(f"{what} needs more memory than there is for it", advice="use a larger machine", kind=Absence.BROKEN)
    except Exception as error:  # the only broad except of the package: what crashed was not looked at, and says so
        log.debug("%s crashed", what, exc_info=True)
        advice = "run it with MODELGUARD_DEBUG=1 and report what it prints"
        return Missing(f"{what} crashed ({type(error).__name__})", advice=advice, kind=Absence.BROKEN)
