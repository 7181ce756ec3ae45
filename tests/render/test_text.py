"""Whatever a stranger writes comes out as text: held against a real Markdown renderer and a port of the runner's two parsers."""

from __future__ import annotations

import html.parser
import re
import unicodedata

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import example, given
from hypothesis import strategies as st

from modelguard.render import text
from tests.servers import runner

ORDINARY = (
    "encoder.layer.0.output.dense.weight",
    "model.layers.31.self_attn.q_proj.lora_A.default.weight",
    "models/chat/model-00001-of-00004.safetensors",
    "hf:sentence-transformers/all-MiniLM-L6-v2@1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
    "step 1200 of 4800 (25%), loss = 0.1234; cadence: 10",
    "base_model.model.h.0.attn.c_attn#2 [0:768] {q,k,v} 'a' \"b\" ~c^d & *e* _f_ !g",
)
HOSTILE = (
    "",
    " ",
    "`",
    "``` \n```",
    "a`b``c",
    "| a | b |",
    "\\`\\|",
    "--> <img src=x onerror=alert(1)>",
    "<!-- modelguard:comment id=default head=0 -->",
    "@someone &#64;someone #1 https://example.org ![i](http://e/x.png)",
    "$x$ $`a`$",
    "a\r\n\r\n# heading\n\n- item",
    "\x1b[31mred\x1b[0m\x07",
    "\u202egnp.exe\u2066",
    "x ##[set-output name=verdict]pass",
    "::error::broken",
    "\u2003\x0b ::stop-commands::a",
    "\u200d::error::x",
    "#\u200d#[error]x",
    "##",
    "%0A::error::x",
    "a  b   c ",
    "\udcff\ud800",
    "\uff1a\uff1aerror::x \uff03#[error]x",
)
signs = st.sampled_from([*"`|\\$<>-:#[]!@&%\n\r\t ", "::error::", "##[error]", "-->", "<!--", "a", "\u200d", "\u3000"])
words = st.lists(signs).map("".join)
strings = st.one_of(words, st.text(max_size=200), st.text(alphabet=st.characters(categories=["Cc", "Cf", "Zs", "Zl", "Zp", "Cs", "Mn"])))


class Elements(html.parser.HTMLParser):
    """The elements, comments and code texts of a rendered fragment."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.comments: list[str] = []
        self.code: list[str] = []
        self.inside = False
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self.inside = tag == "code"
        if self.inside:
            self.code.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.code[-1] += data


def rendered(document: str) -> Elements:
    return Elements(cmarkgfm.github_flavored_markdown_to_html(document, Options.CMARK_OPT_UNSAFE))


def runner_commands(line: str) -> list[str]:
    return [command.name for command in runner.parse(line)]


def every_hostile_example(test):  # type: ignore[no-untyped-def]
    for one in HOSTILE:
        test = example(one)(test)
    return test


@every_hostile_example
@given(strings)
def test_markdown_in_a_paragraph_is_one_code_span(hostile: str) -> None:
    elements = rendered(f"before {text.markdown(hostile)} after\n")
    assert elements.tags == ["p", "code"]
    assert not elements.comments
    alone = rendered(text.markdown(hostile))
    assert alone.tags == ["p", "code"]


@every_hostile_example
@given(strings)
def test_markdown_in_a_table_cell_is_one_code_span(hostile: str) -> None:
    elements = rendered(f"| a | b |\n|---|---|\n| {text.markdown(hostile)} | {text.markdown('ok')} |\n\nend\n")
    assert elements.tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "code", "td", "code", "p"]
    assert elements.code[1] == "ok"


@every_hostile_example
@given(strings)
def test_markdown_cannot_leave_an_html_comment_or_make_a_formula(hostile: str) -> None:
    shown = text.markdown(hostile)
    assert rendered(f"<!-- {shown} -->\n\nend\n").tags == ["p"]
    assert "$" not in shown
    assert len(shown) <= 82
    assert shown.replace(text.ELLIPSIS, "").isascii()


@given(strings)
def test_markdown_shows_different_things_differently(hostile: str) -> None:
    limit = 10_000
    shown = text.markdown(hostile, limit)[1:-1]
    back = re.sub(r"\\x([0-9a-f]{2})|\\u\{([0-9a-f]+)\}", lambda match: chr(int(match[1] or match[2], 16)), shown)
    assert back == hostile or (hostile == "" and shown == text.NOTHING)
    assert rendered(text.markdown(hostile, limit)).code == [shown]


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_words_come_through_unchanged(name: str) -> None:
    assert text.markdown(name, 200) == f"`{name}`"
    assert text.terminal(name) == name
    assert rendered(text.markdown(name, 200)).code == [name]


@pytest.mark.parametrize(
    "line", ["  Überprüfung: 3 \u00d7 4 ≥ 12 → ok ✓ \u2013 “fine”", "模型权重", "pull request #12: step 5::6", "a # b"]
)
def test_the_terminal_keeps_what_people_read(line: str) -> None:
    assert text.terminal(line) == line


def test_long_words_keep_both_ends_and_whole_escapes() -> None:
    shown = text.markdown("model." + "\u202e" * 10_000_000 + ".weight")[1:-1]
    assert len(shown) <= 80
    assert shown.startswith("model.\\u{202e}")
    assert shown.endswith("\\u{202e}.weight")
    assert re.fullmatch(r"model\.(\\u\{202e\})+…(\\u\{202e\})+\.weight", shown)
    assert len(text.terminal("a" * 100_000, 100)) == 100
    assert text.markdown("abc", 1) == "`…`"


@every_hostile_example
@given(strings)
def test_the_runner_finds_no_command_in_a_terminal_line(hostile: str) -> None:
    shown = text.terminal(hostile)
    assert not runner_commands(shown)
    assert not runner_commands("  " + shown)
    assert not runner_commands("found: " + shown)
    assert "##" not in shown  # nor with a bracket that follows
    assert "#[" not in shown
    assert not shown.lstrip().startswith("::")


@every_hostile_example
@given(strings)
def test_a_terminal_line_is_one_inert_line(hostile: str) -> None:
    shown = text.terminal(hostile)
    assert all(unicodedata.category(c)[0] in "LNPS" or c == " " for c in shown)
    assert shown.splitlines() in ([shown], [])
    assert text.terminal(shown) == shown


def test_the_port_of_the_runner_finds_the_commands_that_we_fear() -> None:
    probes = ["::error::a", " \u2003::warning file=a::b", "\u200d::group::c", "x ##[set-output name=verdict]pass", "#\u200d#[x]"]
    assert [runner_commands(probe) for probe in probes] == [["error"], ["warning"], ["group"], ["set-output"], ["x"]]
    assert not runner_commands("a::error::b # [x]")


@given(strings, strings)
def test_a_workflow_command_carries_exactly_our_message(hostile: str, title: str) -> None:
    line = f"::error file=a,title={text.workflow_property(title)}::{text.workflow_data(hostile)}"
    assert line.splitlines() == [line]
    match = re.fullmatch(r"::(\w+) file=a,title=([^:,]*)::(.*)", line)
    assert match
    assert match[1] == "error"
    assert match[3].replace("%25", "%") == text.terminal(hostile)
    decoded = match[2].replace("%3A", ":").replace("%2C", ",").replace("%25", "%")
    assert decoded == text.terminal(title, 300)


@every_hostile_example
@given(strings)
def test_html_stays_text_in_elements_and_attributes(hostile: str) -> None:
    escaped = text.html(hostile)
    assert Elements(f'<b title="{escaped}">{escaped}</b>').tags == ["b"]
    assert not re.search(r"[<>\"'\x00-\x1f]", escaped)


marks = [
    "1.",
    "1)",
    "a",
    "&lt;",
    "&#64;",
    "+",
    "=",
    "===",
    "---",
    "http://e.x",
    "www.e.x",
    "GH-1",
    "a@b.c",
    "[x](y)",
    "![",
    "~~",
    "**",
    "<b>",
]
sentences = st.lists(st.sampled_from([*marks, " ", "\n", "`", "|", "\\", ":", "x"])).map("".join)


@every_hostile_example
@example("1.  x")
@given(st.one_of(strings, sentences))
def test_prose_is_words_and_code_spans_and_nothing_else(hostile: str) -> None:
    shown = text.prose(hostile)
    assert set(rendered(f"before {shown}\n").tags) <= {"p", "code"}
    assert set(rendered(f"- {shown} (rule)\n").tags) <= {"ul", "li", "code"}
    cells = rendered(f"| a | b |\n|---|---|\n| {shown} | z |\n\nend\n").tags
    assert [tag for tag in cells if tag != "code"] == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td", "p"]


def test_prose_leaves_our_sentences_alone() -> None:
    ours = "2 of 12 layers differ: the weights do not support the declared base (p below 1e-31), see step 12."
    assert text.prose(ours) == ours
    assert text.prose("see `a`|b: @all") == r"see `\x60a\x60\x7cb`: `@all`"
