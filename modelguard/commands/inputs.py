"""What several commands are given: files, directories of files, a policy; and the terminal that they print to."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from modelguard.blobs.local import LocalBlob
from modelguard.errors import BadRequest
from modelguard.logs.sources import Loader
from modelguard.policy import Policy, default, parse

MAX_FILES = 10_000


def policy_of(file: Path | None) -> Policy:
    """The policy of a file, or the default one. Raises BadRequest."""
    try:
        return default() if file is None else parse(file.read_bytes(), str(file))
    except OSError as error:
        raise BadRequest(f"{file}: {error.strerror}", advice="check --policy") from error


def files_below(paths: Sequence[Path], looks_right: Callable[[str], bool]) -> Mapping[str, Loader]:
    """Loaders by name: every file that is named, and every file below a named directory whose name looks right. Raises BadRequest."""
    files: dict[str, Loader] = {}
    for path in paths:
        if path.is_dir():
            below = (file for file in sorted(path.rglob("*")) if file.is_file() and looks_right(file.as_posix()))
            files |= {str(file): _loader(file) for file, _ in zip(below, range(MAX_FILES), strict=False)}
        elif path.is_file():
            files[str(path)] = _loader(path)
        else:
            raise BadRequest(f"{path}: no such file or directory", advice="check the path")
    return files


def _loader(path: Path) -> Loader:
    return lambda: LocalBlob(path)


def colour() -> bool:
    """Whether a person is looking."""
    return sys.stdout.isatty()


def width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size((100, 24)).columns
