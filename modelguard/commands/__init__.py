"""What each command does: options in, (exit code, text to print) out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from modelguard.commands.audit import audit
from modelguard.commands.compare import compare_two
from modelguard.commands.evals import check_evals
from modelguard.commands.log import check_logs
from modelguard.commands.org import org
from modelguard.commands.registry import registry
from modelguard.commands.shown import explain, inspect, rules

Result = tuple[int, str]


COMMANDS: Mapping[str, Callable[[argparse.Namespace], Result]] = {
    "audit": audit,
    "compare": compare_two,
    "log": check_logs,
    "evals": check_evals,
    "inspect": inspect,
    "registry": registry,
    "org": org,
    "rules": rules,
    "explain": explain,
}
