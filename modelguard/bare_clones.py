"""The default branch of a repository, fetched whole by git into a bare repository: nothing is checked out, smudged or run.

The address is the operator's, never one that a repository or an answer of GitHub's names. Git reads no configuration of this machine's
and follows no redirect; the token goes to that one address, in a header that no command line shows.
"""

from __future__ import annotations

import base64
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from modelguard.blobs.http import origin, shown, trusted_origins
from modelguard.errors import BadRequest, CannotFetch
from modelguard.git import ENVIRONMENT

SECONDS = 1800
SCHEMES = ("https", "http", "file")
SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "credential.helper": "",
    "http.followRedirects": "false",
    "gc.auto": "0",
}


@contextmanager
def cloned(address: str, token: str, environ: Mapping[str, str]) -> Iterator[Path]:
    """The bare clone of an address's default branch, without its history, removed afterwards. Raises BadRequest, CannotFetch."""
    _check(address, environ)
    with tempfile.TemporaryDirectory(prefix="modelguard-") as folder:
        target = Path(folder) / "clone.git"
        command = (
            "git",
            "clone",
            "--quiet",
            "--bare",
            "--depth=1",
            "--single-branch",
            "--no-tags",
            "--template=",
            "--",
            address,
            str(target),
        )
        try:
            done = subprocess.run(
                command, capture_output=True, env=_environment(address, token), check=False, timeout=SECONDS, stdin=subprocess.DEVNULL
            )
        except FileNotFoundError as error:
            raise BadRequest("git is not installed", advice="install git") from error
        except subprocess.TimeoutExpired:
            raise CannotFetch(f"{shown(address)}: not fetched within {SECONDS} s", advice="clone it yourself and name the clone") from None
        if done.returncode:
            raise CannotFetch(f"{shown(address)}: could not be fetched ({_reason(done.stderr)})", advice=ADVICE)
        yield target


ADVICE = "check GITHUB_SERVER_URL, and that the token in GITHUB_TOKEN may read its contents"


def _check(address: str, environ: Mapping[str, str]) -> None:
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES or "@" in parts.netloc or (parts.scheme != "file" and not parts.hostname):
        raise BadRequest(f"{shown(address)!a} is no address to fetch from", advice="set GITHUB_SERVER_URL to https://host")
    if parts.scheme == "http" and origin(address) not in trusted_origins(environ):
        reason = f"{shown(address)!a}: plain http can be changed on its way"
        raise BadRequest(reason, advice="name its origin in MODELGUARD_TRUSTED_ORIGINS if it is yours")


def _environment(address: str, token: str) -> dict[str, str]:
    """Git's environment: no configuration of the machine or its user, one protocol, and the token where there is one."""
    settings = dict(SETTINGS)
    if token and urlsplit(address).scheme != "file":
        secret = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        settings[f"http.{address}.extraHeader"] = f"Authorization: Basic {secret}"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key == "GIT_EXEC_PATH"}
    written = {"GIT_CONFIG_COUNT": str(len(settings))}
    for place, (key, value) in enumerate(settings.items()):
        written |= {f"GIT_CONFIG_KEY_{place}": key, f"GIT_CONFIG_VALUE_{place}": value}
    alone = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_ALLOW_PROTOCOL": urlsplit(address).scheme}
    return kept | ENVIRONMENT | written | alone | {"GIT_ASKPASS": "", "SSH_ASKPASS": ""}


def _reason(stderr: bytes) -> str:
    """Git's last word, without the address that it quotes."""
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.startswith(("fatal:", "error:"))]
    return lines[-1].partition(": ")[2][:160] if lines else "git failed"
