"""What a model's papers declare, and names that lead nowhere."""

from __future__ import annotations

import json

import pytest

from modelguard.declaration import MAX_BASES, declare, front_matter, reference
from modelguard.errors import Malformed
from modelguard.types.changes import BaseReference, Declaration

HOSTILE = (
    *(
        "",
        " ",
        "/",
        "//",
        ".",
        "..",
        "./",
        "../",
        "./model",
        "../model",
        "../../etc/passwd",
        "/etc/passwd",
        "/data/models/base",
        "~/base",
        "~",
    ),
    *("org/", "/name", "org//name", "org/name/", "org/name/more", "a/b/c/d", "org/..", "../name", "org/../name", "org/na..me", "-org/name"),
    *(
        "org/-name",
        ".org/name",
        "org/.name",
        "_org/name",
        "org\\name",
        "C:\\base",
        "C:/base",
        "\\\\host\\share",
        "org/name\n",
        "\norg/name",
    ),
    *(
        "org/name\0",
        "org\t/name",
        " org/name",
        "org/name ",
        "org /name",
        "http://example.org/m",
        "https://169.254.169.254/latest",
        "file:///etc",
    ),
    *("git@github.com:org/name", "ssh://h/x", "s3://bucket/key", "gs://b/k", "hf:hf:org/name", "hf:", "hf:/", "HF:org/name", "registry:x"),
    *("org/name?download=1", "org/name#main", "org/name;id", "$(id)", "`id`", "org/$NAME", "${{ secrets.X }}", "org/name|x", "org/na*me"),
    *("örg/name", "org/nаme", "org/name\u202e", "org/\ufeffname", "١/name", "org/name@", "org/name@/", "org/name@../x", "org/name@a b"),
    *(
        "org/name@a..b",
        "org/name@@main",
        "org/name@refs/pr/1",
        "org/name@-x",
        "org/name@main\n",
        "@main",
        "%2e%2e/name",
        "o" * 97,
        "org/" + "n" * 97,
    ),
    *(
        "org/name@" + "r" * 201,
        "org/[name]",
        "<org/name>",
        "'org/name'",
        "org:name",
        "org/name:latest",
        "--help",
        "-",
        "@",
        "\u200borg/name",
    ),
)
SOUND = {
    "gpt2": BaseReference(name="gpt2", revision=None, source="s"),
    "org/name": BaseReference(name="org/name", revision=None, source="s"),
    "hf:org/name": BaseReference(name="org/name", revision=None, source="s"),
    "org/name@main": BaseReference(name="org/name", revision="main", source="s"),
    "hf:org/name@" + "a1" * 20: BaseReference(name="org/name", revision="a1" * 20, source="s"),
    "0rg-x_y.z/N4me-v1.5_b": BaseReference(name="0rg-x_y.z/N4me-v1.5_b", revision=None, source="s"),
    "o" * 96 + "/" + "n" * 96: BaseReference(name="o" * 96 + "/" + "n" * 96, revision=None, source="s"),
}


def declared(card: str | bytes | None = None, *, adapter: object = None, pin: str | None = None) -> Declaration:
    text = card.encode() if isinstance(card, str) else card
    config = None if adapter is None else json.dumps(adapter).encode()
    return declare(card=text, card_name="README.md", adapter=config, adapter_name="adapter_config.json", pin=pin)


def names(declaration: Declaration) -> list[str]:
    return [base.text for base in declaration.bases]


def card(text: str) -> str:
    return f"---\n{text}\n---\n# Model\n"


def test_there_are_enough_hostile_names() -> None:
    assert len(set(HOSTILE)) >= 60


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_names_no_model(name: str) -> None:
    with pytest.raises(Malformed, match="names no model of the hub") as caught:
        reference(name, "README.md")
    assert str(caught.value).startswith("README.md: ")
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isascii()
    assert caught.value.advice
    if name:
        with pytest.raises(Malformed):
            declared(card(f"base_model: [gpt2, {json.dumps(name)}]"))
        with pytest.raises(Malformed):
            declared(adapter={"base_model_name_or_path": name})


@pytest.mark.parametrize("text", SOUND)
def test_names_of_the_hub(text: str) -> None:
    assert reference(text, "s") == SOUND[text]


@pytest.mark.parametrize(
    ("text", "bases"),
    [
        ("base_model: org/name", ["org/name"]),
        ("base_model: 'org/name'", ["org/name"]),
        ("base_model: [org/a, org/b@v1]", ["org/a", "org/b@v1"]),
        ("base_model:\n- org/a\n- org/b", ["org/a", "org/b"]),
        ("base_model:", []),
        ("base_model: ''", []),
        ("base_model: []", []),
        ("license: mit", []),
        ("", []),
        ("# only a comment", []),
    ],
)
@pytest.mark.parametrize("style", ["unix", "windows", "bom", "blank-lines", "spaces", "no-body"])
def test_front_matter_in_every_style(text: str, bases: list[str], style: str) -> None:
    whole = card(text)
    whole = {
        "windows": whole.replace("\n", "\r\n"),
        "bom": "\ufeff" + whole,
        "blank-lines": "\n \n" + whole,
        "spaces": whole.replace("---\n", "---  \n"),
        "no-body": whole.removesuffix("\n# Model\n"),
    }.get(style, whole)
    declaration = declared(whole)
    assert names(declaration) == bases
    assert declaration.source == "README.md"
    assert declaration.notes == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Model\n",
        "base_model: org/name\n",
        "--- base_model: org/name ---",
        "x\n---\nbase_model: org/name\n---\n",
        "---\nbase_model: org/name\n",
    ],
)
def test_no_front_matter(text: str) -> None:
    assert names(declared(text)) == []
    assert front_matter(text.encode(), "README.md") == {}


def test_no_papers_at_all() -> None:
    assert declared() == Declaration(bases=(), relation=None, source="README.md")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "base_model: 1",
            "base_model: true",
            "base_model: {a: b}",
            "base_model: [1]",
            "base_model: [null]",
            "base_model: [[a]]",
            "- a",
            "text",
        ),
        *("base_model: gpt2\nbase_model: org/name", "base_model: &a gpt2\nother: *a", "base_model: !!str gpt2", "base_model: [", "a: b: c"),
        f"base_model: [{', '.join(['gpt2'] * (MAX_BASES + 1))}]",
    ],
)
def test_front_matter_that_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match=r"^README\.md") as caught:
        declared(card(text))
    assert caught.value.advice


def test_front_matter_that_is_not_utf8() -> None:
    with pytest.raises(Malformed, match=r"^README\.md"):
        declared(b"---\nbase_model: \xff\n---\n")
    assert names(declared(b"---\nbase_model: gpt2\n---\n\xff\xfe")) == ["gpt2"]


@pytest.mark.parametrize(("text", "relation"), [("finetune", "finetune"), ("quantized", "quantized"), ("stolen", None), ("[merge]", None)])
def test_relation(text: str, relation: str | None) -> None:
    assert declared(card(f"base_model: gpt2\nbase_model_relation: {text}")).relation == relation


def test_the_base_of_an_adapter_stands_first() -> None:
    declaration = declared(card("base_model: [org/b, org/a]"), adapter={"base_model_name_or_path": "org/a", "revision": "v1", "r": 8})
    assert names(declaration) == ["org/a@v1", "org/b"]
    assert declaration.source == "adapter_config.json, README.md"
    assert names(declared(adapter={"base_model_name_or_path": "org/a", "revision": None})) == ["org/a"]
    assert names(declared(card("base_model: org/b"), adapter={"base_model_name_or_path": None})) == ["org/b"]
    assert names(declared(adapter={})) == []


@pytest.mark.parametrize(
    "config", [{"base_model_name_or_path": 1}, {"base_model_name_or_path": ["a"]}, {"base_model_name_or_path": "a", "revision": 1}, [], "x"]
)
def test_an_adapter_configuration_that_is_refused(config: object) -> None:
    with pytest.raises(Malformed, match=r"^adapter_config\.json"):
        declared(adapter=config)


def test_policy_stands_above_the_papers() -> None:
    declaration = declared(card("base_model: evil/x"), adapter={"base_model_name_or_path": "evil/y"}, pin="hf:org/name@" + "a1" * 20)
    assert declaration.bases == (BaseReference(name="org/name", revision="a1" * 20, source="policy", pinned=True),)
    assert declaration.source == "policy"
    assert declaration.notes == (f"the card names evil/y, policy pins org/name@{'a1' * 20}: the audit used policy's",)
    assert declared(card("base_model: org/name"), pin="org/name@v1").notes == ()
    assert declared(pin="org/name").notes == ()
    with pytest.raises(Malformed, match=r"^policy: "):
        declared(pin="../x")
