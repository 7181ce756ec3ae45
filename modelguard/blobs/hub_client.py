"""Talks to the hub through its own client: asks which commit a name stands for, and fetches files into the hub's cache.

Every way in which that can fail becomes one line of ours. The client's own words are not passed on: they quote addresses, signed
ones too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import msgspec

from modelguard.errors import CannotFetch

TIMEOUT = 10.0  # seconds without an answer
TRANSIENT = (429, 500, 502, 503, 504)
WAITS = (0.5, 1.5)  # seconds before the second and the third question
SLACK = 1 << 20  # bytes beyond twice the size: a broken connection may be taken up again, but not for ever

T = TypeVar("T")
Progress = Callable[[str, int, int], None]


class Withheld(CannotFetch):
    """The hub has it, or may have it, and does not show it to whoever asks."""


class Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file as the hub lists it: size in bytes, and the sha256 of its content (Git LFS) or its git object id."""

    size: int
    sha256: str | None = None
    git: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a model is asked for, and where copies lie: the hub's own cache layout, shared with every tool that uses it."""

    name: str
    endpoint: str
    cache: Path
    token: str | bool  # False: anonymous, even where this machine is logged in
    offline: bool

    @property
    def folder(self) -> Path:
        return self.cache / f"models--{self.name.replace('/', '--')}"

    def snapshot(self, commit: str) -> Path:
        return self.folder / "snapshots" / commit

    def listing(self, commit: str) -> Path:
        return self.folder / "modelguard" / f"{commit}.json"


class Bar:
    """What the client takes for its progress bar: shows nothing, passes counts on, and stops a transfer that does not end."""

    label: ClassVar[str] = ""
    size: ClassVar[int] = 0
    watchers: ClassVar[tuple[Progress, ...]] = ()
    total: int | None = None

    def __init__(self, *_: object, desc: str = "", initial: int = 0, **__: object) -> None:
        self.n = initial
        self._received = 0
        self._counts = "downloading bytes" not in desc  # the client's second bar of a transfer, which counts the same bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: float = 1) -> None:
        """`n` more bytes; negative when the transfer starts over."""
        self.n += int(n)
        self._received += max(0, int(n))
        if self._received > 2 * self.size + SLACK:
            raise CannotFetch(f"{self.label}: more arrives than the {self.size:,} bytes that the hub lists", advice="try again later")
        for watcher in self.watchers if self._counts else ():
            watcher(self.label, min(self.n, self.size), self.size)

    def close(self) -> None:
        """Nothing is shown, so nothing is tidied."""

    def refresh(self) -> None:
        """As `close`."""

    def set_postfix_str(self, *_: object, **__: object) -> None:
        """As `close`."""


def ask(place: Place, revision: str) -> tuple[str, Mapping[str, Listed]]:
    """The commit that a revision names, and the files at the top of the model (where loaders look). Raises CannotFetch."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=place.endpoint, token=place.token)
    with explained(f"hf:{place.name}@{revision}"):
        info = _patiently(lambda: api.model_info(place.name, revision=revision, files_metadata=True, timeout=TIMEOUT))
        sized = [entry for entry in info.siblings or () if isinstance(entry.size, int)]
        return str(info.sha), {str(entry.rfilename): _listed(entry) for entry in sized}


def fetch(place: Place, commit: str, name: str, size: int, progress: Progress | None) -> None:
    """Brings one file of a commit into the cache. Raises CannotFetch. The content is still to be checked."""
    from huggingface_hub import hf_hub_download

    what = f"hf:{place.name}@{commit}/{name}"

    class OwnBar(Bar):
        """The bar of this one transfer: the client makes it, and can be told nothing but its class."""

    OwnBar.label, OwnBar.size, OwnBar.watchers = what, size, (progress,) if progress else ()
    with explained(what):
        hf_hub_download(
            place.name,
            name,
            revision=commit,
            endpoint=place.endpoint,
            cache_dir=place.cache,
            token=place.token,
            etag_timeout=TIMEOUT,
            tqdm_class=OwnBar,
        )


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns what the client raises into CannotFetch with one line that names `what`."""
    from huggingface_hub import errors

    try:
        yield
    except (errors.HTTPError, errors.EntryNotFoundError, OSError) as error:
        reason, advice = _reason(error)
        kind = Withheld if _withheld(error) else CannotFetch
        raise kind(f"{what}: {reason}", advice=advice) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # the client builds its values from whatever JSON comes
        raise CannotFetch(f"{what}: the answer is not one of a hub", advice="check HF_ENDPOINT") from error


def _withheld(error: BaseException) -> bool:
    """Whether the hub answered that this is not for whoever asks; it says of a private model that there is none."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return _withheld(error.__cause__)
    missing = isinstance(error, errors.RepositoryNotFoundError | errors.GatedRepoError)
    return missing or getattr(getattr(error, "response", None), "status_code", 0) in (401, 403)


def _reason(error: BaseException) -> tuple[str, str]:
    """One reason and one piece of advice for an exception of the client."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, errors.GatedRepoError):
        return "is gated", "accept its terms on the hub and pass a token that may read it"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the hub has the model but not this revision", "check the revision"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no such model, or does not show it to us", "check the name; for a private model pass a token that may read it"
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        return _reason(error.__cause__)
    if isinstance(error, errors.EntryNotFoundError):
        return "the hub does not have this file", "check the reference"
    if status in (401, 403):
        return f"the hub refuses access ({status})", "pass a token that may read it"
    if status:
        return f"the hub answers {status}", "try again later"
    return _transport_reason(error)


def _transport_reason(error: BaseException) -> tuple[str, str]:
    kind = type(error).__name__
    if "Timeout" in kind:
        return "the hub did not answer in time", "try again later"
    if isinstance(error, OSError) and error.strerror:
        return f"could not be stored ({error.strerror})", "check the cache folder (HF_HOME) and its disk"
    if isinstance(error, OSError) and "Consistency" in str(error):
        return "the download is not of the size that the hub names", "try again"
    return f"the hub could not be reached ({kind})", "check the network and HF_ENDPOINT, or run --offline with a filled cache"


def _patiently(question: Callable[[], T]) -> T:
    """Asks again, twice, where the hub says that it is busy."""
    from huggingface_hub.errors import HfHubHTTPError

    for wait in WAITS:
        try:
            return question()
        except HfHubHTTPError as error:
            if error.response.status_code not in TRANSIENT:
                raise
            time.sleep(wait)
    return question()


def _listed(entry: Any) -> Listed:
    if entry.lfs is not None:
        return Listed(size=entry.size, sha256=str(entry.lfs.sha256))
    return Listed(size=entry.size, git=entry.blob_id if isinstance(entry.blob_id, str) else None)
