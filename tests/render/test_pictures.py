"""Pictures of characters, the terminal report, and JSON."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.render import json_v1, spark, terminal
from modelguard.types.findings import Status, Verdict
from modelguard.types.report import Matrix
from tests.render.reports import comparison, finding, model, report, strip, timeline


def test_a_strip_has_a_bar_a_layer() -> None:
    assert spark.strip(strip((0.0, 0.5, 1.0, None))) == "▁▅█·"


def test_the_lowest_of_several_layers_shows() -> None:
    values = tuple([1.0] * 119 + [0.0])
    assert spark.strip(strip(values), width=60)[-1] == "▁"


def test_a_timeline_falls_and_shades_what_is_missing() -> None:
    steps = [step for step in range(1, 101) if not 40 < step < 61]
    drawn = spark.timeline(timeline(tuple((step, 1 / step) for step in steps), gaps=((40, 61),)), width=50)
    assert len(drawn) == 50
    assert drawn[0] == "█"
    assert drawn[-1] == "▁"
    assert 8 <= drawn.count("░") <= 11
    assert "░" * drawn.count("░") in drawn


def test_a_missing_head_and_tail_are_shaded_too() -> None:
    drawn = spark.timeline(timeline(tuple((step, 1.0) for step in range(50, 101)), gaps=((0, 50), (100, 150))), width=30)
    assert drawn.startswith("░░░░░")
    assert drawn.endswith("░░░░░")


def test_no_points_no_picture() -> None:
    assert spark.timeline(timeline(())) == ""


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=50))
def test_any_timeline_has_its_width(points: list[tuple[int, float]]) -> None:
    assert len(spark.timeline(timeline(tuple(sorted(points))), width=40)) == 40


@pytest.mark.parametrize("colour", [True, False])
def test_the_terminal_shows_verdict_reason_and_pictures(colour: bool) -> None:
    shown = terminal.report(
        report(model(findings=(finding(Status.FOUND, "steps 1 to 9 are missing"),), exhibits=(strip((1.0,)),))), colour=colour
    )
    assert "inconsistent" in shown
    assert "steps 1 to 9 are missing" in shown
    assert ("\x1b[" in shown) is colour
    assert "→ the missing rows" in shown


def test_the_terminal_is_not_driven_by_strangers() -> None:
    hostile = "\x1b]0;title\x07\x1b[2J::error::x ##[set-output name=a]b [red]markup[/red]"
    shown = terminal.report(report(model(hostile, (finding(Status.FOUND, hostile),)), note=hostile))
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "##[" not in shown
    assert "[red]" in shown  # markup of the library is not interpreted
    assert "layers.0" in terminal.comparison(comparison())


def test_json_holds_no_number_that_json_lacks() -> None:
    text = json_v1.dumps({"a": math.nan, "b": [math.inf, 1.5], "c": {"d": -math.inf}})
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "c": {"d": None}}


def test_a_finding_is_spelled_as_the_contract_says() -> None:
    document = json_v1.audit_document(report(model(findings=(finding(Status.FOUND, "text", where="log.json"),))))
    assert document["verdict"] == Verdict.INCONSISTENT.value
    (told,) = json.loads(json_v1.dumps(document))["findings"]
    assert {key: told[key] for key in ("rule", "subject", "status", "severity", "confidence", "text", "numbers", "where", "why")} == {
        "rule": "log-gap", "subject": "m", "status": "found", "severity": "high", "confidence": "high", "text": "text",
        "numbers": {"missing": 12}, "where": "log.json", "why": "",
    }  # fmt: skip


def heat(values: tuple[tuple[float | None, ...], ...], top: float = 1.0) -> Matrix:
    rows, columns = tuple(map(str, range(len(values)))), tuple(map(str, range(len(values[0]) if values else 0)))
    return Matrix(title="layers", rows=rows, columns=columns, values=values, caption="alike", along="layer of the other network", top=top)


def test_a_heat_map_has_axes_shades_and_a_legend() -> None:
    lines = spark.matrix(heat(((0.4, 0.2, None), (0.0, 0.1, 0.3)), top=0.4))
    assert lines[0] == "down: layer of this model, across: layer of the other network"
    assert lines[1].split() == ["0", "2"]
    assert lines[2:4] == ("0 │██▒▒··│", "1 │  ░░▓▓│")
    assert lines[4].split() == ["░░", "0.10", "▒▒", "0.20", "▓▓", "0.30", "██", "0.40", "··", "not", "measured"]
    assert spark.matrix(heat(())) == ()


def test_the_column_numbers_stand_over_their_columns() -> None:
    lines = spark.matrix(heat(tuple(tuple(float(row == column) for column in range(60)) for row in range(40))))
    assert len(lines) == 24 + 3
    assert {len(line) for line in lines[2:-1]} == {2 + 1 + 1 + 48 + 1}
    assert lines[1].index("0") == lines[2].index("│") + 1
    assert lines[2].endswith("│")
    assert len(lines[1]) <= len(lines[2])
    assert max(map(len, lines)) <= 80


@given(st.lists(st.lists(st.none() | st.floats(), min_size=2, max_size=2).map(tuple), max_size=30).map(tuple), st.floats())
def test_no_numbers_break_a_heat_map(values: tuple[tuple[float | None, ...], ...], top: float) -> None:
    lines = spark.matrix(heat(values, top))
    assert len(lines) == (min(24, len(values)) + 3 if values else 0)


def test_the_terminal_says_what_a_heat_map_is() -> None:
    shown = terminal.report(report(model(exhibits=(heat(((0.4, 0.2), (0.0, 0.1)), top=0.4),))))
    assert "layers: alike" in shown
    assert "0 │██▒▒│" in shown
