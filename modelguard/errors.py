"""The tree of impossibilities, and the exit codes that the doors return.

ModelguardError          what could not be done, and one line of advice
├── BadRequest           arguments, configuration or policy make no sense            -> exit 3
├── CannotRead           bytes could not be had, or are not what they claim to be    -> exit 2
│   ├── CannotFetch      network, Git LFS object, permission, size limit
│   └── Malformed        a strict reader refused the bytes
└── CannotPost           the report exists but was not delivered
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every door. A door starts at CANNOT_DETERMINE and earns another one."""

    CONSISTENT = 0
    INCONSISTENT = 1
    CANNOT_DETERMINE = 2
    BAD_REQUEST = 3


class ModelguardError(Exception):
    """Something that could not be done.

    `str(error)` is one line that names the thing and the reason; `advice` is one line on what to try.
    """

    exit_code = ExitCode.CANNOT_DETERMINE

    def __init__(self, reason: str, *, advice: str = "") -> None:
        super().__init__(reason)
        self.advice = advice


class BadRequest(ModelguardError):
    """Arguments, environment, configuration or policy make no sense."""

    exit_code = ExitCode.BAD_REQUEST


class CannotRead(ModelguardError):
    """Bytes could not be had, or are not what they claim to be."""


class CannotFetch(CannotRead):
    """Bytes that are named could not be had."""


class Malformed(CannotRead):
    """A strict reader refused the bytes."""


class CannotPost(ModelguardError):
    """The report exists but was not delivered."""
