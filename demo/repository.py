"""A model repository, built with real git: a main branch, and one branch for each pull request."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

MAIN = {
    "README.md": "# models\n\nCheckpoints that our services run: one directory a model, with its card and its training log.\n",
    ".modelguard.yml": "version: 1\n",
}
WHEN = "2026-01-15T09:00:00+00:00"
ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Model Author",
    "GIT_AUTHOR_EMAIL": "author@example.org",
    "GIT_COMMITTER_NAME": "Model Author",
    "GIT_COMMITTER_EMAIL": "author@example.org",
    "GIT_AUTHOR_DATE": WHEN,
    "GIT_COMMITTER_DATE": WHEN,
}


class Repository:
    """A repository at `path`; what was there before is thrown away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit(MAIN, "Start the model repository")

    def git(self, *arguments: str) -> str:
        """The output of one git command."""
        command = ("git", "-c", "core.looseCompression=0", "-c", "core.hooksPath=/dev/null", *arguments)
        done = subprocess.run(command, cwd=self.path, env={**os.environ, **ENVIRONMENT}, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str | Path], message: str) -> str:
        """A commit that writes these files (text, or a copy of another file) on the present branch; its id."""
        for name, content in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, target)
            else:
                target.write_text(content, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def branch(self, name: str, files: Mapping[str, str | Path], message: str) -> str:
        """A branch off main with one commit on it; its id."""
        self.git("checkout", "--quiet", "-B", name, "main")
        commit = self.commit(files, message)
        self.git("checkout", "--quiet", "main")
        return commit
