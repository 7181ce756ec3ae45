"""What the git hook costs a commit that touches no model: `python -m benchmarks.hook [--size N]`, N files in the repository."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.timing import medians, verdict

MAX_SECONDS = 0.4
FORBIDDEN = ("torch", "transformers", "scipy", "github", "huggingface_hub", "numpy")
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
    person = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@invalid", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*person, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=directory, check=True)
    (directory / "module_0.py").write_text("answer = 42\n", encoding="utf-8")
    subprocess.run(["git", "add", "."], cwd=directory, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=500, help="files in the repository (default: 500)")
    parser.add_argument("--repetitions", type=int, default=11)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelguard-benchmark-") as directory:
        repository(Path(directory), options.size)
        run = partial(subprocess.run, cwd=directory, check=True)
        hook = partial(run, [sys.executable, "-m", "modelguard", "hook", "--staged"])
        taken = medians({"python": partial(run, [sys.executable, "-c", ""]), "hook": hook}, options.repetitions)
        said = run([sys.executable, "-c", WHILE_HOOKED], capture_output=True, text=True).stdout
    code, modules = json.loads(said.splitlines()[-1])
    heavy = [name for name in FORBIDDEN if name in modules]
    ours = [name for name in modules if name.startswith("modelguard")]
    print(f"python alone {taken['python']:.3f} s; exit code {code}; {len(modules)} modules, of them ours: {', '.join(ours)}")
    print(f"{'MISS' if heavy else 'ok  '} none of {', '.join(FORBIDDEN)} is imported" + (f": {', '.join(heavy)} are" if heavy else ""))
    met = verdict("median wall time of the hook", taken["hook"], MAX_SECONDS, least=False, unit=" s")
    return 0 if met and not heavy and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
