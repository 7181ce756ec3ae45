"""An organisation's policy over a repository's: every key has its way to combine, tightening counts, loosening is refused and said."""

from __future__ import annotations

import datetime
import json
import typing
from pathlib import Path

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelguard.checks import log_gap
from modelguard.errors import BadRequest
from modelguard.policy import Block, Document, Policy, RuleSettings, layered, parse, percentage, read_layer
from modelguard.policy.merging import SHARES, WAYS, way_of
from modelguard.policy.schema import schema_text
from modelguard.policy.waivers import waiver_notes
from modelguard.types.findings import Level
from tests.test_policy import REFUSED, SAMPLE

WAIVER = "{rule: log-gap, subject: m, reason: known, owner: me, expires: 2999-01-01}"
OTHER = "{rule: log-tail, subject: m, reason: known, owner: me, expires: 2999-01-01}"


def over(organisation: str, repository: str) -> Policy:
    return layered(
        read_layer(f"version: 1\n{organisation}".encode(), "the organisation"),
        read_layer(f"version: 1\n{repository}".encode(), "the repository"),
    )


def value(policy: Policy, path: str) -> object:
    """A setting of the effective policy, by the path in its JSON."""
    settings = {setting.key: json.loads(setting.value) for setting in policy.settings()}
    return settings.get(path, settings)


TIGHTER = {
    "blocks more": ("block: {severity: high}", "block: {severity: medium}", "block.severity", "medium"),
    "blocks the less sure": ("", "block: {confidence: low}", "block.confidence", "low"),
    "switches on": ("rules: {log-gap: {enabled: false}}", "rules: {log-gap: {enabled: true}}", "rules.log-gap.enabled", True),
    "raises": ("rules: {log-gap: {severity: low}}", "rules: {log-gap: {severity: medium}}", "rules.log-gap.severity", "medium"),
    "raises the rule's own": ("", "rules: {log-gap: {severity: high}}", "rules.log-gap.severity", "high"),
    "allows less": ("rules: {log-gap: {max-missing: 5%}}", "rules: {log-gap: {max-missing: 2%}}", "rules.log-gap.max-missing", "2%"),
    "allows less than built in": ("", "rules: {log-gap: {max-missing: 0.5%}}", "rules.log-gap.max-missing", "0.5%"),
    "asks for more": ("rules: {x: {minimum-share: 5%}}", "rules: {x: {minimum-share: 6%}}", "rules.x.minimum-share", "6%"),
    "requires more": ("require: [log]", "require: [weights, log]", "require", ["log", "weights"]),
    "names more candidates": (
        "behaviour: {references: ['hf:a/a']}",
        "behaviour: {references: ['hf:b/b']}",
        "behaviour.references",
        ["hf:a/a", "hf:b/b"],
    ),
    "names controls": ("behaviour: {references: ['hf:a/a']}", "behaviour: {controls: ['hf:b/b']}", "behaviour.controls", ["hf:b/b"]),
    "names a registry": ("", "registry: a.sqlite", "registry", "a.sqlite"),
}
LOOSER = {
    "blocks less": ("block: {severity: medium}", "block: {severity: high}", "block", {"severity": "medium", "confidence": "medium"}),
    "blocks the sure only": ("", "block: {confidence: high}", "block", {"severity": "high", "confidence": "medium"}),
    "switches off": ("rules: {log-gap: {enabled: true}}", "rules: {log-gap: {enabled: false}}", "rules.log-gap.enabled", True),
    "lowers": ("rules: {log-gap: {severity: medium}}", "rules: {log-gap: {severity: low}}", "rules.log-gap.severity", "medium"),
    "lowers the rule's own": ("", "rules: {log-gap: {severity: medium}}", "rules", {}),
    "allows more": ("rules: {log-gap: {max-missing: 2%}}", "rules: {log-gap: {max-missing: 5%}}", "rules.log-gap.max-missing", "2%"),
    "allows more than built in": ("", "rules: {log-gap: {max-missing: 2%}}", "rules", {}),
    "asks for what is not known": ("", "rules: {x: {minimum-share: 1%}}", "rules", {}),
    "another level": ("alpha: 1.0e-9", "alpha: 1.0e-12", "alpha", 1e-9),
    "a level where none is written": ("", "alpha: 1.0e-3", "alpha", 1e-9),
    "controls": ("", "controls: [registry:a]", "controls", []),
    "controls of a candidate": (
        "behaviour: {controls: ['hf:a/a']}",
        "behaviour: {controls: ['hf:b/b']}",
        "behaviour",
        {"references": [], "controls": ["hf:a/a"], "texts": []},
    ),
    "another registry": ("registry: a.sqlite", "registry: b.sqlite", "registry", "a.sqlite"),
    "a locked key": ("organisation: {locked: [block]}", "block: {severity: low}", "block", {"severity": "high", "confidence": "medium"}),
    "a locked rule": ("organisation: {locked: [rules.log-gap]}", "rules: {log-gap: {severity: high}}", "rules", {}),
    "locked requirements": ("organisation: {locked: [require]}", "require: [log]", "require", []),
    "a forbidden waiver": ("organisation: {no-waivers: [log-gap]}", f"waivers: [{WAIVER}]", "waivers", []),
    "any waiver": ("organisation: {no-waivers: ['*']}", f"waivers: [{WAIVER}]", "waivers", []),
}


@pytest.mark.parametrize("name", TIGHTER)
def test_a_repository_may_tighten(name: str) -> None:
    organisation, repository, path, expected = TIGHTER[name]
    policy = over(organisation, repository)
    assert value(policy, path) == expected
    assert policy.refused == ()
    origins = {setting.key: setting.origin for setting in policy.settings()}
    assert "the repository" in origins[path]


@pytest.mark.parametrize("name", LOOSER)
def test_a_loosening_is_refused_and_said_with_both_values(name: str) -> None:
    organisation, repository, path, expected = LOOSER[name]
    policy = over(organisation, repository)
    assert value(policy, path) == expected
    (refusal,) = policy.refused
    assert refusal.startswith("the repository sets ")
    assert ": refused, " in refusal
    assert "the repository" not in {setting.origin for setting in policy.settings()}


def test_a_refusal_names_both_values() -> None:
    (said,) = over("rules: {log-gap: {max-missing: 2%}}", "rules: {log-gap: {max-missing: 5%}}").refused
    assert said == (
        "the repository sets rules.log-gap.max-missing to 5%: refused, it is 2% in the organisation, and a repository may only tighten"
    )


def test_equal_values_are_no_request() -> None:
    text = f"alpha: 1.0e-9\nblock: {{severity: high}}\nrules: {{log-gap: {{max-missing: 2%}}}}\nwaivers: [{WAIVER}]\nregistry: a"
    policy = over(text, text)
    assert policy.refused == ()
    assert policy.digest == parse(f"version: 1\n{text}".encode(), "x").digest
    assert over("", "alpha: 1.0e-9\nblock: {severity: high}\nrules: {log-gap: {max-missing: 1%, enabled: true}}").refused == ()


def test_entries_of_both_stand_with_the_organisations_first() -> None:
    policy = over(
        f"models: [{{path: 'm/**', base: hf:lab/a}}]\nwaivers: [{WAIVER}]",
        f"models: [{{path: '**', base: hf:lab/b}}]\nwaivers: [{OTHER}]",
    )
    assert (policy.base_of("m/x"), policy.base_of("n/x")) == ("hf:lab/a", "hf:lab/b")
    assert [waiver.rule for waiver in policy.document.waivers] == ["log-gap", "log-tail"]
    assert {setting.key: setting.origin for setting in policy.settings()}["waivers"] == "the organisation + the repository"


def test_a_rule_with_settings_of_both_says_which_is_whose() -> None:
    policy = over("rules: {log-gap: {max-missing: 2%}}", "rules: {log-gap: {severity: high}}")
    origins = {setting.key: setting.origin for setting in policy.settings()}
    assert origins["rules"] == "the organisation + the repository"
    assert (origins["rules.log-gap.max-missing"], origins["rules.log-gap.severity"]) == ("the organisation", "the repository")
    assert origins["alpha"] == "built-in default"


def test_every_key_says_how_layers_combine() -> None:
    for struct in (Document, RuleSettings, Block):
        for field in msgspec.structs.fields(struct):
            assert way_of(struct, field.encode_name) in WAYS
            hint = typing.get_type_hints(struct, include_extras=True)[field.name]
            assert [meta for meta in hint.__metadata__ if meta.extra], f"{field.encode_name} does not say how layers combine"


def test_the_built_in_shares_are_the_rules_own() -> None:
    assert {key: percentage(share) for key, share in SHARES.items()} == {"log-gap.max-missing": log_gap.MAX_MISSING}


words = st.sampled_from(["info", "low", "medium", "high"])
documents = st.fixed_dictionaries(
    {},
    optional={
        "require": st.lists(st.sampled_from(["log", "weights", "checkpoint"]), max_size=2),
        "block": st.fixed_dictionaries({}, optional={"severity": words, "confidence": words}),
        "rules": st.dictionaries(
            st.sampled_from(["log-gap", "log-tail"]),
            st.fixed_dictionaries(
                {},
                optional={"enabled": st.booleans(), "severity": words, "max-missing": st.integers(0, 100).map(lambda n: f"{n}%")},
            ),
        ),
    },
)


@given(documents, documents)
def test_no_repository_makes_a_policy_weaker(organisation: dict[str, object], repository: dict[str, object]) -> None:
    above, below = (
        read_layer(json.dumps({"version": 1, **written}).encode(), name) for name, written in (("o", organisation), ("r", repository))
    )
    alone, both = layered(above, None), layered(above, below)
    assert set(alone.require) <= set(both.require)
    assert both.block_severity <= alone.block_severity
    assert both.block_confidence <= alone.block_confidence
    for rule in ("log-gap", "log-tail"):
        assert both.enabled(rule) >= alone.enabled(rule)
        assert all(both.severity(rule, own) >= alone.severity(rule, own) for own in Level)
    assert both.share("log-gap", "max_missing", 0.01) <= alone.share("log-gap", "max_missing", 0.01)
    assert layered(above, below).digest == both.digest


PLACES = {
    "unknown key": ("version: 1\nrequire: [log]\nblok: {}\n", "p:3:1: "),
    "unknown key inside": ("version: 1\nmodels:\n  - path: a\n  - path: b\n    bse: c\n", "p:5:5: "),
    "wrong type": ("version: 1\nalpha: small\n", "p:2:1: "),
    "wrong item": ("version: 1\nrequire:\n  - log\n  - 3\n", "p:4:5: "),
    "a rule's key": ("version: 1\nrules:\n  log-tail: {enabled: true}\n  log-gap: {max_missing: 1%}\n", "p:4:13: "),
    "a rule's value": ("version: 1\nrules:\n  log-gap:\n    max-missing: some\n", "p:4:5: "),
    "a level": ("version: 1\nblock: {severity: worst}\n", "p:2:9: "),
    "no evidence": ("version: 1\nrequire: [log, logs]\n", "p:2:16: "),
    "missing": ("version: 1\nwaivers:\n  - rule: a\n    subject: b\n", "p:3:5: "),
    "empty reason": (f"version: 1\nwaivers:\n  - {WAIVER.replace('known', chr(39) * 2)}\n", "p:3:33: "),
    "key twice": ("version: 1\nalpha: 1.0e-9\nalpha: 1.0e-9\n", "p:3:1: "),
    "second document": ("version: 1\n---\nversion: 1\n", "p:2:1: "),
    "alias": ("version: 1\nrequire: &a [log]\ncontrols: *a\n", "p: YAML aliases"),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_mistake_is_placed_by_line_and_column(name: str) -> None:
    text, where = PLACES[name]
    with pytest.raises(BadRequest) as caught:
        parse(text.encode(), "p")
    assert str(caught.value).startswith(where)


def test_waivers_are_spoken_of_when_they_cover_nothing_or_end_soon() -> None:
    row = "{{rule: log-gap, subject: {}, reason: known, owner: ops, expires: {}}}"
    rows = [row.format("m", "2026-01-01"), row.format("m/a.safetensors", "2026-02-05"), row.format("gone", "2030-01-01")]
    policy = parse(f"version: 1\nwaivers: [{', '.join([*rows, row.format('m', '2030-01-01')])}]".encode(), "p")
    expired, ending, unknown = waiver_notes(policy, datetime.date(2026, 2, 1), {"m/a.safetensors"})
    assert expired == "the waiver of log-gap for m (ops) expired on 2026-01-01: it covers nothing"
    assert ending == "the waiver of log-gap for m/a.safetensors (ops) expires on 2026-02-05"
    assert "gone" in unknown


def test_the_schema_agrees_with_the_reader() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(schema_text()))
    validator.check_schema(validator.schema)
    assert not list(validator.iter_errors(plain(SAMPLE.decode())))
    beyond_a_schema = ("require-unknown", "share-large", "alpha-nan")  # names that grow with the program, arithmetic, what JSON lacks
    for case, (text, _) in REFUSED.items():
        if case not in (*beyond_a_schema, "duplicate-key", "duplicate-rule", "alias", "tag", "not-yaml", "waiver-soon"):
            assert list(validator.iter_errors(plain(text))), case


def plain(text: str) -> object:
    """A YAML text as JSON's values."""
    return json.loads(json.dumps(yaml.safe_load(text), default=str))


def test_the_published_schema_is_the_types() -> None:
    published = Path(__file__).parents[1] / "docs" / "policy.schema.json"
    assert published.read_text(encoding="utf-8") == schema_text()
