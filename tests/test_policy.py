"""What a policy may say, and that nothing in it is misread in silence."""

from __future__ import annotations

import datetime

import msgspec
import pytest

from modelguard.errors import BadRequest
from modelguard.policy import Document, Policy, default, level, parse, percentage
from modelguard.types.findings import Level

SAMPLE = b"""
version: 1
models:
  - path: models/chat/**
    base: hf:org/name@0123456789012345678901234567890123456789
  - {path: "**", base: hf:org/other}
require: [log]
alpha: 1.0e-9
controls: [registry:a]
rules:
  log-gap: {severity: high, max-missing: 1%}
  log-tail: {enabled: false}
  disclosure-original-data: {minimum-share: 30%}
block: {severity: high, confidence: medium}
registry: modelguard-registry.sqlite
waivers:
  - {rule: log-gap, subject: models/chat, reason: cluster outage, owner: ml-infra, expires: 2027-01-31}
  - {rule: log-tail, subject: m/model.safetensors, reason: known, owner: me, expires: 2027-01-31, fingerprint: ab}
"""
REFUSED = {
    "empty": ("", "got `null`"),
    "list": ("[]", "got `array`"),
    "no-version": ("alpha: 1.0e-9", "version"),
    "other-version": ("version: 2", "version: 2 is not known"),
    "version-text": ("version: '1'", "$.version"),
    "version-bool": ("version: true", "$.version"),
    "unknown-key": ("version: 1\nblok: {}", "`blok`"),
    "unknown-key-in-model": ("version: 1\nmodels: [{path: a, bse: b}]", "`bse` - at `$.models[0]`"),
    "unknown-key-in-rule": ("version: 1\nrules: {log-gap: {max_missing: 1%}}", "`max_missing`"),
    "unknown-key-in-block": ("version: 1\nblock: {level: high}", "`level` - at `$.block`"),
    "unknown-key-in-waiver": ("version: 1\nwaivers: [{rule: a, subject: b, reason: c, owner: d, until: 2027-01-31}]", "$.waivers[0]"),
    "duplicate-key": ("version: 1\nalpha: 1.0e-9\nalpha: 1.0e-3", "duplicate key 'alpha'"),
    "duplicate-rule": ("version: 1\nrules:\n  a: {}\n  a: {enabled: false}", "duplicate key 'a'"),
    "require-text": ("version: 1\nrequire: log", "$.require"),
    "require-unknown": ("version: 1\nrequire: [logs]", "require: 'logs' is no evidence"),
    "alpha-text": ("version: 1\nalpha: small", "$.alpha"),
    "alpha-zero": ("version: 1\nalpha: 0", "alpha: must lie in"),
    "alpha-negative": ("version: 1\nalpha: -0.1", "alpha: must lie in"),
    "alpha-large": ("version: 1\nalpha: 0.01", "alpha: must lie in"),
    "alpha-nan": ("version: 1\nalpha: .nan", "alpha: must lie in"),
    "severity-number": ("version: 1\nrules: {log-gap: {severity: 3}}", "severity"),
    "severity-word": ("version: 1\nrules: {log-gap: {severity: worst}}", "rules.log-gap.severity: 'worst' is no level"),
    "block-word": ("version: 1\nblock: {confidence: sure}", "block.confidence: 'sure' is no level"),
    "share-number": ("version: 1\nrules: {log-gap: {max-missing: 0.01}}", "max-missing"),
    "share-word": ("version: 1\nrules: {log-gap: {max-missing: some}}", "rules.log-gap.max-missing: 'some' is no percentage"),
    "share-large": ("version: 1\nrules: {x: {minimum-share: 101%}}", "rules.x.minimum-share: '101%' is no percentage"),
    "enabled-text": ("version: 1\nrules: {log-gap: {enabled: 'no'}}", "enabled"),
    "rule-null": ("version: 1\nrules: {log-gap: }", "$.rules"),
    "waiver-forever": ("version: 1\nwaivers: [{rule: a, subject: b, reason: c, owner: d}]", "expires"),
    "waiver-soon": ("version: 1\nwaivers: [{rule: a, subject: b, reason: c, owner: d, expires: soon}]", "$.waivers[0].expires"),
    "waiver-no-owner": ("version: 1\nwaivers: [{rule: a, subject: b, reason: c, expires: 2027-01-31}]", "owner"),
    "alias": ("version: 1\nrequire: &a [log]\ncontrols: *a", "aliases are refused"),
    "tag": ("version: !!int 1", "tags are refused"),
    "not-yaml": ("version: [", "not valid YAML"),
    "pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1", "policy.yml"),
}


def policy(text: str) -> Policy:
    return parse(f"version: 1\n{text}".encode(), "policy.yml")


@pytest.mark.parametrize("case", REFUSED)
def test_a_policy_that_is_not_understood_is_a_bad_request(case: str) -> None:
    text, said = REFUSED[case]
    with pytest.raises(BadRequest, match=r"^policy\.yml") as caught:
        parse(text.encode(), "policy.yml")
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.advice


def test_the_sample_is_read() -> None:
    read = parse(SAMPLE, "policy.yml")
    assert read.digest == parse(SAMPLE.replace(b"alpha: 1.0e-9", b"alpha: 0.000000001  # the same").strip(), "elsewhere").digest
    assert read.digest != parse(SAMPLE.replace(b"max-missing: 1%", b"max-missing: 2%"), "policy.yml").digest
    assert (read.alpha, read.require) == (1e-9, ("log",))
    assert (read.block_severity, read.block_confidence) == (Level.HIGH, Level.MEDIUM)
    assert read.share("log-gap", "max_missing", 0.5) == 0.01
    assert read.share("disclosure-original-data", "minimum_share", 0.5) == 0.3
    assert read.share("other", "max_missing", 0.5) == 0.5
    assert read.enabled("log-gap")
    assert not read.enabled("log-tail")
    assert read.enabled("never-heard-of")


def test_settings_say_where_they_come_from() -> None:
    settings = {setting.key: setting for setting in parse(SAMPLE, "policy.yml").settings()}
    assert set(settings) == set(Document.__struct_fields__)
    assert settings["require"].origin == "policy.yml"
    assert settings["require"].value == '["log"]'
    assert settings["alpha"].origin == "built-in default"
    for setting in settings.values():
        msgspec.json.decode(setting.value)
    assert '"expires":"2027-01-31"' in settings["waivers"].value


def test_the_default_policy() -> None:
    standard = default()
    assert (standard.alpha, standard.require, standard.base_of("m/model.safetensors")) == (1e-9, (), None)
    assert (standard.block_severity, standard.block_confidence) == (Level.HIGH, Level.MEDIUM)
    assert {setting.origin for setting in standard.settings()} == {"built-in default"}
    values = {setting.key: setting.value for setting in standard.settings()}
    assert values["block"] == '{"severity":"high","confidence":"medium"}'
    assert values["rules"] == "{}"
    assert standard.digest.startswith("sha256:")


@pytest.mark.parametrize(("word", "expected"), [("info", Level.INFO), ("low", Level.LOW), ("Medium", Level.MEDIUM), ("HIGH", Level.HIGH)])
def test_levels(word: str, expected: Level) -> None:
    assert level(word) is expected
    assert level(expected.word) is expected


@pytest.mark.parametrize(("text", "share"), [("0%", 0), ("1%", 0.01), ("0.5%", 0.005), (" 30% ", 0.3), ("100%", 1), ("100.0%", 1)])
def test_percentages(text: str, share: float) -> None:
    assert percentage(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "1", "%", "-1%", "101%", "100.1%", "1 %", "1e1%", "1%%", "nan%", "0.01", "1,5%", ".5%", "1%\n2%"])
def test_no_percentages(text: str) -> None:
    with pytest.raises(BadRequest, match="is no percentage"):
        percentage(text)


def test_severity_of_a_rule() -> None:
    raised, lowered = policy("rules: {r: {severity: high}}"), policy("rules: {r: {severity: low}}")
    cases = {own: (raised.severity("r", own), lowered.severity("r", own), default().severity("r", own)) for own in Level}
    assert cases == {
        Level.INFO: (Level.INFO, Level.INFO, Level.INFO),
        Level.LOW: (Level.LOW, Level.LOW, Level.LOW),
        Level.MEDIUM: (Level.HIGH, Level.LOW, Level.MEDIUM),
        Level.HIGH: (Level.HIGH, Level.LOW, Level.HIGH),
    }
    assert policy("rules: {r: {severity: info}}").severity("r", Level.LOW) is Level.INFO


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("models/chat/model.safetensors", "hf:org/name@0123456789012345678901234567890123456789"),
        ("models/chat/v2/model.safetensors", "hf:org/name@0123456789012345678901234567890123456789"),
        ("models/chatty/model.safetensors", "hf:org/other"),
        ("model.safetensors", "hf:org/other"),
        ("Models/chat/model.safetensors", "hf:org/other"),
    ],
)
def test_the_first_entry_that_governs_pins_the_base(path: str, base: str) -> None:
    assert parse(SAMPLE, "policy.yml").base_of(path) == base


def test_waivers() -> None:
    read = parse(SAMPLE, "policy.yml")
    last, after = datetime.date(2027, 1, 31), datetime.date(2027, 2, 1)
    waiver = read.waiver("log-gap", "models/chat/model.safetensors", last)
    assert waiver is not None
    assert (waiver.owner, waiver.expires) == ("ml-infra", last)
    assert read.waiver("log-gap", "models/chat", last) == waiver
    assert read.waiver("log-gap", "models/chat/model.safetensors", after) is None
    assert read.waiver("log-head", "models/chat/model.safetensors", last) is None
    for other in (
        "models/chat/v2/model.safetensors",
        "models/chatty/model.safetensors",
        "models/model.safetensors",
        "model.safetensors",
        "",
    ):
        assert read.waiver("log-gap", other, last) is None
    assert read.waiver("log-tail", "m/model.safetensors", last, "ab") is not None
    assert read.waiver("log-tail", "m/model.safetensors", last, "another") is None
    assert read.waiver("log-tail", "m/other.safetensors", last) is None


def test_a_live_waiver_is_found_behind_an_expired_one() -> None:
    row = "{{rule: r, subject: s, reason: {}, owner: o, expires: {}}}"
    read = policy(f"waivers: [{row.format('old', '2020-01-01')}, {row.format('new', '2030-01-01')}]")
    found = read.waiver("r", "s", datetime.date(2026, 1, 1))
    assert found is not None
    assert found.reason == "new"
