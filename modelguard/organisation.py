"""The organisation's policy as the Action's inputs name it: fetched at its ref, or from the copy that it allows to stand in for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from modelguard.errors import BadRequest, CannotFetch
from modelguard.github_files import Access, FilePlace, file_place, read_file
from modelguard.pipeline import AuditRequest
from modelguard.policy import Layer, read_layer

COPIES = "MODELGUARD_POLICY_COPIES"  # a directory that only the operator's jobs write to
GITHUB = "https://api.github.com"


def with_policy(request: AuditRequest, environ: Mapping[str, str]) -> AuditRequest:
    """The request under the policies that the inputs `policy`, `policy-token` and `config` name. Raises CannotFetch, BadRequest."""
    named = {key.removeprefix("INPUT_").lower(): value.strip() for key, value in environ.items() if key.startswith("INPUT_")}
    if named.get("config"):
        request = replace(request, config=named["config"])
    if not named.get("policy"):
        return request
    token = named.get("policy-token") or named.get("github-token") or ""
    access = Access(api_url=environ.get("GITHUB_API_URL") or GITHUB, token=token)
    copies = Path(environ[COPIES]) if environ.get(COPIES) else None
    layer, notes = fetched(access, file_place(named["policy"]), copies)
    return replace(request, organisation=layer, policy_notes=notes)


def fetched(access: Access, place: FilePlace, copies: Path | None = None) -> tuple[Layer, tuple[str, ...]]:
    """(the organisation's policy, what to say about it). It must be had: only a copy that itself says so stands in for it."""
    copy = None if copies is None else copies / hashlib.sha256(f"{access.api_url} {place}".encode()).hexdigest()
    try:
        data, commit = read_file(access, place)
    except CannotFetch as error:
        return _from_copy(copy, place, error)
    layer = read_layer(data, f"{place} ({commit[:12]})")
    if copy is not None:
        _keep(copy, data)
    return layer, ()


def _keep(copy: Path, data: bytes) -> None:
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)
    except OSError as error:
        raise BadRequest(f"{COPIES}: {copy.parent}: {error.strerror}", advice="name a directory that can be written to") from error


def _from_copy(copy: Path | None, place: FilePlace, error: CannotFetch) -> tuple[Layer, tuple[str, ...]]:
    """The copy of the policy, if there is one and it allows that. Raises the error that it was fetched with."""
    if copy is None or not copy.is_file():
        raise error
    layer = read_layer(copy.read_bytes(), f"{place} (the last copy)")
    if layer.document.organisation.unreachable != "last-copy":
        raise error
    return layer, (f"{error}: the last copy of it was used, as it allows",)
