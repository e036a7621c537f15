"""The environment: settings of the process, variables that patch, variables that are the whole configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aioresilience import Registry
from aioresilience.config import ConfigError, Document, TextSource, load
from aioresilience.config.encoding import MAX_BYTES
from aioresilience.config.process import ProcessSettings, process_settings
from aioresilience.policy import BUILTIN


def env(**given: str) -> dict[str, str]:
    return {f"AIORESILIENCE_{name}": value for name, value in given.items()}


def read(text: str, environ: dict[str, str], **options) -> Document:
    return load(TextSource(f"version: 1\n{text}", "r.yaml"), patterns=BUILTIN, environ=environ, **options)


def alone(environ: dict[str, str], **options) -> Document:
    return load([], patterns=BUILTIN, environ=environ, **options)


def config(document: Document, policy: str, key: str):
    return dict(document.policies[policy].patterns)[key]


def findings(document: Document) -> list[tuple[str, str]]:
    return [(one.id, one.severity) for one in document.findings if one.id < "AR4"]


SETTINGS = [
    # variable, its text, field, what it means
    ("CONFIG", os.pathsep.join(["a.yaml", "", "b.yaml"]), "config", (Path("a.yaml"), Path("b.yaml"))),
    ("CONFIG_INLINE", "{version: 1}", "config_inline", "{version: 1}"),
    ("FALLBACK_CONFIG", "/etc/last.yaml", "fallback_config", Path("/etc/last.yaml")),
    ("ENVIRONMENT", "production", "environment", "production"),
    ("SERVICE", "checkout", "service", "checkout"),
    ("ROOT", "/etc/resilience", "root", Path("/etc/resilience")),
    ("WATCH", "yes", "watch", True),
    ("STRICT", "1", "strict", True),
    ("MAX_BYTES", "1024", "max_bytes", 1024),
]


@pytest.mark.parametrize(("variable", "text", "name", "meaning"), SETTINGS)
def test_a_setting_is_read_from_its_variable(variable, text, name, meaning):
    assert getattr(process_settings(env(**{variable: text})), name) == meaning


def test_every_setting_is_in_the_table_and_an_empty_variable_is_unset():
    assert {name for _, _, name, _ in SETTINGS} == set(ProcessSettings.model_fields)
    assert process_settings(env(**{one[0]: "" for one in SETTINGS})) == process_settings({})
    assert process_settings({}).max_bytes == MAX_BYTES


def test_malformed_settings_are_named_all_at_once():
    with pytest.raises(ConfigError) as caught:
        process_settings(env(WATCH="maybe", MAX_BYTES="8M", STRICT="on"))
    assert str(caught.value) == (
        "environment AIORESILIENCE_MAX_BYTES: error AR323: expected a whole number, got '8M'\n"
        "      = correct it, or unset it\n"
        "environment AIORESILIENCE_WATCH: error AR323: expected true or false, got 'maybe'\n"
        "      = correct it, or unset it"
    )


def test_the_process_s_own_variables_do_not_leak_into_a_given_mapping(monkeypatch):
    monkeypatch.setenv("AIORESILIENCE_ENVIRONMENT", "production")
    assert process_settings({}).environment is None


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("AIORESILIENCE_ENVIROMENT", "did you mean AIORESILIENCE_ENVIRONMENT?"),
        ("AIORESILIENCE_POLICY__A__TIMEOUT", "did you mean AIORESILIENCE_POLICIES?"),
        ("AIORESILIENCE_ZZZ", "unset it"),
    ],
)
def test_a_variable_that_means_nothing_is_a_warning_and_an_error_where_it_is_checked(variable, hint):
    environ = {variable: "x"}
    document = read("policies: {a: {}}", environ)
    assert [(one.id, one.severity, one.hint) for one in document.findings] == [("AR324", "warning", hint)]
    for options in ({"strict": True}, {"in_service": False}):
        with pytest.raises(ConfigError, match="AR324"):
            read("policies: {a: {}}", environ, **options)


def test_a_variable_of_a_near_name_is_told_which():
    (found,) = read("policies: {card-payments: {}}", env(POLICIES__CARD_PAYMETS__TIMEOUT="3s")).findings
    assert (found.id, found.hint) == ("AR315", "did you mean AIORESILIENCE_POLICIES__CARD_PAYMENTS?")


def test_an_empty_patch_counts_as_unset():
    assert config(read("policies: {a: {timeout: 2s}}", env(POLICIES__A__TIMEOUT="")), "a", "timeout").timeout == 2


def test_variables_patch_shared_blocks_templates_backends_defaults_and_settings():
    text = (
        "shared: {db-pool: {bulkhead: 20}}\ntemplates: {psp: {timeout: 2s}}\n"
        "backends: {main: {type: redis, url: 'redis://127.0.0.1:6379/0'}}\n"
        "policies: {a: {extends: psp, bulkhead: {use: db-pool}}}\n"
    )
    environ = env(
        SHARED__DB_POOL__BULKHEAD="7", TEMPLATES__PSP__TIMEOUT="3s", BACKENDS__MAIN__FLEET_SIZE="40",
        DEFAULTS__DEADLINE="9s", SETTINGS__ON_REMOVED="reject",
    )  # fmt: skip
    document = read(text, environ)
    assert document.shared["db-pool", "bulkhead"].config.max_concurrent == 7
    assert config(document, "a", "timeout").timeout == 3
    assert config(document, "a", "deadline").timeout == 9
    assert document.backends["main"].fleet_size == 40
    assert document.settings.on_removed == "reject"


def test_a_whole_section_beside_a_file_patches_what_is_there():
    document = read("policies: {a: {}}", env(POLICIES="{a: {timeout: 2s}, b: {timeout: 3s}}"))
    assert list(document.policies) == ["a"]
    assert config(document, "a", "timeout").timeout == 2
    assert findings(document) == [("AR315", "warning")]


def test_a_service_is_configured_by_the_environment_alone():
    environ = env(
        INCLUDE="pack:http-client, pack:database", DEFAULTS="{deadline: 20s}", SERVICE="checkout",
        POLICIES__CARD_PAYMENTS__EXTENDS="http-client", POLICIES__CARD_PAYMENTS__TIMEOUT="800ms",
        POLICIES__CARD_PAYMENTS__IDEMPOTENT="false", POLICIES__SEARCH="{timeout: 2s, retry: 3}",
        TEMPLATES__PSP__BULKHEAD="5", POLICIES__REFUNDS__EXTENDS="[http-client, psp]",
    )  # fmt: skip
    document = alone(environ)
    assert sorted(document.policies) == ["card-payments", "refunds", "search"]
    assert config(document, "card-payments", "timeout").timeout == 0.8
    assert document.policies["card-payments"].idempotent is False
    assert config(document, "search", "retry").max_attempts == 3
    assert config(document, "search", "deadline").timeout == 20
    assert config(document, "refunds", "bulkhead").max_concurrent == 5
    assert findings(document) == []
    place = document.policies["card-payments"].place(("timeout", "timeout"))
    assert str(place) == "environment AIORESILIENCE_POLICIES__CARD_PAYMENTS__TIMEOUT"
    assert place.chain()[1].name == "pack:http-client"


def test_a_registry_from_the_environment_alone_is_whole():
    environ = env(INCLUDE="pack:http-client", POLICIES__PAYMENTS__EXTENDS="http-client")
    registry = Registry.from_env(environ=environ)
    assert registry.get("payments").retry is not None
    assert registry.reload().outcome == "unchanged"


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        (env(INCLUDE="pack:http-clent"), "AR312"),
        (env(INCLUDE="[1"), "AR105"),
        (env(INCLUDE="{a: 1}"), "AR203"),
        (env(POLICIES="5"), "AR203"),
        (env(DEFAULTS="[1]"), "AR203"),
        (env(POLICIES__A__TIMEOUT="soon"), "AR205"),
        (env(POLICIES__A__RETRI="3"), "AR201"),
        (env(POLICIES__A__RETRY="{max_attempts: 3"), "AR105"),
    ],
)
def test_what_is_wrong_with_a_variable_is_said_at_the_variable(environ, code):
    with pytest.raises(ConfigError) as caught:
        alone(environ)
    found = [one for one in caught.value.diagnostics if one.id == code]
    assert [one.file for one in found] == [f"environment {next(iter(environ))}"]


def test_an_include_by_variable_beside_a_file_is_stale():
    assert findings(read("policies: {a: {}}", env(INCLUDE="pack:database"))) == [("AR315", "warning")]


@pytest.mark.parametrize("names", ["ab", "ba"])
@pytest.mark.parametrize("block", ["bulkhead: {{max_concurrent: {}}}", "retry: {{budget: {{min_per_second: {}}}}}"])
def test_a_text_in_quotes_is_no_number_because_a_variable_with_the_same_text_is_one(names, block):
    """Both orders: equal blocks are checked once, and these are not equal."""
    given = {"a": '"${N}"', "b": '"5"'}
    text = "version: 1\npolicies:\n" + "".join(f"  {name}: {{{block.format(given[name])}}}\n" for name in names)
    with pytest.raises(ConfigError) as caught:
        load(TextSource(text), patterns=BUILTIN, environ={"N": "5"})
    assert [(one.id, one.path.split(".")[1]) for one in caught.value.diagnostics] == [("AR203", "b")]
