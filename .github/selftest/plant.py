"""Commits a small model to the repository at hand, honest or with a hole in its log, and has the Action find it as an event's change.

`python3 plant.py fake|honest EVENT_PATH`. It needs git and nothing else: it runs before anything is installed.

The runner writes the event's file anew before every step, and lets no step name another one. So the planted event lies in the workspace's
`.git`, and the copy of action.yml that is checked out here gets an entry point that names it and goes on as the image does.
"""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
from pathlib import Path

STEPS = range(10, 1001, 10)
MISSING = range(400, 600)
PLACE = Path(".git/selftest")
INSIDE = f"/github/workspace/{PLACE}"  # as the container sees it
ENTRY = f"""\
#!/bin/sh
export GITHUB_EVENT_PATH={INSIDE}/event.json
exec python /entrypoint.py
"""
WHO = ("-c", "user.name=selftest", "-c", "user.email=selftest@invalid", "-c", "commit.gpgsign=false")


def weights() -> bytes:
    """A safetensors file with one matrix of 16 by 16 entries."""
    chance = random.Random(0)
    data = struct.pack("<256f", *(chance.gauss(0, 0.02) for _ in range(256)))
    header = json.dumps({"layer.weight": {"dtype": "F32", "shape": [16, 16], "data_offsets": [0, len(data)]}}).encode()
    return len(header).to_bytes(8, "little") + header + data


def log(*, hole: bool) -> str:
    """A trainer's state, whole or without the steps in the middle."""
    chance = random.Random(1)
    steps = [step for step in STEPS if not (hole and step in MISSING)]
    rows = [{"step": step, "epoch": step / 100, "loss": round(2 / (1 + step / 50) + chance.gauss(0, 0.01), 4)} for step in steps]
    state = {"global_step": STEPS[-1], "max_steps": STEPS[-1], "logging_steps": 10, "save_steps": 500, "log_history": rows}
    return json.dumps(state, indent=2, sort_keys=True)


def git(*arguments: str) -> str:
    """The output of one git command."""
    return subprocess.run(("git", *arguments), check=True, capture_output=True, text=True).stdout.strip()


def main(model: str, event: Path) -> None:
    base = git("rev-parse", "HEAD")
    folder = Path("selftest-model")
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights())
    (folder / "trainer_state.json").write_text(log(hole=model == "fake"), encoding="utf-8")
    (folder / "README.md").write_text("# A planted model\n", encoding="utf-8")
    git("add", str(folder))
    git(*WHO, "commit", "--quiet", "--message", "Plant a model")
    head = git("rev-parse", "HEAD")
    payload = json.loads(event.read_text(encoding="utf-8"))
    if "pull_request" in payload:
        payload["pull_request"]["base"]["sha"], payload["pull_request"]["head"]["sha"] = base, head
    else:
        payload["before"], payload["after"] = base, head
    hand_over(payload)


def hand_over(payload: object) -> None:
    """Writes the event, the entry point, and the line of action.yml that names it."""
    PLACE.mkdir()
    (PLACE / "event.json").write_text(json.dumps(payload), encoding="utf-8")
    (PLACE / "entry").write_text(ENTRY, encoding="utf-8")
    (PLACE / "entry").chmod(0o755)
    action = Path("action.yml")
    text, image = action.read_text(encoding="utf-8"), "\n  image: Dockerfile\n"
    if text.count(image) != 1:
        sys.exit("action.yml: no place for the entry point")
    action.write_text(text.replace(image, f"{image}  entrypoint: {INSIDE}/entry\n"), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
