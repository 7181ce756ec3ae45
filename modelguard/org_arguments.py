"""The arguments of `modelguard org …`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeVar

Parser = TypeVar("Parser", bound=argparse.ArgumentParser)
ACTION = "org/modelguard@v1"


def add_org(commands: argparse._SubParsersAction[Parser]) -> None:
    """Adds the command with its operations; parsers are of the kind that `commands` makes."""
    text = "The policy of an organisation, and its repositories all at once."
    org = commands.add_parser("org", help="policy and repositories of an organisation", description=text)
    operations = org.add_subparsers(dest="operation", metavar="OPERATION", required=True, parser_class=type(org))
    _sweep(operations)
    _rulesets(operations)
    text = "Works on an organisation's policy."
    policy = operations.add_parser("policy", help="an organisation's policy", description=text)
    tasks = policy.add_subparsers(dest="task", metavar="TASK", required=True, parser_class=type(org))
    _check(tasks)


def _sweep(operations: argparse._SubParsersAction[Parser]) -> None:
    text = (
        "Audits every model on the default branches (HEAD) of clones and of an organisation's repositories, as if it were new, and writes "
        "one table. A repository that cannot be looked at is named in it and stops no other; archived and empty ones are left out, and "
        "named as well."
    )
    command = operations.add_parser("audit", help="audit the default branches of many repositories", description=text)
    _repositories(command)
    command.add_argument("--policy", type=Path, metavar="FILE", help="the organisation's policy, above each repository's own")
    previous = "the JSON of the sweep before, which carries those before it: the table then shows trends"
    command.add_argument("--previous", type=Path, metavar="FILE", help=previous)
    _reach(command)
    command.add_argument("--out", type=Path, metavar="DIR", help="write sweep.json, sweep.md and sweep.html there")
    command.add_argument("--format", choices=("markdown", "json", "html"), default="markdown", help="how to print (default: markdown)")


def _check(tasks: argparse._SubParsersAction[Parser]) -> None:
    text = (
        "Tries a policy on repositories before it is in force: which of their own settings it would refuse, what would change, and, for "
        "every model on their default branches, the verdict today and the verdict under the proposal with the rules that differ. The "
        "evidence on a model is collected once and judged twice. Nothing is posted. Exits 1 where a repository's policy would lose a "
        "setting or is not understood or a model would newly be inconsistent, 2 where something could not be read or would newly stay open."
    )
    command = tasks.add_parser("check", help="try a policy on repositories", description=text)
    command.add_argument("file", type=Path, metavar="FILE", help="the organisation's policy as proposed")
    _repositories(command)
    command.add_argument("--current", type=Path, metavar="FILE", help="the organisation's policy as it is (default: there is none)")
    command.add_argument("--settings-only", action="store_true", help="compare settings, and audit nothing")
    _reach(command)
    command.add_argument("--format", choices=("markdown", "json"), default="markdown", help="how to print (default: markdown)")


def _repositories(command: argparse.ArgumentParser) -> None:
    command.add_argument("clones", nargs="*", type=Path, metavar="CLONE", help="a clone, or a directory of clones")
    organisation = "the repositories of this organisation, each fetched from GITHUB_SERVER_URL (or github.com) while it is looked at"
    command.add_argument("--organisation", metavar="NAME", help=organisation)
    help_text = "GitHub's interface (default: GITHUB_API_URL, or api.github.com); the token is taken from GITHUB_TOKEN"
    command.add_argument("--api-url", metavar="URL", help=help_text)


def _reach(command: argparse.ArgumentParser) -> None:
    command.add_argument("--activations", choices=("auto", "on", "off"), default="off", help="run models on probe texts (default: off)")
    command.add_argument("--offline", action="store_true", help="declared bases come from the local cache alone")
    command.add_argument("--max-download", type=int, default=20 << 30, metavar="BYTES", help="download limit (default: 20 GiB)")


def _rulesets(operations: argparse._SubParsersAction[Parser]) -> None:
    text = (
        "Prints the required workflow, and the ruleset that requires it on every default branch: to commit, and to send to "
        "POST /orgs/ORG/rulesets. Nothing is sent anywhere."
    )
    command = operations.add_parser("rulesets", help="print the ruleset and the required workflow", description=text)
    command.add_argument("--repository-id", type=int, required=True, metavar="N", help="id of the workflow's repository (gh api repos/O/R)")
    command.add_argument("--path", default=".github/workflows/modelguard.yml", metavar="PATH", help="the workflow's path in it")
    command.add_argument("--ref", default="refs/heads/main", metavar="REF", help="the ref that the workflow is taken from")
    command.add_argument("--uses", default=ACTION, metavar="ACTION", help=f"the Action, best by commit (default: {ACTION})")
    command.add_argument("--policy", metavar="PLACE", help="the organisation's policy, as org/repo//path@ref")
    help_text = "evaluate shows what would be stopped, active stops it (default: evaluate)"
    command.add_argument("--enforcement", choices=("evaluate", "active"), default="evaluate", help=help_text)
    command.add_argument("--only", choices=("both", "ruleset", "workflow"), default="both", help="print one of the two alone")
