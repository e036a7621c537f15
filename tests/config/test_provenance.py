"""Where every value comes from: each kind of layer names its place, and what it lies over, to the last."""

from __future__ import annotations

import pytest

from aioresilience import Registry
from aioresilience.config import Document, FileSource, load
from aioresilience.config.tree import leaves
from aioresilience.policy import BUILTIN

NOW = 1_800_000_000.0


@pytest.fixture
def document(tmp_path, monkeypatch) -> Document:
    """Build one value that every layer says, and others that only one layer says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "common.yaml").write_text(
        "version: 1\ndefaults: {deadline: 1m, retry: {max_attempts: 2, max_delay: 7s}}\n"
        "policies: {payments: {retry: {max_attempts: 6}}}\n"
    )
    (tmp_path / "main.yaml").write_text(
        "version: 1\n"
        'include: [common.yaml, "pack:http-client"]\n'
        "templates:\n"
        "  psp: {extends: http-client, retry: {max_attempts: 4, initial_delay: 50ms}}\n"
        "policies:\n"
        "  payments:\n"
        "    extends: psp\n"
        "    retry: {max_attempts: 7}\n"
        "    bulkhead: ${SIZE}\n"
        "environments:\n"
        "  production: {policies: {payments: {retry: {max_attempts: 8}}}}\n"
        "overrides:\n"
        "  - {policy: payments, set: {retry: {max_attempts: 3}}, expires: 2126-01-01T00:00:00Z, reason: a, by: b}\n"
        "  - {policy: '*', set: {retry: {max_attempts: 1}}, expires: 2126-01-01T00:00:00Z, reason: c, by: d}\n"
    )
    (tmp_path / "later.yaml").write_text("version: 1\npolicies: {payments: {timeout: 900ms}}\n")
    return load(
        [FileSource("main.yaml"), FileSource("later.yaml")], patterns=BUILTIN, now=NOW, environment="production",
        environ={"AIORESILIENCE_POLICIES__PAYMENTS__RETRY__MAX_ATTEMPTS": "9", "SIZE": "5"},
        patches={"payments": {"retry": {"max_attempts": 5}}},
    )  # fmt: skip


def test_a_value_names_every_layer_that_said_it_the_winner_first(document):
    chain = document.policies["payments"].place(("retry", "max_attempts")).chain()
    assert list(map(str, chain[:8])) == [
        "override main.yaml:14:47",
        "code override of payments",
        "override main.yaml:13:52",
        "environment AIORESILIENCE_POLICIES__PAYMENTS__RETRY__MAX_ATTEMPTS",
        "main.yaml:11:60",
        "main.yaml:8:27",
        "common.yaml:3:45",
        "main.yaml:4:53",
    ]
    assert [place.name for place in chain[8:]] == ["pack:http-client", "common.yaml"]


def test_the_text_at_a_place_is_what_was_written_there(document):
    chain = document.policies["payments"].place(("retry", "max_attempts")).chain()
    assert [place.text() for place in chain if place.source] == ["1", "3", "8", "7", "6", "4", "3", "2"]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("timeout", "timeout"), "later.yaml:2:32"),
        (("retry", "initial_delay"), "main.yaml:4:71"),
        (("retry", "max_delay"), "pack:http-client"),
        (("deadline", "timeout"), "pack:http-client"),
        (("bulkhead", "max_concurrent"), "main.yaml:9:15"),
    ],
)
def test_a_value_of_one_layer_names_that(document, path, place):
    found = document.policies["payments"].place(path)
    assert place in (str(found), found.name)


def test_no_leaf_of_any_policy_is_without_a_place(document):
    for spec in document.policies.values():
        for path, _ in leaves(spec.tree):
            assert spec.place(path).name != "<unknown>", path


def test_what_nobody_said_has_no_place_of_its_own(document):
    spec = document.policies["payments"]
    assert "backoff_multiplier" not in spec.tree["retry"]


def test_an_override_by_code_names_itself_in_its_errors():
    registry = Registry.from_text("version: 1\npolicies: {a: {timeout: 2s}}")
    registry.loader.patches["a"] = {"timeout": "soon"}
    assert "code override of a: error AR205" in str(registry.reload().diagnostics[0])
