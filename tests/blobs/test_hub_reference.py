"""The grammar of references to the hub: what is a name of a model, and what leads elsewhere."""

from __future__ import annotations

import pytest

from modelguard.blobs.hub import parse_reference
from modelguard.errors import BadRequest

COMMIT = "0123456789abcdef0123456789abcdef01234567"

ACCEPTED = {
    "bert-base-uncased": ("bert-base-uncased", None),
    "gpt2": ("gpt2", None),
    "hf:gpt2": ("gpt2", None),
    "a": ("a", None),
    "org/name": ("org/name", None),
    "hf:org/name": ("org/name", None),
    "hf:org/name@main": ("org/name", "main"),
    "org/name@v1.0": ("org/name", "v1.0"),
    f"hf:org/name@{COMMIT}": ("org/name", COMMIT),
    "sentence-transformers/all-MiniLM-L6-v2": ("sentence-transformers/all-MiniLM-L6-v2", None),
    "meta-llama/Llama-3.1-8B_x": ("meta-llama/Llama-3.1-8B_x", None),
    "0x/1.2_3-4": ("0x/1.2_3-4", None),
    "hf/hf@hf": ("hf/hf", "hf"),
}

REJECTED = (
    *("", "hf:", "@", "hf:@main", "org/", "/name", "/", "org/name@", "hf:org/name@", "a/b/c", "a/b/c@main", "org//name", "//host"),
    *("//host/path", "http://169.254.169.254", "https://huggingface.co/org/name", "file:///etc/passwd", "git+ssh://host/x", "ftp:x/y"),
    *("hf://org/name", "hf:hf:org/name", "HF:org/name", "hf:../..", "../../etc/passwd", "..", ".", "org/..", "org/.", "./org", "org/../x"),
    *("org/na..me", "a..b/name", "org/name@..", "org/name@../..", "org/name@a..b", "org/name@refs/heads/main", "org/name@main/x"),
    *("hf:a/b@main#x", "hf:a/b@main?x=1", "hf:a/b#main", "a/b?x", "user:pw@host/x", "a/b@c@d", "a/b:80", "localhost:8000/x"),
    *(" org/name", "org/name ", "org /name", "org/na me", "org/name\n", "\norg/name", "org/name\r\nHost: evil", "org/name@main\r\nX: y"),
    *("org/name\x00", "org\tname", "org/\x1bname", "org\\name", "..\\..\\x", "C:\\x", "~/name", "$HOME/x", "%2e%2e/%2e%2e", "org/%2e%2e"),
    *(
        "org/name\u3002x",
        "org/\uff0e\uff0e",
        "\u202eorg/name",
        "\u043erg/name",
        "org/n\u00e4me",
        "org/na\u200bme",
        "org/\u0661",
        "hf\uff1aorg/name",
    ),
    *(
        "-org/name",
        "org/-name",
        ".org/name",
        "org/.name",
        "org/name.",
        "org/name-",
        "org-/name",
        "org/na--me",
        "org/name.git",
        "org/name;id",
    ),
    *("org/$(id)", "org/`id`", "org/name|x", "org/*", "[::1]/x", "a" * 97, "a" * 97 + "/b", "a/" + "b" * 97, "org/name@" + "a" * 201),
)


@pytest.mark.parametrize("text", sorted(ACCEPTED))
def test_accepts(text: str) -> None:
    assert parse_reference(text) == ACCEPTED[text]


@pytest.mark.parametrize("text", REJECTED, ids=ascii)
def test_rejects(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_reference(text)
    message = str(caught.value)
    assert caught.value.advice
    assert message.isascii()
    assert message.isprintable()


def test_the_reject_set_is_large() -> None:
    assert len(set(REJECTED)) >= 60
