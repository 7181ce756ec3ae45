"""JSON and YAML without surprises: what is read, what is refused, and that refusing takes no time."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.documents import MAX_YAML_BYTES, MAX_YAML_DEPTH, json_object, yaml_document
from modelguard.errors import Malformed

JSON_REFUSED = {
    "empty": (b"", "not JSON"),
    "list": (b"[]", "not a JSON object"),
    "number": (b"1", "not a JSON object"),
    "null": (b"null", "not a JSON object"),
    "cut": (b'{"a": 1', "not JSON (line 1 column 8)"),
    "single-quotes": (b"{'a': 1}", "not JSON (line 1 column 2)"),
    "trailing-comma": (b'{"a": 1,}', "not JSON"),
    "two": (b"{}{}", "not JSON"),
    "bom": (b"\xef\xbb\xbf{}", "not JSON"),
    "nan": (b'{"a": NaN}', "NaN is no JSON number"),
    "infinity": (b'{"a": [Infinity]}', "Infinity is no JSON number"),
    "minus-infinity": (b'{"a": -Infinity}', "-Infinity is no JSON number"),
    "minus-zero": (b'{"a": -0}', "-0 is an integer to some"),
    "duplicate": (b'{"a": 1, "a": 1}', "the key 'a' stands twice"),
    "duplicate-escaped": (b'{"a": 1, "\\u0061": 1}', "the key 'a' stands twice"),
    "duplicate-inside": (b'{"x": [{"a": 1, "a": 2}]}', "the key 'a' stands twice"),
    "surrogate-key": (b'{"\\ud800": 1}', "lone surrogate"),
    "surrogate-value": (b'{"a": "\\udfff"}', "lone surrogate"),
    "latin-1": (b'{"a": "\xe9"}', "not UTF-8 at byte 7"),
    "utf-16": ("{}".encode("utf-16"), "not UTF-8"),
    "deep": (b'{"a":' + b"[" * 10**6, "nested too deeply"),
    "digits": (b'{"a":' + b"9" * 10**6 + b"}", "not JSON"),
    "control": (b'{"a": "\n"}', "not JSON"),
    "long-key": (b'{"%s": 1, "%s": 2}' % (b"k" * 10**5, b"k" * 10**5), "stands twice"),
}
YAML_REFUSED = {
    "alias": (b"a: &x [1]\nb: *x", "aliases are refused"),
    "bomb": (b"a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]", "aliases are refused"),
    "merge": (b"<<: {a: 1}", "not valid YAML"),
    "duplicate": (b"a: 1\nb: 2\na: 3", "x.yml:3:1: not valid YAML (duplicate key 'a')"),
    "duplicate-inside": (b"x:\n  - a: 1\n    'a': 2", "x.yml:3:5"),
    "python-tag": (b"a: !!python/object/apply:os.system ['true']", "tags are refused"),
    "bool-tag": (b"a: !!bool x", "tags are refused"),
    "int-tag": (b"a: !!int ''", "tags are refused"),
    "map-tag": (b"!!map [a, b]", "tags are refused"),
    "timestamp-tag": (b"a: !!timestamp x", "tags are refused"),
    "own-tag": (b"a: !secret x", "tags are refused"),
    "bare-tag": (b"a: ! x", "tags are refused"),
    "unhashable": (b"{a: 1}: 2", "not valid YAML"),
    "impossible-date": (b"a: 2024-13-45", "not valid YAML (ValueError)"),
    "impossible-number": (b"a: 0x_", "not valid YAML (ValueError)"),
    "tab": (b"a:\n\t- b", "x.yml:2:1"),
    "two-documents": (b"a: 1\n---\nb: 2", "not valid YAML"),
    "unclosed": (b"a: [1", "not valid YAML"),
    "latin-1": (b"a: \xe9", "not valid YAML"),
    "nul": (b"a: \0", "not valid YAML"),
    "surrogate": (b'a: "\\ud800"', "not valid YAML"),
    "large": (b"a: " + b"x" * MAX_YAML_BYTES, "larger than"),
    "deep-flow": (b"a: " + b"[" * 10**6, "nested too deeply"),
    "deep-maps": (b"{" * 10**6, "nested too deeply"),
    "deep-keys": (b"? " * 10**5, "nested too deeply"),
    "deep-block": (b"- " * 10**5, "nested too deeply"),
}


@pytest.mark.parametrize("case", JSON_REFUSED)
def test_json_that_parsers_could_read_differently_is_refused(case: str) -> None:
    data, said = JSON_REFUSED[case]
    started = time.process_time()
    with pytest.raises(Malformed, match=r"^x\.json: ") as caught:
        json_object(data, "x.json")
    assert time.process_time() - started < 2
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES, max_size=5), st.booleans())
def test_json_of_the_standard_library_is_read_back(value: dict[str, object], escaped: bool) -> None:
    try:
        text = json.dumps(value, ensure_ascii=escaped).encode()
    except UnicodeEncodeError:
        return
    try:
        assert json_object(text, "x") == value
    except Malformed as error:
        assert "surrogate" in str(error)  # noqa: PT017


@pytest.mark.parametrize("case", YAML_REFUSED)
def test_yaml_with_surprises_is_refused(case: str) -> None:
    data, said = YAML_REFUSED[case]
    started = time.process_time()
    with pytest.raises(Malformed, match=r"^x\.yml") as caught:
        yaml_document(data, "x.yml")
    assert time.process_time() - started < 2
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", None),
        (b"# a comment\n", None),
        (b"a: 1\nb: [x, 'y', \"z\"]\n", {"a": 1, "b": ["x", "y", "z"]}),
        (b"a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
        (b"---\na: yes\n", {"a": True}),
        ("ü: 模型\n".encode(), {"ü": "模型"}),
        (b"a:\r\n  - b\r\n", {"a": ["b"]}),
        (b"a: &anchor 1\n", {"a": 1}),
        (b"1: a\n2: b\n", {1: "a", 2: "b"}),
        (b"[" * MAX_YAML_DEPTH + b"]" * MAX_YAML_DEPTH, None),
    ],
)
def test_ordinary_yaml_is_read(data: bytes, value: object) -> None:
    read = yaml_document(data, "x")
    assert read == (yaml.safe_load(data) if value is None else value)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for reader in (yaml_document, json_object):
        try:
            reader(data, "x")
        except Malformed as error:
            assert str(error).startswith("x")  # noqa: PT017


YAMLISH = st.lists(
    st.sampled_from(["a", ": ", "\n", "- ", "[", "]", "{", "}", ",", "!!int", "&a ", "*a", "'", '"', "|", "?", " ", "0x_", "<<", "="]),
    max_size=14,
)


@settings(deadline=None, max_examples=300)
@given(YAMLISH.map("".join))
def test_anything_like_yaml_is_read_as_the_library_reads_it_or_refused(text: str) -> None:
    try:
        read = yaml_document(text.encode(), "x")
    except Malformed:
        return
    assert read == yaml.safe_load(text)


def test_a_large_card_is_read_in_time() -> None:
    data = b"a:\n" + b"  - {name: value, other: 1.5}\n" * 20_000
    started = time.process_time()
    read = yaml_document(data, "x")
    assert isinstance(read, dict)
    assert len(read["a"]) == 20_000
    assert time.process_time() - started < 20
