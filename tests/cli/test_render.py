"""render: one flat file that means the same as all the layers did."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings, strategies as st

from aioresilience.cli.rendering import text_of
from aioresilience.cli.yaml_text import block, flow
from aioresilience.config import ConfigError, FileSource, MappingSource, TextSource, load
from aioresilience.config.reading import read
from aioresilience.policy import BUILTIN
from aioresilience.resources import folder

GOOD = sorted((Path(__file__).parents[1] / "config" / "good").glob("*.yaml"))
NOW = 1_800_000_000.0
ENVIRON = {"T": "750ms", "N": "7", "M": "observe"}


def loaded(source, environment=None, environ=ENVIRON):
    return load(source, patterns=BUILTIN, environment=environment, environ=environ, in_service=False, now=NOW)


def same(one, other) -> None:
    """Both take effect alike."""
    assert other.policies == one.policies
    for name in ("default", "settings", "service", "metadata", "backends", "routes", "shared"):
        assert getattr(other, name) == getattr(one, name)
    assert [(o.policy, o.expires, o.active) for o in other.overrides] == [
        (o.policy, o.expires, o.active) for o in one.overrides
    ]
    assert other.revision == one.revision


def through_text(document, environment=None):
    text = text_of(document.layers, environment)
    again = loaded(TextSource(text, "flat.yaml"))
    same(document, again)
    assert text_of(again.layers, environment) == text, "rendering twice changes nothing"
    return text


@pytest.mark.parametrize("path", [*GOOD, *sorted(folder("policies").glob("*.yaml"))], ids=lambda path: path.stem)
def test_good_files_and_packs_mean_the_same_when_they_are_flat(path):
    document = loaded(FileSource(path))
    through_text(document)
    for name in document.layers.get("environments") or ():
        through_text(loaded(FileSource(path), name), name)


TRICKY = """yes|off|~|null|1:30|0x1f|1e3| a|a |a: b|a #b|- a|${T}|$$|*a|%x|@a|`|!a|?|:|,|{a|[a""".split("|")  # noqa: SIM905
TEXT = st.text(max_size=12) | st.sampled_from(TRICKY)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT)
TREES = st.recursive(
    SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=8), one, max_size=3)
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), TREES, min_size=1, max_size=4))
@example({"{%": "{{ x }}", "a": ["{{{{x}}", "{", "{ {"]})
@settings(max_examples=300, deadline=None)
def test_whatever_is_written_is_read_back(tree):
    for text in (block(tree), f"{flow(tree)}\n"):
        assert read(text) == tree, text


TEXTS = st.sampled_from(["500ms", "2s", "1m30s", "${T}", "${T:-3s}", "${NOT_THERE:-4s}"])
WHOLE = st.integers(1, 9) | st.just("${N}")
POLICY = st.fixed_dictionaries(
    {},
    optional={
        "timeout": TEXTS | st.fixed_dictionaries({"timeout": TEXTS, "raise_on_timeout": st.booleans()}) | st.none(),
        "deadline": TEXTS,
        "retry": WHOLE
        | st.fixed_dictionaries({}, optional={"max_attempts": WHOLE, "jitter": st.sampled_from(["full", 0.1])}),
        "bulkhead": WHOLE | st.just({"use": "pool"}) | st.none(),
        "rate_limiter": st.sampled_from(["100/second", {"rate": {"permits": 300, "per": "5m"}, "burst": 20}]),
        "fallback": st.sampled_from([None, {"value": {"a": [1, "x: y"]}}, "$$5", ["later"], {"call": "quote"}]),
        "circuit_breaker": st.sampled_from([{}, {"failure_threshold": 3}, {"window": "30s", "failure_rate": "50%"}]),
        "mode": st.sampled_from(["observe", "off", {"enforce": "10%"}, "${M}"]),
        "idempotent": st.booleans(),
        "classify": st.just({"failure": {"status": [500, "502-504"], "exceptions": ["OSError"]}}),
        "extends": st.sampled_from(["base", ["base", "http-client"], None]),
        "about": st.just({"owner": "team: pay", "runbook": "https://example.invalid/#x"}),
    },
)
OVERLAY = st.fixed_dictionaries(
    {}, optional={"defaults": POLICY.map(lambda one: {k: v for k, v in one.items() if k != "extends"})}
)
KILL = {
    "policy": "*",
    "set": {"bulkhead": {"mode": "off"}},
    "expires": "2999-01-01T00:00:00Z",
    "reason": "I",
    "by": "o",
}
DOCUMENT = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "include": st.just(["pack:http-client"]),
        "templates": st.fixed_dictionaries({"base": POLICY.map(lambda one: {**one, "extends": []})}),
        "shared": st.just({"pool": {"bulkhead": {"max_concurrent": 4, "max_waiting": 2}}}),
        "policies": st.dictionaries(st.sampled_from(["a", "b.c", "d-1", "on"]), POLICY, max_size=3),
        "environments": st.fixed_dictionaries({"live": OVERLAY}),
        "overrides": st.just([KILL]),
    }
)  # fmt: skip


@given(DOCUMENT, st.sampled_from([None, "live"]))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_documents_mean_the_same_when_they_are_flat(tree, environment):
    try:
        document = loaded(MappingSource(tree), environment)
    except ConfigError:
        assume(False)  # such as a value and a call in one fallback
    flat = through_text(document, environment)
    environ = {"T": "9s", "N": "2", "M": "off"}
    same(loaded(MappingSource(tree), environment, environ), loaded(TextSource(flat), None, environ))


def test_the_command_inlines_packs_and_includes_and_keeps_interpolation(run, write):
    write("templates: {t: {timeout: 2s}}", "common/t.yaml")
    write(
        'include: [common/t.yaml, "pack:cache"]\npolicies: {a: {extends: t, deadline: "${D:-5s}"}}\n'
        "environments: {live: {policies: {a: {timeout: 3s}}}}"
    )
    flat = run("render", "resilience.yaml", "-e", "live", env={"D": "7s"}).stdout
    assert 'deadline: "${D:-5s}"' in flat or "deadline: ${D:-5s}" in flat
    assert {"include", "environments"} & read(flat).keys() == set()
    assert {"t", "cache"} <= read(flat)["templates"].keys()
    write(flat, "flat.yaml")
    assert run("diff", "resilience.yaml", "flat.yaml", "-e", "live").exit_code == 0
    assert "environments" in read(run("render", "resilience.yaml").stdout)


def test_variables_that_patch_policies_stay_with_the_reader(run, write):
    write("policies: {a: {timeout: 2s}}")
    shown = run("render", "resilience.yaml", env={"AIORESILIENCE_POLICIES__A__TIMEOUT": "9s"}).stdout
    assert read(shown)["policies"] == {"a": {"timeout": "2s"}}


def test_a_password_in_plain_text_is_told(run, write):
    for url, told in (("redis://:hunter2@h/0", True), ("redis://:${P}@h/0", False), ("redis://h/0", False)):
        write(f'backends: {{m: {{type: redis, url: "{url}"}}}}')
        assert ("plain text" in run("render", "resilience.yaml").stderr) is told


def test_a_refused_file_is_not_rendered(run, write):
    result = run("render", write("policies: {a: {retyr: 3}}"))
    assert (result.exit_code, result.stdout) == (1, "")
