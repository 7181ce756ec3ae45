"""A change of policy rehearsed on real clones: verdicts before and after, the rules that differ, the evidence collected once."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from safetensors.numpy import save

from demo.hub_server import HubServer
from tests.fingerprint.zoo import model
from tests.repositories import Repository
from tests.test_org import HONEST, POLICY, Run, clones, rows, run
from tests.test_weakening import CARD, GAP, ONLY_LOGS

__all__ = ("clones", "run")  # fixtures
ROOT = Path(__file__).parents[1]
LENIENT = ONLY_LOGS + "  log-gap: {severity: low}\n"


def policies(folder: Path, current: str, proposed: str) -> tuple[Path, Path]:
    for name, text in (("current.yml", current), ("proposed.yml", proposed)):
        (folder / name).write_text(text)
    return folder / "current.yml", folder / "proposed.yml"


def check(run: Run, clones: Path, current: Path, proposed: Path) -> tuple[int, dict[str, Any]]:
    code, text = run("policy", "check", proposed, clones, "--current", current, "--format", "json")
    return code, {name: row["models"] for name, row in rows(text).items()}


def test_a_tighter_policy_is_shown_with_what_it_would_stop(run: Run, clones: Path, tmp_path: Path) -> None:
    current, proposed = policies(tmp_path, LENIENT, ONLY_LOGS)
    for name in ("gap", "honest"):
        Repository(clones / name).commit({POLICY: None})
    code, models = check(run, clones, current, proposed)
    (gap,), (honest,) = models["gap"], models["honest"]
    assert code == 1
    assert gap["verdict"] == {"before": "consistent", "after": "inconsistent"}
    assert {"rule": "log-gap", "before": "warns", "after": "blocks"} in gap["rules"]
    assert (honest["verdict"], honest["rules"]) == ({"before": "consistent", "after": "consistent"}, [])
    assert (models["plain"], models["empty"]) == ([], [])
    assert {gap["collected"], honest["collected"]} == {1}


def test_what_is_shown_is_what_audits_under_either_policy_say(run: Run, clones: Path, tmp_path: Path) -> None:
    current, proposed = policies(tmp_path, LENIENT, "version: 1\nrequire: [declaration, log]\n")
    _, models = check(run, clones, current, proposed)
    for place, policy in (("before", current), ("after", proposed)):
        swept = rows(run("audit", clones, "--policy", policy, "--format", "json")[1])
        for name, tried in models.items():
            told = {item["subject"]: item["verdict"][place] for item in tried}
            assert told == {item["subject"]: item["verdict"] for item in swept[name]["models"]}, (name, place)


def test_a_looser_policy_stops_nothing_and_says_which_rule_goes(run: Run, clones: Path, tmp_path: Path) -> None:
    current, proposed = policies(tmp_path, ONLY_LOGS, ONLY_LOGS + "  log-gap: {enabled: false}\n")
    for name in ("gap", "honest"):
        Repository(clones / name).commit({POLICY: None})
    (clones / "empty").rename(tmp_path / "empty")
    code, models = check(run, clones, current, proposed)
    moved = {item["rule"]: (item["before"], item["after"]) for item in models["gap"][0]["rules"]}
    assert (code, moved["log-gap"]) == (0, ("blocks", "off"))
    assert models["honest"][0]["rules"] == [{"rule": "log-gap", "before": "passes", "after": "off"}]


def test_evidence_that_a_policy_asks_for_anew_is_collected_anew(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clones: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    parent = save(model(1))
    for name, weights in (("base", parent), ("other", save(model(2)))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(weights)
    with HubServer({"lab/base": tmp_path / "base", "lab/other": tmp_path / "other"}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        Repository(clones / "model").commit({"m/model.safetensors": parent, "m/README.md": CARD})
        pinned = "version: 1\nmodels: [{path: '**', base: 'hf:lab/%s'}]\n"
        current, proposed = policies(tmp_path, pinned % "base", pinned % "other")
        _, models = check(run, clones / "model", current, proposed)
        (told,) = models["model"]
        assert (told["verdict"], told["collected"]) == ({"before": "consistent", "after": "inconsistent"}, 2)
        current, proposed = policies(tmp_path, pinned % "base", pinned % "base" + "require: [log]\n")
        before = len(hub.requests)
        code, models = check(run, clones / "model", current, proposed)
        (told,) = models["model"]
        assert (code, told["verdict"]["after"], told["collected"]) == (2, "cannot-determine", 1)
        assert [item["rule"] for item in told["rules"]]
        assert not [one for one in hub.requests[before:] if "/resolve/" in one.path]


def test_all_that_collecting_asks_of_a_policy_is_held_against_the_other_policy() -> None:
    """Evidence is shared only where the policies agree in what `rehearsal.grounds` names: collecting must ask for nothing else."""
    asked = set()
    for module in ("evidence", "sides", "declared_bases"):
        for node in ast.walk(ast.parse((ROOT / f"modelguard/{module}.py").read_text())):
            if isinstance(node, ast.Attribute) and re.fullmatch(r"(self\._)?policy(\.document)?", ast.unparse(node.value)):
                asked.add(node.attr)
    assert asked == {"base_of", "names", "alpha", "document", "controls", "behaviour", "require"}


def test_the_table_names_what_moves_and_counts_the_rest(run: Run, clones: Path, tmp_path: Path) -> None:
    current, proposed = policies(tmp_path, LENIENT, ONLY_LOGS)
    for name in ("gap", "honest"):
        Repository(clones / name).commit({POLICY: None})
    code, text = run("policy", "check", proposed, clones, "--current", current)
    page = cmarkgfm.github_flavored_markdown_to_html(text, Options.CMARK_OPT_UNSAFE)
    assert code == 1
    assert "1 verdict of 2 would change" in page
    cells = (
        "<td><code>gap</code></td>\n<td><code>m/model.safetensors</code></td>\n<td>consistent</td>\n<td><strong>inconsistent</strong></td>"
    )
    assert cells in page
    assert "<code>log-gap</code> warns → blocks" in page
    assert "1 model would be judged as today" in page


def test_settings_alone_audit_nothing(run: Run, clones: Path, tmp_path: Path) -> None:
    current, proposed = policies(tmp_path, LENIENT, ONLY_LOGS)
    code, text = run("policy", "check", proposed, clones / "honest", "--current", current, "--settings-only", "--format", "json")
    assert (rows(text)["honest"]["models"], rows(text)["honest"]["why"]) == ([], "")
    assert code == 0


def test_a_repository_that_cannot_be_looked_at_stops_no_other(run: Run, clones: Path, tmp_path: Path) -> None:
    current, proposed = policies(tmp_path, LENIENT, ONLY_LOGS)
    broken = Repository(clones / "broken").commit({**HONEST})
    tree = Repository(clones / "broken").git("rev-parse", f"{broken}:m")
    (clones / "broken/.git/objects" / tree[:2] / tree[2:]).unlink()
    code, text = run("policy", "check", proposed, clones, "--current", current, "--format", "json")
    answers = {name: row["answer"] for name, row in rows(text).items()}
    assert answers["broken"] in ("unread", "not understood")
    assert rows(text)["gap"]["models"]
    assert code in (1, 2)
    assert "Traceback" not in text


def test_a_model_in_a_strange_place_cannot_break_the_table(run: Run, tmp_path: Path, clones: Path) -> None:
    strange = "a|b`<script>\n## x"
    files = {path.replace("m/", f"{strange}/", 1): content for path, content in GAP.items()}
    Repository(clones / "strange").commit(files)
    current, proposed = policies(tmp_path, LENIENT, ONLY_LOGS)
    _, text = run("policy", "check", proposed, clones / "strange", "--current", current)
    page = cmarkgfm.github_flavored_markdown_to_html(text, Options.CMARK_OPT_UNSAFE)
    assert "<script" not in page
    assert page.count("<tr>") == 2
