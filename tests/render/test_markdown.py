"""The comment as GitHub would render it: nothing that a stranger names becomes markup, and no size keeps the verdict from being said."""

from __future__ import annotations

import re

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import given
from hypothesis import strategies as st

from modelguard.render.markdown import comment
from modelguard.types.findings import Status, Verdict
from tests.render.reports import finding, model, report, strip, timeline

HOSTILE = [
    "x](https://evil.example) ![p](https://evil.example/p.png)",
    "</details><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "| a | b |\n|---|---|",
    "`` ` ```\n# heading",
    "@octocat #1 GH-2 https://evil.example www.evil.example",
    "-->\n<!-- modelguard -->",
    "\u202egnp.exe\x1b[31m",
    "$$\\frac{1}{0}$$",
    "&#64;octocat &lt;b&gt;",
    "1. one\n2. two",
]
ALLOWED_TAGS = {
    "h3",
    "h4",
    "p",
    "code",
    "ul",
    "li",
    "strong",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "details",
    "summary",
    "blockquote",
    "sup",
}


def render(markdown: str) -> str:
    return str(cmarkgfm.github_flavored_markdown_to_html(markdown, options=Options.CMARK_OPT_UNSAFE))


def hostile_comment(text: str) -> str:
    everything = (finding(Status.FOUND, text, subject=text, where=text), finding(Status.UNKNOWN, text), finding(Status.OK, text))
    return comment(report(model(text, everything, (timeline(((1, 1.0), (2, 0.5)), title=text),)), note=text))


def check_inert(markdown: str) -> None:
    html = render(markdown)
    tags = set(re.findall(r"</?([a-zA-Z][\w-]*)", re.sub(r"<code>.*?</code>", "<code></code>", html, flags=re.DOTALL)))
    assert tags <= ALLOWED_TAGS, tags - ALLOWED_TAGS
    outside = re.sub(r"<code>.*?</code>", "", html, flags=re.DOTALL)
    assert not re.search(r"@\w|https?:|www\.|#\d|GH-\d", outside)
    assert html.count("<details>") == html.count("</details>") == 2
    assert html.count("<table>") == 3


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_are_inert(text: str) -> None:
    check_inert(hostile_comment(text))


@given(st.text(max_size=120))
def test_any_words_are_inert(text: str) -> None:
    check_inert(hostile_comment(text))


def test_ordinary_names_stay_readable() -> None:
    html = render(
        comment(report(model("models/chat/model.safetensors", (finding(Status.FOUND, "steps 200 to 300 are not in the log: 11 records"),))))
    )
    assert "models/chat/model.safetensors" in html
    assert "steps 200 to 300 are not in the log: 11 records" in html


@pytest.mark.parametrize("verdict", Verdict)
def test_the_verdict_stands_first(verdict: Verdict) -> None:
    assert comment(report(model(), verdict=verdict)).splitlines()[0].endswith(verdict.value.replace("-", " "))


@pytest.mark.parametrize("models", [1, 50, 3000])
def test_a_comment_fits_and_counts_what_it_leaves_out(models: int) -> None:
    many = tuple(model(f"m{number}", tuple(finding(Status.FOUND, f"hole {hole} " * 20) for hole in range(30))) for number in range(models))
    body = comment(report(*many))
    assert len(body) <= 65_536
    assert body.startswith("### ❌ modelguard: inconsistent")
    assert models == 1 or "more models are in the full report" in body


def test_a_clean_report_is_one_sentence_with_everything_folded() -> None:
    told = (
        finding(Status.OK, "the weights carry the declared base", rule="weights-base-mismatch"),
        finding(Status.OK, "no step is left out"),
    )
    body = comment(report(model(findings=told), verdict=Verdict.CONSISTENT))
    visible = re.sub(r"<details>.*?</details>", "", body, flags=re.DOTALL)
    assert "The weights carry the declared base. No step is left out." in visible
    assert len([line for line in visible.splitlines() if line.strip()]) <= 4


def test_pictures_and_the_command_to_repeat_are_there() -> None:
    pictures = (strip((1.0, 0.5, None)), timeline(((1, 2.0), (50, 1.0)), gaps=((10, 30),)))
    body = comment(report(model(exhibits=pictures)))
    assert "█" in body
    assert "░" in body
    assert "nothing between steps 10 and 30" in body
    assert "modelguard audit --base a --head b" in body


def test_one_reason_for_several_rules_is_said_once() -> None:
    open_ = tuple(finding(Status.UNKNOWN, "no training log", rule=rule) for rule in ("log-gap", "log-head"))
    body = comment(report(model(findings=open_)))
    assert body.count("no training log (log-gap, log-head)") == 1
