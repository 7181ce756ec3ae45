"""git over smart HTTP, hardened: one server, no redirect, no hook, no helper, no configuration but ours, within limits of size and time.

The token stands in the environment of git's own process and nowhere else: not in its arguments, not on disk, not in what it says.
"""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from modelguard.errors import BadRequest, CannotFetch

TAIL = 8192  # bytes of what git said that are looked at
LOOK = 0.05  # seconds between two looks at a running fetch
SLOW = 60  # seconds at less than 1 kB/s after which a connection counts as dead
SETTINGS: Mapping[str, str] = {
    "core.askPass": "",
    "core.bigFileThreshold": "16m",  # larger objects go to disk piece by piece, not through memory
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "credential.helper": "",
    "fetch.fsckObjects": "true",
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",
    "gc.auto": "0",
    "http.followRedirects": "false",  # a redirect would take the token along
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": str(SLOW),
    "maintenance.auto": "false",
    "protocol.version": "2",
    "transfer.bundleURI": "false",
    "transfer.credentialsInUrl": "die",
}
# Flaws of old programs that stand in honest histories and that mislead no reader; everything else that git's check finds ends the fetch.
FORGIVEN = ("zeroPaddedFilemode", "badTimezone", "missingSpaceBeforeDate", "zeroPaddedDate", "missingSpaceBeforeEmail", "missingEmail")
OPTIONS = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance", "--no-write-fetch-head", "--no-show-forced-updates")
REFUSALS = (
    "authentication failed",
    "could not read username",
    "could not read password",
    "error: 401",
    "error: 403",
    "invalid credentials",
)
ABSENT = ("not our ref", "couldn't find remote ref", "unadvertised object", "remote error: want")
HIDDEN = ("error: 404", "not found")
REDIRECTED = ("error: 301", "error: 302", "error: 307", "error: 308", "update url base from redirection")
PASSING = ("unable to access", "rpc failed", "early eof", "hung up", "disconnect", "expected flush", "timed out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A repository that a server gives out over smart HTTP. The token stays out of `repr`; `authority` is a file of certificates."""

    url: str
    token: str = ""
    authority: str = ""

    def __repr__(self) -> str:
        return f"Source(url={self.url!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a fetch may bring (bytes on disk) and take (seconds), all attempts together."""

    size: int = 8 << 30
    seconds: float = 1800.0


class Broken(CannotFetch):
    """The server was unwell or the connection broke: another attempt may go well."""


class Transport:
    """Fetches from one source into one bare repository of our own."""

    def __init__(self, folder: Path, source: Source, limits: Limits) -> None:
        self._folder, self._source, self._limits = folder, source, limits
        self._until = time.monotonic() + limits.seconds

    def create(self, *, sha256: bool = False) -> None:
        """Makes the repository, without the hooks and settings that a template of the machine would bring."""
        self._run("init", "--quiet", "--bare", "--template=", f"--object-format={'sha256' if sha256 else 'sha1'}")

    def commits(self, refspecs: tuple[str, ...]) -> None:
        """Fetches commits with their whole history, and of it the commits alone where the server knows how. Raises CannotFetch.

        They are not checked: git forgives no flaw of a history here, and of a commit only its parents, its tree and its time are read.
        """
        self._run("config", "remote.source.url", self._source.url)
        self._run("-c", "fetch.fsckObjects=false", "fetch", *OPTIONS, "--filter=tree:0", "source", *refspecs)
        self._run("config", "--remove-section", "remote.source")  # with it goes the promise by which git would fetch what is missing

    def contents(self, trees: tuple[str, ...]) -> None:
        """Fetches trees with everything in them, and checks every object. Raises CannotFetch."""
        self._run("-c", "fetch.negotiationAlgorithm=noop", "fetch", *OPTIONS, self._source.url, *trees)

    def check(self) -> None:
        """Checks every object that is there, of which none may be missing. Raises CannotFetch."""
        self._run("fsck", "--full", "--strict", "--no-dangling", "--no-progress")

    def _run(self, *arguments: str) -> None:
        """Runs git to its end or to a limit. It is the head of its group of processes, which all end with it."""
        with tempfile.TemporaryFile(prefix="modelguard-") as said:
            try:
                process = subprocess.Popen(
                    ("git", *arguments),
                    cwd=self._folder,
                    env=environment(self._folder, self._source),
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise BadRequest("git is not installed", advice="install git") from error
            try:
                self._watch(process, said)
            finally:
                _end(process)
            if process.returncode:
                raise _meaning(_tail(said), self._source)

    def _watch(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        """Waits for a process. Raises CannotFetch when it brings or takes too much."""
        where = self._source.url
        while process.poll() is None:
            if _size(self._folder) + os.fstat(said.fileno()).st_size > self._limits.size:
                reason = f"{where}: more than the {self._limits.size:,} bytes that are fetched"
                raise CannotFetch(reason, advice="keep weights in Git LFS")
            if time.monotonic() > self._until:
                reason = f"{where}: not fetched within {self._limits.seconds:,.0f} seconds"
                raise CannotFetch(reason, advice="run the job again; keep weights in Git LFS")
            try:
                process.wait(LOOK)
            except subprocess.TimeoutExpired:
                continue


def environment(folder: Path, source: Source) -> dict[str, str]:
    """All that git is told. Of the job's environment stay the path, the proxies and the place for short-lived files."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "TMPDIR", "GIT_EXEC_PATH") or _is_proxy(name)}
    ours = {
        "GIT_ALLOW_PROTOCOL": urlsplit(source.url).scheme,
        "GIT_ASKPASS": "",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_DIR": str(folder),
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "HOME": str(folder),  # no .netrc, no .curlrc
        "LC_ALL": "C",
    }
    settings = {**SETTINGS, **{f"{part}fsck.{flaw}": "ignore" for flaw in FORGIVEN for part in ("", "fetch.")}}
    if source.authority:
        settings["http.sslCAInfo"] = source.authority
    if source.token:
        secret = base64.b64encode(f"x-access-token:{source.token}".encode()).decode()
        settings[f"http.{source.url}.extraHeader"] = f"Authorization: Basic {secret}"
    pairs = enumerate(settings.items())
    written = {f"GIT_CONFIG_{part}_{n}": text for n, pair in pairs for part, text in zip(("KEY", "VALUE"), pair, strict=True)}
    return kept | ours | written | {"GIT_CONFIG_COUNT": str(len(settings))}


def _is_proxy(name: str) -> bool:
    return name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that is still there, and those that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _size(folder: Path) -> int:
    """Bytes of the files below a folder, some of which come and go."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118
            except FileNotFoundError:
                continue
    return total


def _tail(said: IO[bytes]) -> str:
    end = said.seek(0, os.SEEK_END)
    said.seek(max(0, end - TAIL))
    return said.read(TAIL).decode("utf-8", "replace")


def _meaning(said: str, source: Source) -> CannotFetch:
    """What git's last words mean. They hold a server's words, of which only printable ASCII is repeated."""
    lines = [line for line in said.splitlines() if re.match(r"(fatal|error)\b", line)]
    words, where = " ".join(lines).lower(), source.url
    if any(sign in words for sign in REFUSALS):
        known = "the token was refused" if source.token else "a token is needed"
        advice = "pass the input github-token and give the job `permissions: contents: read`"
        return CannotFetch(f"{where}: {known}", advice=advice)
    if any(sign in words for sign in ABSENT):
        return CannotFetch(f"{where}: a commit that the event names is not there (any more)", advice="run the workflow on a new event")
    if any(sign in words for sign in REDIRECTED):
        return CannotFetch(f"{where}: it lies elsewhere by now, and redirects are not followed", advice="run the workflow on a new event")
    if any(sign in words for sign in HIDDEN):
        return CannotFetch(f"{where}: no such repository, or none that the token may see", advice="check the input github-token")
    last = re.sub(r"[^ -~]|[`<>|]", "?", lines[0] if lines else "no reason given")[:200]
    if any(sign in words for sign in PASSING):
        return Broken(f"{where}: {last}", advice="the server may be unwell, or not be reached from here: run the job again")
    return CannotFetch(f"{where}: git refused what it was sent ({last})", advice="look at the head's objects: git fsck --strict")
