"""The page: whole, self-contained, and inert whatever strangers call their things."""

from __future__ import annotations

import html.parser
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelguard.render import html as page
from modelguard.render import spark, svg
from modelguard.types.findings import Status, Verdict
from modelguard.types.report import Band, Edge, Lineage, Matrix, Panel, Timeline
from tests.render.reports import comparison, finding, model, report, strip, timeline
from tests.requirement import require

TAGS = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "code", "strong", "section", "div", "table"}
TAGS |= {"thead", "tbody", "tr", "th", "td", "figure", "figcaption", "footer"}
TAGS |= {"svg", "text", "line", "rect", "path", "g"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&lt;\u202e\x1b[31m"


class Seen(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def seen(text: str) -> Seen:
    parser = Seen()
    parser.feed(text)
    parser.close()
    return parser


def everything(name: str) -> str:
    """A page with every kind of picture, where every name is the given one."""
    pictures = (
        Lineage(title=name, edges=(Edge(child=name, parent=name, label=name, tone="found"),), caption=name),
        Band(title=name, value=0.8, low=0.7, high=0.9, controls=(0.1, 0.2), limit=0.4, caption=name),
        Matrix(title=name, rows=(name, name), columns=(name,), values=((0.5,), (None,)), caption=name),
        Timeline(
            title=name,
            metric=name,
            points=((1, 2.0), (5, 1.0)),
            gaps=((2, 4),),
            restarts=(5,),
            caption=name,
            panels=(Panel(name=name, unit=name, points=((1.0, 1.0), (5.0, math.inf))),),
        ),
        strip((0.1, None, 1.0)),
    )
    claims = (finding(Status.FOUND, name), finding(Status.UNKNOWN, name, rule="log-tail"))
    return page.page(report(model(name, claims, pictures), note=name))


@given(st.text(max_size=60))
def test_no_name_becomes_markup(name: str) -> None:
    parsed = seen(everything(name))
    assert parsed.tags <= TAGS
    assert not [key for key, _ in parsed.attributes if key.startswith("on") or key in ("href", "src", "style")]


def test_a_hostile_name_is_shown_as_text() -> None:
    written = everything(HOSTILE)
    assert "<script" not in written
    assert "<img" not in written
    assert "\u202e" not in written
    assert "<script>alert(1)</script>" in "".join(seen(written).texts)


def test_a_page_asks_for_nothing() -> None:
    written = everything("models/chat")
    assert "default-src 'none'" in written
    assert not re.search(r"https?://|url\(|@import|<script|<link", written)


def test_the_verdict_stands_first_and_findings_before_passes() -> None:
    claims = (finding(Status.OK, "steps follow"), finding(Status.FOUND, "steps are missing", rule="log-tail"))
    text = "".join(seen(page.page(report(model("m", claims)))).texts)
    assert text.index("inconsistent") < text.index("steps are missing") < text.index("steps follow")


def test_every_picture_is_told_in_words() -> None:
    written = everything("models/chat")
    assert written.count("<svg ") == 5
    assert len(re.findall(r'<svg [^>]* role="img" aria-label="[^"]+"', written)) == 5


def test_a_gap_breaks_the_line_and_is_shaded() -> None:
    drawn = svg.picture(timeline(((1, 3.0), (2, 2.5), (9, 2.0), (10, 1.9)), gaps=((2, 9),)))
    assert drawn.count('class="line"') == 2
    assert "nothing between step 2 and 9" in drawn


@pytest.mark.parametrize("points", [((1, math.nan),), (), ((1, 1e308), (2, -1e140), (3, 1e140)), ((3, 0.0),), ((1, 5.0), (2, 5.0))])
def test_no_values_break_a_picture(points: tuple[tuple[int, float], ...]) -> None:
    drawn = svg.picture(timeline(points))
    assert "nan" not in drawn
    assert "inf" not in drawn
    assert ("<svg" in drawn) == any(math.isfinite(value) for _, value in points)


@given(st.floats(-1e150, 1e150), st.floats(1e-250, 1e150))
def test_ticks_are_few_and_inside(low: float, width: float) -> None:
    marks = svg.ticks(low, low + width)
    assert 1 <= len(marks) <= 7
    assert all(low - width * 1e-6 <= mark <= low + width * (1 + 1e-6) for mark in marks) or len(marks) == 1


def test_a_log_and_a_comparison_have_pages_of_their_own() -> None:
    assert "inconsistent" in page.log_page([finding(Status.FOUND, "x")], Verdict.INCONSISTENT, [timeline(((1, 1.0), (2, 2.0)))])
    assert "unrelated" in page.compare_page(comparison(), [strip((1.0,))])


@pytest.mark.slow
def test_a_browser_draws_it_without_a_complaint(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or ""
    require("browser", browser, "chromium is not installed")
    (tmp_path / "page.html").write_text(everything(HOSTILE), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=1000,2000"]
    command += [f"--screenshot={tmp_path / 'page.png'}", f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "page.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (tmp_path / "page.png").stat().st_size > 20_000
    assert "CONSOLE" not in done.stderr


def test_a_band_shows_the_controls_the_limit_and_the_model() -> None:
    band = Band(title="errors", value=0.8, low=0.7, high=0.9, controls=(0.1, 0.2), limit=0.4, caption="2 controls")
    drawn = svg.picture(band)
    assert "controls: 0.100 to 0.200" in drawn
    assert "this model: 0.800, interval 0.700 to 0.900" in drawn
    line = spark.band(band, width=41)
    assert (line[4], line[8], line[16], line[32], line[28], len(line)) == ("▒", "▒", "│", "●", "─", 41)


@given(st.tuples(*[st.floats()] * 4), st.lists(st.floats(), max_size=4))
def test_no_numbers_break_a_band(values: tuple[float, ...], controls: list[float]) -> None:
    value, low, high, limit = values
    band = Band(title="t", value=value, low=low, high=high, controls=tuple(controls), limit=limit, caption="c")
    assert "nan" not in svg.picture(band)
    assert len(spark.band(band, width=30)) in (0, 30)


def test_a_heat_map_has_axes_a_legend_and_words_for_every_cell() -> None:
    matrix = Matrix(
        title="t",
        rows=("layer 0", "layer 1"),
        columns=("layer 0",),
        values=((0.2,), (None,)),
        caption="c",
        along="layer of the other",
        top=0.2,
    )
    drawn = svg.picture(matrix)
    assert "layer of this model (down)" in drawn
    assert "layer of the other (across)" in drawn
    assert 'class="heat heat10"><title>layer 0 and layer 0: 0.200' in drawn
    assert "layer 1 and layer 0: not measured" in drawn
    assert [f">{level}</text>" in drawn for level in ("0.00", "0.10", "0.20")] == [True] * 3
    assert 'aria-label="t: c"' in drawn


@given(st.none() | st.floats(), st.floats())
def test_no_numbers_break_a_heat_map(value: float | None, top: float) -> None:
    drawn = svg.picture(Matrix(title="t", rows=("a",), columns=("b",), values=((value,),), caption="c", top=top))
    assert "nan" not in drawn
    assert "inf" not in drawn
