"""The document: what is accepted, what is refused and how, what the specs say, what the revision sees."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path

import pytest

from aioresilience.config import ConfigError, Document, FileSource, MappingSource, TextSource, load
from aioresilience.config.vocabulary import LIBRARY_ORDER
from aioresilience.failures import ExceptionName
from aioresilience.pattern import Pattern, PatternConfig
from aioresilience.policy import BUILTIN

NOW = 1_800_000_000.0


def read(text: str | dict, **options) -> Document:
    source = MappingSource(text) if isinstance(text, dict) else TextSource(text, "r.yaml")
    return load(source, patterns=BUILTIN, now=NOW, **options)


def errors(text: str | dict, **options) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, **options)
    return [one.id for one in caught.value.diagnostics]


def config(document: Document, policy: str, key: str) -> PatternConfig:
    return dict(document.policies[policy].patterns)[key]


def test_patterns_come_in_the_default_order_whatever_the_file_says():
    document = read("version: 1\npolicies: {a: {timeout: 2s, bulkhead: 3, retry: 3, deadline: 5s, fallback: 1}}")
    keys = [key for key, _ in document.policies["a"].patterns]
    assert keys == ["fallback", "deadline", "retry", "bulkhead", "timeout"]


def test_the_default_order_names_every_builtin_pattern():
    assert sorted(LIBRARY_ORDER) == sorted(pattern.key for pattern in BUILTIN)


def test_a_policy_may_choose_its_order():
    document = read("version: 1\npolicies: {a: {timeout: 2s, retry: 3, order: [bulkhead, timeout, retry]}}")
    assert [key for key, _ in document.policies["a"].patterns] == ["timeout", "retry"]


class EchoConfig(PatternConfig):
    short = "times"
    times: int = 1


class Echo(Pattern[EchoConfig]):
    key = "echo"
    config_type = EchoConfig


class Placed(Echo):
    key = "placed"
    stands_outside = "retry"


def test_a_pattern_of_others_needs_an_order():
    text = TextSource("version: 1\npolicies: {a: {echo: 2}}")
    with pytest.raises(ConfigError, match=r"AR316.*no place in the default order"):
        load(text, patterns=(*BUILTIN, Echo))


def test_a_pattern_of_others_stands_where_order_or_its_class_says():
    text = TextSource("version: 1\npolicies: {a: {echo: 2, order: [echo]}, b: {placed: 3, retry: 3, deadline: 2s}}")
    policies = load(text, patterns=(*BUILTIN, Echo, Placed)).policies
    assert policies["a"].patterns == (("echo", EchoConfig(times=2)),)
    assert [key for key, _ in policies["b"].patterns] == ["deadline", "placed", "retry"]


def test_null_is_none_where_the_field_may_be_none_and_the_library_s_elsewhere():
    document = read("version: 1\npolicies: {a: {retry: {budget: null, jitter: null}}, b: {retry: {}}}")
    assert config(document, "a", "retry").budget is None
    assert config(document, "b", "retry").budget is not None
    assert config(document, "a", "retry").jitter == config(document, "b", "retry").jitter


def test_equal_policies_are_equal_whatever_their_text():
    one = read("version: 1\npolicies: {a: {timeout: 2s, about: {owner: x}}}").policies["a"]
    other = read("version: 1\npolicies:\n  a:\n    # two seconds\n    timeout: {timeout: 2000ms}\n").policies["a"]
    assert one == other
    assert one != read("version: 1\npolicies: {a: {timeout: 3s}}").policies["a"]


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\npolicies:\n  # comment\n  a:\n    timeout: 2s\n  b: {retry: {max_attempts: 3}}\n",
        "version: 1\npolicies: {b: {retry: 3}, a: {timeout: {timeout: 2s}}}\nmetadata: {owner: x}\nx-y: 1\nend: true",
        "version: 1\npolicies: {a: {timeout: 2s, about: {owner: team}}, b: {retry: 3}}\ntemplates: {t: {timeout: 9s}}",
    ],
)
def test_the_revision_sees_only_what_takes_effect(text):
    assert read(text).revision == read("version: 1\npolicies: {a: {timeout: 2s}, b: {retry: 3}}").revision


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\npolicies: {a: {timeout: 3s}}",
        "version: 1\npolicies: {b: {timeout: 2s}}",
        "version: 1\npolicies: {a: {timeout: 2s}}\ndefaults: {deadline: 3s}",
        "version: 1\npolicies: {a: {timeout: 2s}}\nsettings: {on_removed: reject}",
        "version: 1\npolicies: {a: {timeout: 2s, mode: observe}}",
    ],
)
def test_the_revision_changes_with_what_takes_effect(text):
    assert read(text).revision != read("version: 1\npolicies: {a: {timeout: 2s}}").revision


def test_a_leaf_knows_its_place():
    spec = read("version: 1\npolicies:\n  a:\n    retry: {max_attempts: 4}\n").policies["a"]
    assert str(spec.place(("retry", "max_attempts"))) == "r.yaml:4:27"


def test_a_leaf_knows_what_it_shadows():
    text = "version: 1\ntemplates:\n  t: {timeout: 1s}\npolicies:\n  a: {extends: t, timeout: 2s}\n"
    place = read(text).policies["a"].place(("timeout", "timeout"))
    assert [str(one) for one in place.chain()] == ["r.yaml:5:28", "r.yaml:3:16"]


def test_exceptions_outside_of_import_from_stay_pending():
    text = "version: 1\npolicies: {a: {classify: {failure: {exceptions: [json.JSONDecodeError, KeyError]}}}}"
    document = read(text)
    assert document.policies["a"].rules[0].exceptions == (ExceptionName("json.JSONDecodeError"), KeyError)
    resolved = read("settings: {import_from: [json]}\n" + text).policies["a"].rules[0].exceptions
    assert resolved == (json.JSONDecodeError, KeyError)


def test_nothing_outside_of_import_from_is_imported(tmp_path, monkeypatch):
    (tmp_path / "tempting_module.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    text = "version: 1\npolicies: {a: {retry: {retry_on_exceptions: [tempting_module.Error]}}}"
    assert read(text).pending == ("tempting_module.Error",)
    assert errors("settings: {import_from: [tempting_module]}\n" + text) == ["AR306"]


def test_callables_come_from_the_service():
    text = "version: 1\npolicies: {a: {fallback: {call: quote}}}"
    assert config(read(text, callables={"quote": len}), "a", "fallback").call is len
    assert errors(text, callables={"quotes": len}) == ["AR305"]


def test_outside_of_a_service_what_only_it_knows_is_a_note():
    text = (
        "version: 1\nbackends: {main: {type: redis, url: '${URL}'}}\npolicies:\n"
        "  a: {fallback: {call: quote}, retry: {retry_on_exceptions: [no_package.Error]}, rate_limiter: '${RATE}'}\n"
    )
    document = read(text, in_service=False)
    assert [(one.id, one.severity) for one in document.findings if one.id < "AR4"] == [
        ("AR308", "note"), ("AR305", "note"), ("AR306", "note"), ("AR308", "note"),
    ]  # fmt: skip
    assert [key for key, _ in document.policies["a"].patterns] == ["fallback", "retry"]
    assert set(errors(text)) == {"AR305", "AR306", "AR308"}


def test_a_mapping_is_a_document_too():
    document = read({"version": 1, "policies": {"a": {"timeout": "2s", "retry": {"max_attempts": 3}}}})
    assert config(document, "a", "timeout").timeout == 2.0
    assert errors({"version": 1, "policies": {"a": {"timeout": object()}}}) == ["AR203"]
    assert errors({"version": 1, "policies": {"a": {"bulkhead": 10**5000}}}) == ["AR203"]


def test_interpolated_values_take_the_type_of_their_field():
    text = "version: 1\npolicies: {a: {bulkhead: '${N}', idempotent: '${I}', about: {owner: '${N}'}, timeout: 2s}}"
    spec = read(text, environ={"N": "7", "I": "true"}).policies["a"]
    assert (spec.patterns[0][1].max_concurrent, spec.idempotent, spec.about.owner) == (7, True, "7")
    assert errors(text, environ={"N": "many", "I": "true"}) == ["AR203"]


def test_interpolation_never_reads_what_it_filled_in():
    spec = read("version: 1\npolicies: {a: {about: {owner: '${X} $$ $y'}}}", environ={"X": "${Y} {a: b}"}).policies["a"]
    assert spec.about.owner == "${Y} {a: b} $ $y"


def test_secrets_are_masked_in_errors():
    text = "version: 1\nbackends: {main: {type: redis, url: '${URL}', fleet_size: many}}"
    with pytest.raises(ConfigError) as caught:
        read(text.replace("many", "'${URL}'"), environ={"URL": "hunter2-secret"})
    assert "hunter2" not in str(caught.value)


def test_whole_says_that_every_file_carried_its_end(tmp_path):
    (tmp_path / "a.yaml").write_text("version: 1\nend: true\n")
    (tmp_path / "b.yaml").write_text("version: 1\n")
    one = load(FileSource(tmp_path / "a.yaml"), patterns=BUILTIN)
    both = load([FileSource(tmp_path / "a.yaml"), FileSource(tmp_path / "b.yaml")], patterns=BUILTIN)
    assert (one.whole, both.whole, both.ended) == (True, False, {str(tmp_path / "a.yaml")})


def test_files_are_hashed_with_their_includes(tmp_path):
    (tmp_path / "common.yaml").write_text("version: 1\ntemplates: {t: {timeout: 2s}}\n")
    (tmp_path / "a.yaml").write_text("version: 1\ninclude: [common.yaml]\npolicies: {p: {extends: t}}\n")
    document = load(FileSource(tmp_path / "a.yaml"), patterns=BUILTIN)
    assert sorted(Path(path).name for path, _ in document.files) == ["a.yaml", "common.yaml"]
    assert all(len(digest) == 64 for _, digest in document.files)


def test_a_missing_file_is_named_by_its_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=str(tmp_path / "nope.yaml")) as caught:
        load(FileSource("nope.yaml"), patterns=BUILTIN)
    assert [one.id for one in caught.value.diagnostics] == ["AR101"]


def test_the_document_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        read("version: 1").revision = "x"


def test_breathe_is_called_about_every_millisecond():
    breaths = []
    names = [f"  p-{number}: {{timeout: {number + 1}ms, retry: {number + 1}}}" for number in range(300)]
    read("version: 1\npolicies:\n" + "\n".join(names), breathe=lambda: breaths.append(time.perf_counter()))
    assert len(breaths) > 10


def test_a_thousand_policies_take_less_than_half_a_second():
    lines = [
        f"  p-{number}: {{extends: t, timeout: {number + 100}ms, rate_limiter: {number + 1}/second, "
        f"retry: {{max_attempts: 3, initial_delay: {number}ms}}, bulkhead: {{max_concurrent: {number + 1}}}}}"
        for number in range(1000)
    ]
    text = "version: 1\ntemplates:\n  t: {deadline: 10s}\npolicies:\n" + "\n".join(lines)
    taken = []
    for _ in range(3):
        before = time.process_time()
        read(text)
        taken.append(time.process_time() - before)
    traced = 1.0 if sys.gettrace() is None else 3.0  # coverage makes it about three times slower
    assert min(taken) < 0.5 * traced
