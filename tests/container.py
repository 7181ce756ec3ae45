"""The image of the real Dockerfile, built and run without an engine: buildah in a chroot, over a Debian made by debootstrap."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.once import alone

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".cache/container"  # the Debian below the image, which takes a minute and a half to make
PROGRAMS = ("buildah", "debootstrap")
PACKAGES = "ca-certificates,python3,python3-venv,python3-pip,git"
BASE, IMAGE = "localhost/modelguard-base", "localhost/modelguard"
ATTEMPTS = 3  # mirrors fail at times
CERTIFICATES = "/etc/ssl/certs"


def available() -> bool:
    """Whether images can be built here: both programs, and root, which a chroot needs."""
    return os.geteuid() == 0 and all(shutil.which(program, path=_path()) for program in PROGRAMS)


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Ran:
    """How a container ended; `seconds` is what its command took inside."""

    code: int
    output: str
    seconds: float


@dataclass(frozen=True)
class Engine:
    """A store of images of its own, so that nothing of the machine's is touched and all of it can be thrown away."""

    folder: Path

    def buildah(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        store = ("--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run"), "--storage-driver", "vfs")
        environ = {"PATH": _path(), "HOME": str(self.folder), "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(self.folder)}
        done = subprocess.run(("buildah", *store, *arguments), env=environ, capture_output=True, text=True, check=False, timeout=900)
        assert not check or done.returncode == 0, f"buildah {arguments[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done

    def base(self) -> None:
        """The image that the Dockerfile's FROM is given: Debian with Python under the names that python:3.11-slim has."""
        context = self.folder / "base"
        context.mkdir()
        os.link(_debian(), context / "base.tar") if _same_device(KEPT, context) else shutil.copy(_debian(), context / "base.tar")
        (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n", encoding="utf-8")
        self.buildah("bud", "--isolation", "chroot", "--tag", BASE, str(context))
        shutil.rmtree(context)

    def build(self, target: str, **arguments: str) -> str:
        """A target of the repository's own Dockerfile. pip is told what it is told outside: where packages are, and whom to trust."""
        volumes = [part for path in _for_pip() for part in ("--volume", f"{path}:{path}:ro")]
        given = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
        tag = f"{IMAGE}:{target}"
        options = ("--isolation", "chroot", "--pull-never", "--build-arg", f"BASE_IMAGE={BASE}", "--target", target, "--tag", tag)
        self.buildah("bud", *options, *given, *volumes, str(ROOT))
        return tag

    def save(self, image: str, file: Path) -> None:
        """An image as one file, as `docker save` writes it."""
        self.buildah("push", "--quiet", image, f"docker-archive:{file}:{image}")

    def load(self, file: Path) -> None:
        """The image of such a file, under the name that stands in it."""
        self.buildah("pull", "--quiet", f"docker-archive:{file}")

    def container(self, image: str) -> str:
        return self.buildah("from", "--pull-never", image).stdout.strip()

    def size(self, container: str) -> int:
        """Bytes of all files that a container starts with."""
        place = self.buildah("mount", container).stdout.strip()
        counted = subprocess.run(("du", "--summarize", "--bytes", "--one-file-system", place), capture_output=True, text=True, check=True)
        self.buildah("umount", container)
        return int(counted.stdout.split()[0])

    def entry_point(self, container: str) -> list[str]:
        configured = json.loads(self.buildah("inspect", "--type", "container", container).stdout)["OCIv1"]["config"]
        return list(configured["Entrypoint"])

    def run(self, container: str, mounts: Mapping[Path, str], environ: Mapping[str, str], workdir: str, *command: str) -> Ran:
        """A command, or else the image's own entry point, as root, without a home."""
        volumes = [part for outside, inside in mounts.items() for part in ("--volume", f"{outside}:{inside}")]
        given = [part for name, value in environ.items() for part in ("--env", f"{name}={value}")]
        timed = ["bash", "-c", 'unset HOME; TIMEFORMAT="seconds %R"; time "$@"', "--", *(command or self.entry_point(container))]
        done = self.buildah("run", "--isolation", "chroot", *volumes, *given, "--workingdir", workdir, container, "--", *timed, check=False)
        taken = re.findall(r"^seconds (\d+\.\d+)$", done.stderr, re.MULTILINE)
        assert taken, (done.returncode, done.stdout, done.stderr)
        return Ran(done.returncode, done.stdout + done.stderr, float(taken[-1]))

    def discard(self) -> None:
        """Throws all containers and images away."""
        self.buildah("rm", "--all", check=False)
        self.buildah("rmi", "--all", "--force", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _debian() -> Path:
    """A minimal Debian as a tar file, made once."""
    with alone(KEPT):
        kept = KEPT / "base.tar"
        return kept if kept.exists() else _bootstrapped(kept)


def _bootstrapped(kept: Path) -> Path:
    KEPT.mkdir(parents=True, exist_ok=True)
    root = KEPT / "rootfs"
    said = [_debootstrap(root) for _ in range(ATTEMPTS) if not (root / "usr/bin/git").exists()]
    assert not said[-1], said[-1]
    (root / "usr/bin/python").symlink_to("python3")
    for marker in (root / "usr/lib").glob("python3*/EXTERNALLY-MANAGED"):
        marker.unlink()
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    subprocess.run(("tar", "-C", str(root), "-c", ".", "-f", str(kept.with_suffix(".part"))), check=True)
    kept.with_suffix(".part").rename(kept)
    shutil.rmtree(root)
    return kept


def _debootstrap(root: Path) -> str:
    """Makes a Debian, or says why it cannot."""
    shutil.rmtree(root, ignore_errors=True)
    environ = {**os.environ, "PATH": _path()}
    command = ("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root))
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode == 0:
        return ""
    shutil.rmtree(root, ignore_errors=True)
    free = shutil.disk_usage(root.parent).free >> 20
    return f"debootstrap ({free} MiB free): {done.stdout[-1000:]}{done.stderr[-1000:]}"


def _same_device(one: Path, other: Path) -> bool:
    KEPT.mkdir(parents=True, exist_ok=True)
    return one.stat().st_dev == other.stat().st_dev


def _for_pip() -> tuple[str, ...]:
    """pip's configuration files, the local paths that stand in them, and the machine's certificates."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "config")
    home = os.environ | {"HOME": pwd.getpwuid(os.geteuid()).pw_dir}  # the tests' own home has no configuration
    debug = subprocess.run((*pip, "debug"), env=home, capture_output=True, text=True, check=True).stdout
    values = subprocess.run((*pip, "list"), env=home, capture_output=True, text=True, check=True).stdout
    files = re.findall(r"^\s+(/\S+), exists: True$", debug, re.MULTILINE)
    found = [Path(path) for path in re.findall(r"(?<![:\w/.])(?:file://)?(/[\w./-]+)", values)]
    named = [str(path.parent if path.name == "simple" else path) for path in found if path.exists()]  # an index links to files beside it
    covered = [path for path in named if not path.startswith(f"{CERTIFICATES}/")]
    return tuple(dict.fromkeys((*files, *covered, CERTIFICATES)))
