"""Size on disk of a fresh core install, which is what the git hook gets: `python -m benchmarks.install [--size MIB]`, the limit."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import verdict

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "modelguard")
LARGEST = 6


def size(path: Path) -> int:
    """Bytes of the regular files under a directory."""
    return sum(entry.lstat().st_size for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink())


def copied(directory: Path) -> Path:
    """The package's sources in a directory of their own, so that building leaves nothing behind in the repository."""
    directory.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, directory / name)
    return directory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=250, help="MiB that the environment may take (default: 250)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelguard-benchmark-") as directory:
        environment = Path(directory) / "environment"
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, str(copied(Path(directory) / "sources"))], check=True)
        packages = next((environment / "lib").glob("python*/site-packages"))
        parts = sorted(((size(entry), entry.name) for entry in packages.iterdir() if entry.is_dir()), reverse=True)[:LARGEST]
        total = size(environment) / (1 << 20)
    print("largest: " + ", ".join(f"{name} {part / (1 << 20):.1f}" for part, name in parts))
    return 0 if verdict("environment on disk", total, options.size, least=False, unit=" MiB") else 1


if __name__ == "__main__":
    sys.exit(main())
