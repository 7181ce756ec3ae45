"""The house rules that no reviewer should have to remember: floors, sizes, lazy imports, one broad except, evidence by name."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelguard.checks.base import all_checks
from modelguard.types.evidence import Evidence

ROOT = Path(__file__).parents[1] / "modelguard"
MODULES = sorted(ROOT.rglob("*.py"))

FLOORS: tuple[tuple[str, ...], ...] = (
    ("types", "errors", "discover", "attempt"),
    ("documents", "policy", "git", "render.text"),
    (
        "blobs",
        "logs",
        "changes",
        "declaration",
        "checks",
        "verdict",
        "render",
        "github",
        "github_files",
        "bare_clones",
        "activity",
        "registry",
        "steering",
        "scope",
        "disclosure",
        "evals",
        "transport",
        "fetching",
    ),
    ("checkpoints", "confinement"),
    ("correspondence",),
    ("fingerprint", "displacement"),
    ("activations", "sketches"),
    (
        "across_evidence",
        "adapted",
        "evidence",
        "known_models",
        "world",
        "references",
        "exhibits",
        "eval_files",
        "partial_evidence",
        "facts",
        "declared_bases",
        "confined_world",
        "evidence_apart",
        "known_objects",
        "sides",
        "stated_identity",
        "stored_base",
        "teachers",
    ),
    ("pipeline",),
    (
        "__main__",
        "cli",
        "commands",
        "hook",
        "action",
        "progress",
        "organisation",
        "org_arguments",
        "rehearsal",
        "staged",
        "delivery",
        "verdict_check",
        "report_files",
        "step",
    ),
)
RIGHT_WING = ("checks", "verdict", "render", "github")
RIGHT_WING_MAY = ("types", "errors", "discover", "attempt", "policy", "checks", "render", "github")
LAZY = ("torch", "transformers", "tokenizers", "scipy", "github", "huggingface_hub", "psycopg")
PRINTERS = ("cli", "action")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40


def name_of(path: Path) -> str:
    """`modelguard/checks/base.py` as `checks.base`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor_of(module: str) -> int:
    """The floor of a module, by the longest name that matches."""
    matches = [
        (len(room), floor) for floor, rooms in enumerate(FLOORS) for room in rooms if module == room or module.startswith(f"{room}.")
    ]
    assert matches, f"{module} has no floor: add it to FLOORS"
    return max(matches)[1]


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, whether it is imported at the top level) for every import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    checking = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        top = id(node) not in inside and id(node) not in checking
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (
                (f"{node.module}.{alias.name}" if _is_module(node.module, alias.name) else node.module, top) for alias in node.names
            )


def _is_module(package: str, name: str) -> bool:
    place = ROOT.parent / Path(*package.split(".")) / name
    return package.startswith("modelguard") and (place.with_suffix(".py").exists() or place.is_dir())


def ours(path: Path) -> Iterator[str]:
    return (name.removeprefix("modelguard.") for name, _ in imports(path) if name.startswith("modelguard."))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_go_down(path: Path) -> None:
    module = name_of(path)
    if module in ("modelguard", ""):
        return
    upward = [name for name in ours(path) if floor_of(name) > floor_of(module)]
    assert not upward, f"{module} (floor {floor_of(module)}) imports from above: {upward}"


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path).split(".")[0] in RIGHT_WING], ids=name_of)
def test_the_right_wing_sees_only_values_and_policy(path: Path) -> None:
    strangers = [name for name in ours(path) if name.split(".")[0] not in RIGHT_WING_MAY]
    assert not strangers, f"{name_of(path)} imports {strangers}"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.parent.name == "checks" and path.stem not in ("base", "__init__")], ids=name_of
)
def test_no_rule_knows_another(path: Path) -> None:
    assert not [name for name in ours(path) if name.startswith("checks.")]


def test_the_package_has_no_import_cycle() -> None:
    edges = {name_of(path): set(ours(path)) - {name_of(path)} for path in MODULES}
    remaining = {module: {name for name in names if name in edges} for module, names in edges.items()}
    while leaves := [module for module, names in remaining.items() if not names]:
        remaining = {module: names - set(leaves) for module, names in remaining.items() if module not in leaves}
    assert not remaining, f"cycle among {sorted(remaining)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") < MAX_FILE_LINES
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES]
    assert not long, f"too long: {long}"


def test_there_is_one_broad_except() -> None:
    handlers = [(path, node) for path in MODULES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if _is_broad(node)]
    assert [name_of(path) for path, _ in handlers] == ["attempt"]


def _is_broad(node: ast.AST) -> bool:
    return isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    eager = [name for name, top in imports(path) if top and name.split(".")[0] in LAZY]
    assert not eager, f"{name_of(path)} imports {eager} at the top"


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path) not in PRINTERS], ids=name_of)
def test_only_doors_print(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def test_importing_the_package_and_its_doors_loads_nothing_heavy() -> None:
    code = "import modelguard, modelguard.cli, modelguard.commands, modelguard.hook, modelguard.action, sys; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & set(LAZY)


def test_the_hook_starts_without_numpy() -> None:
    code = "import modelguard.cli, modelguard.hook, sys; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"numpy", "rich", "requests", *LAZY}


def test_every_rule_asks_for_evidence_by_its_name_and_type() -> None:
    fields = typing.get_type_hints(Evidence)
    assert all_checks(), "no rules at all"
    for check in all_checks():
        hints = typing.get_type_hints(check.function)
        for name in inspect.signature(check.function).parameters:
            if name == "policy":
                continue
            assert name in fields, f"{check.rule} asks for {name}, which is no evidence"
            assert set(typing.get_args(hints[name]) or (hints[name],)) <= set(typing.get_args(fields[name])), f"{check.rule}: {name}"


def test_every_rule_explains_itself() -> None:
    for check in all_checks():
        assert check.title, check.rule
        assert check.wants, f"{check.rule} looks at nothing"


def test_nouns_are_frozen() -> None:
    for path in sorted((ROOT / "types").glob("*.py")):
        module = __import__(f"modelguard.types.{path.stem}", fromlist=["*"]) if path.stem != "__init__" else None
        for value in vars(module).values() if module else ():
            if dataclasses.is_dataclass(value) and isinstance(value, type):
                assert value.__dataclass_params__.frozen, value  # type: ignore[attr-defined]
