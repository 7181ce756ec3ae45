"""What the git hook costs a commit: `python -m benchmarks.hook [--size N] [--pointers N]`, N files in the repository, N staged pointers."""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from benchmarks.timing import medians, verdict

MAX_SECONDS = 0.4
MAX_SECONDS_WITH_POINTERS = 1.0
FORBIDDEN = ("torch", "transformers", "scipy", "github", "huggingface_hub", "numpy")
PERSON = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@invalid", "-c", "commit.gpgsign=false"]
WHILE_HOOKED = """
import json, sys
from modelguard.cli import main
code = main(["hook", "--staged"])
print(json.dumps([code, sorted(name for name in sys.modules if not name.startswith("_"))]))
"""


def repository(directory: Path, files: int) -> None:
    """A repository with one commit, and one staged change that concerns no model."""
    for number in range(files):
        (directory / f"module_{number}.py").write_text(f"answer = {number}\n", encoding="utf-8")
    _git(directory, ["init", "-q"], ["add", "."], [*PERSON, "commit", "-qm", "first"])
    (directory / "module_0.py").write_text("answer = 42\n", encoding="utf-8")
    _git(directory, ["add", "."])


def pointers(directory: Path, count: int) -> None:
    """Stages the Git LFS pointers of that many models, each with its card; their objects are in the repository's LFS store."""
    for number in range(count):
        weights = save({"model.embed_tokens.weight": np.full((16, 8), number, dtype=np.float32)})
        oid, model = hashlib.sha256(weights).hexdigest(), directory / f"models/m{number}"
        stored = directory / ".git/lfs/objects" / oid[:2] / oid[2:4]
        for folder in (stored, model):
            folder.mkdir(parents=True, exist_ok=True)
        (stored / oid).write_bytes(weights)
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(weights)}\n"
        (model / "model.safetensors").write_text(text, encoding="utf-8")
        (model / "README.md").write_text("---\nbase_model: acme/base\n---\n", encoding="utf-8")
    _git(directory, ["add", "models"])


def _git(directory: Path, *commands: list[str]) -> None:
    for command in commands:
        subprocess.run(["git", *command], cwd=directory, check=True)


def without_models(run: partial[subprocess.CompletedProcess[str]], repetitions: int) -> bool:
    """The cost for a commit that touches no model, and that nothing heavy is imported for it."""
    hook = partial(run, [sys.executable, "-m", "modelguard", "hook", "--staged"])
    taken = medians({"python": partial(run, [sys.executable, "-c", ""]), "hook": hook}, repetitions)
    said = run([sys.executable, "-c", WHILE_HOOKED], capture_output=True, text=True).stdout
    code, modules = json.loads(said.splitlines()[-1])
    heavy = [name for name in FORBIDDEN if name in modules]
    ours = [name for name in modules if name.startswith("modelguard")]
    print(f"python alone {taken['python']:.3f} s; exit code {code}; {len(modules)} modules, of them ours: {', '.join(ours)}")
    print(f"{'MISS' if heavy else 'ok  '} none of {', '.join(FORBIDDEN)} is imported" + (f": {', '.join(heavy)} are" if heavy else ""))
    return verdict("median wall time of the hook", taken["hook"], MAX_SECONDS, least=False, unit=" s") and not heavy and code == 0


def with_models(run: partial[subprocess.CompletedProcess[str]], repetitions: int) -> bool:
    """The cost for a commit of pointers, beside what git itself takes to show it."""
    hook = partial(run, [sys.executable, "-m", "modelguard", "hook", "--staged"])
    git = partial(run, ["git", "diff", "--cached", "--quiet", "--exit-code", "--no-ext-diff"], check=False)
    taken = medians({"git diff": git, "hook": hook}, repetitions)
    print(f"git diff --cached {taken['git diff']:.3f} s, the hook takes {taken['hook'] / taken['git diff']:.0f} times as long")
    return verdict("median wall time with staged pointers", taken["hook"], MAX_SECONDS_WITH_POINTERS, least=False, unit=" s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=500, help="files in the repository (default: 500)")
    parser.add_argument("--pointers", type=int, default=50, help="staged Git LFS pointers (default: 50)")
    parser.add_argument("--repetitions", type=int, default=11)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelguard-benchmark-") as directory:
        repository(Path(directory), options.size)
        run = partial(subprocess.run, cwd=directory, check=True)
        met = without_models(run, options.repetitions)
        pointers(Path(directory), options.pointers)
        met = with_models(run, options.repetitions) and met
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
