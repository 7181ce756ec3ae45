"""What `modelguard org …` does: one sweep over many repositories, a policy tried on them, the ruleset to paste."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from modelguard.commands.org_policy import check_policy
from modelguard.commands.org_rulesets import ruleset, workflow
from modelguard.commands.org_sweep import swept
from modelguard.errors import ExitCode

Result = tuple[int, str]


def org(options: argparse.Namespace) -> Result:
    """`modelguard org`."""
    return OPERATIONS[options.operation](options)


def rulesets(options: argparse.Namespace) -> Result:
    """`modelguard org rulesets`."""
    required = workflow(options.uses, options.policy)
    rules = ruleset(options.repository_id, options.path, options.ref, options.enforcement)
    both = f"# 1. commit this as {options.path}\n{required}\n# 2. send this to POST /orgs/ORG/rulesets\n{rules}"
    return ExitCode.CONSISTENT, {"ruleset": rules, "workflow": required, "both": both}[options.only]


OPERATIONS: Mapping[str, Callable[[argparse.Namespace], Result]] = {"audit": swept, "policy": check_policy, "rulesets": rulesets}
