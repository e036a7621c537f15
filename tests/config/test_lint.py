import pytest

from aioresilience.config import CATALOGUE, TextSource, load
from aioresilience.config.lint import compare_code, uses_in
from aioresilience.policy import BUILTIN

NOW = 1_790_000_000.0
EXAMPLES = [code for code, entry in CATALOGUE.items() if code >= "AR4" and entry.example]


def read(text):
    return load(TextSource(f"version: 1\n{text}"), patterns=BUILTIN, in_service=False, now=NOW)


def ids(text):
    return [one.id for one in read(text).findings]


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_example_of_the_catalogue_gives_its_finding(code):
    assert code in ids(f"policies:\n  a: {CATALOGUE[code].example}\n")


def test_what_is_left_over_is_found():
    old = "overrides: [{policy: a, set: {timeout: 3s}, expires: 2020-01-01T00:00:00Z, reason: INC-1, by: ops}]\n"
    assert ids(f"policies: {{a: {{timeout: 2s}}}}\n{old}") == ["AR404"]
    assert ids("templates: {t: {timeout: 2s}}\n") == ["AR413"]
    assert ids("templates: {t: {timeout: 2s}}\npolicies: {a: {extends: t, timeout: 2s}}\n") == ["AR414"]


def test_attempts_multiply_along_dependencies_and_circles_end():
    def policy(name, below):
        return f"  {name}: {{deadline: 60s, idempotent: true, retry: 4, about: {{depends_on: [{below}]}}}}\n"

    assert ids("policies:\n" + policy("a", "b") + policy("b", "a")) == ["AR415", "AR415"]


def test_a_comment_silences_its_line_and_an_idle_one_is_reported():
    assert ids("policies: {a: {timeout: 2}} # aioresilience: ignore[AR412] as measured\n") == []
    assert ids("policies: {a: {timeout: 2s}} # aioresilience: ignore[AR412] as measured\n") == ["AR418"]


def test_names_in_code_are_compared_both_ways_without_importing_it(tmp_path):
    (tmp_path / "service.py").write_text(
        'raise SystemExit\n@resilient("paymets")\ndef pay(): ...\nregistry.get("search")\ncache.get("other")\n'
    )
    document = read("policies:\n  payments: {timeout: 2s}\n  search: {timeout: 2s}\n")
    found = list(compare_code(document, uses_in(tmp_path)))
    assert [(one.id, one.line) for one in found] == [("AR416", 2), ("AR417", 3)]
    assert found[0].hint == "did you mean 'payments'?"
