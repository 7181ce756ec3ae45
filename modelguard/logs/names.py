"""How likely a file is to hold a training log, judged by its name alone: a repository has thousands of files that are not opened."""

from __future__ import annotations

import re
from enum import IntEnum


class Likelihood(IntEnum):
    """What a name promises: nothing, a text or database that may be a log, a usual name of logs, a name that only logs have."""

    NO = 0
    MAYBE = 1
    LIKELY = 2
    MUST = 3


_MUST = re.compile(r"(?:^|/)(?:trainer_state\.json|[^/]*\.tfevents\.[^/]+|[^/]+\.wandb)$")
_LIKELY = re.compile(r"\.(?:jsonl|csv|log|prom)(?:\.\d{1,4})?$", re.IGNORECASE)
_JSON = re.compile(r"(?:^|/)wandb-metadata\.json$|(?:^|/)[^/]*(?:log|history|metric|loss|train|progress)[^/]*\.json$", re.IGNORECASE)
_OTHER = re.compile(r"(?:^|/)[^/]*(?:config|token|vocab|merges|index|args|arguments)[^/]*\.json$", re.IGNORECASE)
_TEXT = re.compile(r"\.(?:txt|out|err|stdout|stderr)(?:\.\d{1,4})?$", re.IGNORECASE)
_TELLING = re.compile(r"log|train|metric|loss|history|progress|slurm|sacct|nohup|console|std(?:out|err)|smi|dcgm|gpu", re.IGNORECASE)
_NO_LOG = re.compile(
    r"^(?:merges|vocab|.*tokens?|requirements.*|constraints.*|licen[cs]e|notice|readme|changelog|labels?|classes|cmakelists|robots|.*prompts?"
    r"|.*\.(?:json|py|md|ya?ml))\.txt$",
    re.IGNORECASE,
)
_MLRUNS = re.compile(r"(?:^|/)(?:mlruns/[^/]+/(?:models/)?[^/]+|[0-9a-f]{32})/metrics/.+$")
_DATABASE = re.compile(r"\.(?:db|sqlite3?)$", re.IGNORECASE)


def likelihood(name: str) -> Likelihood:
    """How likely a file of this path, with forward slashes, is a training log or the log of a machine that trained."""
    base = name.rpartition("/")[2]
    if _MUST.search(name):
        return Likelihood.MUST
    if _MLRUNS.search(name) or _LIKELY.search(base) or (_JSON.search(name) and not _OTHER.search(name)):
        return Likelihood.LIKELY
    if _DATABASE.search(base):
        return Likelihood.LIKELY if "mlflow" in base.lower() else Likelihood.MAYBE
    if not _TEXT.search(base) or _NO_LOG.search(base):
        return Likelihood.NO
    return Likelihood.LIKELY if _TELLING.search(base) else Likelihood.MAYBE


def looks_like_log(name: str) -> bool:
    """Whether a file of this name is worth opening in search of a training log."""
    return likelihood(name) is not Likelihood.NO


def must_be_log(name: str) -> bool:
    """Whether a file of this name is a training log or broken: no other program writes such names."""
    return likelihood(name) is Likelihood.MUST
