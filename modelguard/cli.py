"""The command line: arguments in, one command run, one exit code out."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from modelguard import __version__
from modelguard.attempt import attempt
from modelguard.errors import BadRequest, ExitCode, ModelguardError
from modelguard.org_arguments import add_org
from modelguard.types.findings import Missing

DESCRIPTION = "Says, with numbers, whether a model is what its authors say it is."
REGISTRY = "modelguard-registry.sqlite"
EXIT_CODES = """exit codes:
  0  nothing that policy blocks (compare, registry: evaluated, whatever the relation)
  1  inconsistent with what is declared
  2  cannot determine what policy requires, or something crashed
  3  usage or configuration error

checkpoints are named as a directory, a file, hf:organisation/name@revision, git:REV:path,
https://… (safetensors or an index, read by ranges), or registry:name; BASE+ADAPTER, of any two
but the last, is a PEFT adapter applied to its base: base-dir+adapter-dir, hf:org/base+git:HEAD:adapter"""


class _Parser(argparse.ArgumentParser):
    """Usage errors are exit code 3: 2 means that a question stayed open."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ExitCode.BAD_REQUEST, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    shape = argparse.RawDescriptionHelpFormatter
    top = _Parser(prog="modelguard", description=DESCRIPTION, epilog=EXIT_CODES, formatter_class=shape)
    top.add_argument("--version", action="version", version=f"modelguard {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    _audit(commands)
    _compare(commands)
    _log(commands)
    _evals(commands)
    _inspect(commands)
    _hook(commands)
    _registry(commands)
    add_org(commands)
    commands.add_parser("rules", help="list the rules", description="Lists every rule with its title.")
    explain = commands.add_parser("explain", help="explain one rule", description="Prints what a rule checks, and why.")
    explain.add_argument("rule", metavar="RULE", help="a rule's id, such as log-gap")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. The code starts at 2 and is earned: a crash is neither a pass nor an accusation."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait slow a busy machine down tenfold,
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # and those of OpenBLAS know no other way; the scans have threads of their own
    if os.environ.get("MODELGUARD_DEBUG"):
        logging.basicConfig(level=logging.DEBUG)
    options = parser().parse_args(arguments)
    try:
        outcome = attempt(lambda: _run(options), what=f"modelguard {options.command}", passing=BadRequest)
    except BadRequest as error:
        return _refuse(error)
    except KeyboardInterrupt:
        return ExitCode.CANNOT_DETERMINE
    if isinstance(outcome, Missing):
        return _refuse(ModelguardError(outcome.why, advice=outcome.advice))
    return outcome


def _run(options: argparse.Namespace) -> int:
    if options.command == "hook":  # the hook runs on every commit: it must not wait for what it does not need
        return _run_hook(options)
    from modelguard import commands

    code, text = commands.COMMANDS[options.command](options)
    _write(text)
    return code


def _run_hook(options: argparse.Namespace) -> int:
    from modelguard import hook
    from modelguard.render.text import terminal

    if options.push:
        from modelguard.commands.audit import push

        code, text = push(hook.push_range(os.environ), options)
        _write(text)
        return code
    code, said = hook.staged(options.repo)
    _write("".join(f"{terminal(line)}\n" for line in said.splitlines()))
    return code


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # `modelguard … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(error: ModelguardError) -> int:
    from modelguard.render.text import terminal

    advice = f"; {error.advice}" if error.advice else ""
    sys.stderr.write(f"modelguard: {terminal(str(error) + advice)}\n")
    return error.exit_code


def _audit(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "Audits what HEAD changes in a git repository since it forked off BASE. Policy is read from BASE, never from HEAD."
    command = commands.add_parser("audit", help="audit a pull request", description=text)
    command.add_argument("--repo", type=Path, default=Path(), metavar="DIR", help="the repository (default: here)")
    command.add_argument("--base", required=True, metavar="REV", help="the branch or commit that is merged into")
    command.add_argument("--head", required=True, metavar="REV", help="the branch or commit under audit")
    command.add_argument("--policy", type=Path, metavar="FILE", help="your policy file; .modelguard.yml at BASE may tighten it")
    command.add_argument("--activations", choices=("auto", "on", "off"), default="auto", help="run both models on probe texts")
    lfs = "Git LFS objects that are not at hand come from this server (https://host/org/name.git/info/lfs; MODELGUARD_LFS_TOKEN)"
    command.add_argument("--lfs-url", metavar="URL", help=lfs)
    command.add_argument("--registry", metavar="URL", help="known models, instead of the policy's registry: a file or postgresql://…")
    command.add_argument("--models", action="append", default=[], metavar="GLOB", help="look at these models only; repeat it")
    pin = "the base of models that policy pins none for: a card may claim it and nothing else (private: HF_TOKEN)"
    command.add_argument("--base-model", metavar="hf:NAME", help=pin)
    command.add_argument("--whole", action="store_true", help="audit every model of HEAD, changed or not; policy is still read from BASE")
    confined = "open, parse, compare and run the files of HEAD in a child process without secrets, network or files (docs/confinement.md)"
    command.add_argument("--confined", action="store_true", help=confined)
    command.add_argument("--out", type=Path, metavar="DIR", help="write report.json, .sarif, .html and comment.md there")
    _reach(command)
    _format(command, "terminal", "markdown", "json", "sarif", "html")


def _compare(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "Compares a checkpoint (LEFT) with an alleged parent (RIGHT)."
    command = commands.add_parser("compare", help="compare two checkpoints", description=text)
    command.add_argument("left", metavar="LEFT", help="the checkpoint in question")
    command.add_argument("right", metavar="RIGHT", help="the alleged parent")
    command.add_argument("--depth", choices=("header", "sample", "full"), default="full", help="how much to read (default: full)")
    control = "a model known to be independent of both, against which a full disguise is measured; repeat it"
    command.add_argument("--control", action="append", default=[], metavar="CKPT", help=control)
    candidate = "another possible parent: a merge's shares are fitted over all of them; repeat it"
    command.add_argument("--candidate", action="append", default=[], metavar="CKPT", help=candidate)
    run = "also run both models on probe texts, layer by layer; with controls also other architectures, and whose predictions LEFT makes"
    command.add_argument("--activations", action="store_true", help=run)
    text = "held-out text of the domain in question (a file a document, a directory a kind of text) for the predictions; repeat it"
    command.add_argument("--text", action="append", type=Path, default=[], metavar="PATH", help=text)
    command.add_argument("--layers", type=_count, default=0, metavar="K", help="run only the first K layers, and read no others")
    _store(command)
    command.add_argument("--repo", type=Path, default=Path(), metavar="DIR", help="the repository of git: references (default: here)")
    _reach(command)
    _format(command, "terminal", "markdown", "json", "html")


def _log(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = (
        "Checks training logs for gaps, missing ends and steps that go backwards, and holds them against the weights where both are named."
    )
    command = commands.add_parser("log", help="check training logs", description=text)
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a log, or a directory that holds logs")
    command.add_argument("--checkpoint", metavar="CKPT", help="the trained checkpoint: can the logged training have moved it so far?")
    command.add_argument("--base-checkpoint", metavar="CKPT", help="the checkpoint that training started from")
    command.add_argument("--policy", type=Path, metavar="FILE", help="a policy file")
    command.add_argument("--repo", type=Path, default=Path(), metavar="DIR", help="the repository of git: references (default: here)")
    _reach(command)
    _format(command, "terminal", "markdown", "json", "html")


def _evals(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = (
        "Checks evaluation logs of lm-evaluation-harness: whether scores follow from the samples, whether a card's claims agree with them, "
        "and whether the model makes the mistakes of a reference more than control models do. That hints at a teacher and never proves one."
    )
    command = commands.add_parser("evals", help="check evaluation logs", description=text)
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="results and samples of one model, or their directory")
    command.add_argument(
        "--card", type=Path, metavar="README.md", help="the model card, whose claimed scores and bases are held against them"
    )
    manifest = "a benchmark's questions and claimed scores (docs/eval-manifests.md): are they all there, and no others?"
    command.add_argument("--manifest", type=Path, metavar="FILE", help=manifest)
    command.add_argument("--write-manifest", type=Path, metavar="FILE", help="write the manifest of these logs, which you trust, and stop")
    command.add_argument("--reference", nargs="+", type=Path, default=[], metavar="PATH", help="logs of candidate teachers, a path each")
    control = "logs of models that were trained on the same kind of data, and on no candidate's output: two or more, a path each"
    command.add_argument("--control", nargs="+", type=Path, default=[], metavar="PATH", help=control)
    command.add_argument(
        "--in-domain", nargs="+", default=[], metavar="TASK", help="tasks of the domain in question, for the drop outside it"
    )
    command.add_argument("--policy", type=Path, metavar="FILE", help="a policy file")
    _format(command, "terminal", "markdown", "json", "html")


def _inspect(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "Says what a checkpoint's header says, after the strict checks that every audit makes first."
    command = commands.add_parser("inspect", help="show what is in a checkpoint file", description=text)
    command.add_argument("files", nargs="+", metavar="FILE", help="a checkpoint")
    _format(command, "terminal", "json")


def _hook(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "The git hook. Silent when all is well; offline; the Action, not the hook, is the gate."
    command = commands.add_parser("hook", help="check what is staged or pushed", description=text)
    command.add_argument("--repo", type=Path, default=Path(), metavar="DIR", help="the repository (default: here)")
    stage = command.add_mutually_exclusive_group()
    stage.add_argument("--staged", action="store_true", help="the index: headers, papers and logs (default)")
    stage.add_argument("--push", action="store_true", help="the commits that pre-commit is about to push, weights included")


def _registry(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "Keeps fingerprints of known models, a file of some 90 kB a model, and finds among them the parent of a checkpoint."
    registry = commands.add_parser("registry", help="fingerprints of known models", description=text)
    operations = registry.add_subparsers(dest="operation", metavar="OPERATION", required=True, parser_class=_Parser)
    _registry_of_checkpoints(operations)
    listing = operations.add_parser("list", help="list the models", description="Lists the known models; private ones by alias.")
    export = operations.add_parser("export", help="write the registry as text", description="Writes every entry as a line of JSON.")
    export.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where to (default: standard output)")
    export.add_argument("--private-names", action="store_true", help="with the names, references and digests of private entries")
    imported = operations.add_parser("import", help="add an export's models", description="Adds every entry of an export, or none.")
    imported.add_argument("file", type=Path, metavar="FILE", help="an export")
    imported.add_argument("--replace", action="store_true", help="replace entries of the same name")
    alias = operations.add_parser("alias", help="make an entry private or public", description="Shows an entry by an alias from now on.")
    alias.add_argument("name", metavar="NAME", help="the entry")
    alias.add_argument("alias", nargs="?", default="", metavar="ALIAS", help="what outputs call it (default: its name again)")
    remove = operations.add_parser("remove", help="remove an entry", description="Removes an entry.")
    remove.add_argument("name", metavar="NAME", help="the entry")
    for command in (listing, export, imported, alias, remove):
        _store(command, secret=False)
    _format(listing, "terminal", "json")


def _registry_of_checkpoints(operations: argparse._SubParsersAction[_Parser]) -> None:
    """The operations that read a checkpoint."""
    add = operations.add_parser("add", help="add a checkpoint's fingerprint", description="Adds a model; reads a few MB of its weights.")
    add.add_argument("checkpoint", metavar="CKPT", help="the checkpoint")
    add.add_argument("--name", metavar="NAME", help="what to call it (default: the reference as given)")
    add.add_argument("--alias", default="", metavar="ALIAS", help="keep the entry private: every output calls it by this")
    add.add_argument("--reference", metavar="REF", help="where its weights can be had (default: CKPT where that is hf:…)")
    add.add_argument("--independent", action="store_true", help="known to be independent of the models under audit: may be a control")
    add.add_argument("--replace", action="store_true", help="replace the entry of that name")
    stored = "also run the model on probe texts and keep what it does (up to 4 MB), to hold checkpoints against it without its weights"
    add.add_argument("--activations", action="store_true", help=stored)
    add.add_argument("--layers", type=_count, default=0, metavar="K", help="with --activations: run only the first K layers")
    text = "Looks a checkpoint up. Exits 0 whatever is found, 2 where nothing could be held against it."
    search = operations.add_parser("search", help="find a checkpoint's relatives", description=text)
    search.add_argument("checkpoint", metavar="CKPT", help="the checkpoint in question")
    search.add_argument("--sketches-only", action="store_true", help="do not read the weights of what is found")
    for command in (add, search):
        command.add_argument("--repo", type=Path, default=Path(), metavar="DIR", help="the repository of git: references (default: here)")
        _store(command)
        _reach(command)
        _format(command, "terminal", "json")


def _store(command: argparse.ArgumentParser, *, secret: bool = True) -> None:
    help_text = f"the registry: a file or postgresql://user@host/database (default: {REGISTRY})"
    command.add_argument("--registry", default=REGISTRY, metavar="URL", help=help_text)
    if secret:
        command.add_argument("--secret", type=Path, metavar="FILE", help="a secret: its sketches compare with one another only")


def _reach(command: argparse.ArgumentParser) -> None:
    command.add_argument("--offline", action="store_true", help="no network: declared bases come from the local cache")
    command.add_argument("--max-download", type=int, default=20 << 30, metavar="BYTES", help="download limit (default: 20 GiB)")
    command.add_argument("--quiet", action="store_true", help="no progress bar")


def _count(text: str) -> int:
    """A whole number above zero."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text[:40]!a} is no number of layers")
    return int(text)


def _format(command: argparse.ArgumentParser, *formats: str) -> None:
    command.add_argument("--format", choices=formats, default=formats[0], help=f"how to print the result (default: {formats[0]})")
