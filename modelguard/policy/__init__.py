"""What is enforced. Parsed from YAML of the base commit (never of the head) and of the organisation, which stands above it."""

from __future__ import annotations

from modelguard.policy.document import Behaviour, Block, Document, Layer, ModelEntry, RuleSettings, Waiver, level, percentage, read_layer
from modelguard.policy.effective import BUILT_IN, Policy, digest
from modelguard.policy.merging import combine

__all__ = (
    "FILE_NAME",
    "Behaviour",
    "Block",
    "Document",
    "Layer",
    "ModelEntry",
    "Policy",
    "RuleSettings",
    "Waiver",
    "default",
    "layered",
    "level",
    "parse",
    "percentage",
    "read_layer",
)

FILE_NAME = ".modelguard.yml"


def default() -> Policy:
    """The policy of a repository that has none."""
    return parse(b"version: 1\n", BUILT_IN)


def parse(data: bytes, origin: str) -> Policy:
    """A policy from one file. Raises BadRequest, naming file, line and key, for anything that it does not understand."""
    return layered(None, read_layer(data, origin))


def layered(organisation: Layer | None, repository: Layer | None) -> Policy:
    """The policy in force: the organisation's over the repository's, or the only one of the two, or the built-in one."""
    if organisation is not None and repository is not None:
        return combine(organisation, repository)
    only = organisation or repository
    if only is None:
        return default()
    return Policy(document=only.document, origin=only.origin, digest=digest(only.document))
