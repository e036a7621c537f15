"""Lint: each rule where it speaks and where it keeps silent, the comments that silence, and names in code."""

from __future__ import annotations

import re

import pytest

from aioresilience.config import CATALOGUE, FileSource, TextSource, load
from aioresilience.config.lint import compare_code, uses_in
from aioresilience.policy import BUILTIN

NOW = 1_790_000_000.0
EXAMPLES = [
    code for code, entry in CATALOGUE.items() if code >= "AR4" and entry.example and "routes" not in entry.example
]


def read(text, **options):
    return load(TextSource(f"version: 1\n{text}", "r.yaml"), patterns=BUILTIN, in_service=False, now=NOW, **options)


def ids(text, **options):
    return [one.id for one in read(text, **options).findings]


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_example_of_the_catalogue_gives_its_finding(code):
    assert code in ids(f"policies:\n  a: {CATALOGUE[code].example}\n")


SPEAKS = {
    "AR401": [
        "{deadline: 2s, timeout: 2s}",
        "{deadline: 2s, timeout: 3s, mode: observe}",
    ],
    "AR402": [
        "{deadline: 5s, timeout: 2s, idempotent: true, retry: {max_attempts: 3, initial_delay: 1s, jitter: full}}",
        "{deadline: 5s, timeout: 2s, idempotent: true, retry: {max_attempts: 2, initial_delay: 1500ms}}",
    ],
    "AR403": [
        "{circuit_breaker: {window: 10, minimum_calls: 11}}",
        "{rate_limiter: 1/second, circuit_breaker: {window: 10s, minimum_calls: 20}}",
    ],
    "AR405": ["{timeout: 16s, circuit_breaker: {window: 30s}}"],
    "AR406": ["{deadline: 9s, idempotent: true, retry: {max_attempts: 2, jitter: 0}}"],
    "AR407": [
        "{idempotent: true, retry: 2}",
        "{idempotent: true, retry: 2, timeout: {timeout: 1s, mode: off}}",
    ],
    "AR408": ["{deadline: 9s, retry: 2}"],
    "AR409": ["{deadline: 9s, idempotent: true, retry: 4, circuit_breaker: {failure_threshold: 4}}"],
    "AR410": [
        "{timeout: 1s, bulkhead: {max_waiting: 5, timeout: 1001ms}}",
        "{timeout: 1s, bulkhead: {max_waiting: 5, timeout: null}}",
    ],
    "AR411": ["{deadline: 9s, idempotent: true, retry: 2, load_shedder: 100}"],
    "AR412": [
        "{timeout: 2}",
        "{deadline: 9s, idempotent: true, retry: {budget: {window: 10}}}",
        "{rate_limiter: {rate: {permits: 5, per: 60}}}",
        "{deadline: 9s, idempotent: true, retry: {exception_strategies: {OSError: {max_delay: 1}}}}",
    ],
    "AR420": [
        "{timeout: 1s, circuit_breaker: {slow_call_rate: 50%, slow_call_duration: 1001ms}}",
        "{circuit_breaker: {timeout: 1s, slow_call_rate: 50%, slow_call_duration: 1001ms}}",
        "{deadline: 9s, idempotent: true, retry: {budget: {ratio: 0%, min_per_second: 0.05, window: 10s}}}",
    ],
}
KEEPS_SILENT = {
    "AR401": ["{deadline: 2s, timeout: 1999ms}", "{timeout: 3s}", "{deadline: 2s, timeout: {timeout: 3s, mode: off}}"],
    "AR402": [
        "{deadline: 5s, timeout: 2s, idempotent: true, retry: {max_attempts: 2, initial_delay: 1s}}",
        "{deadline: 5s, timeout: 2s, idempotent: true, retry: 1}",
        "{deadline: 1s, timeout: 2s, idempotent: true, retry: 3}",  # AR401 says it
    ],
    "AR403": [
        "{circuit_breaker: {window: 10, minimum_calls: 10}}",
        "{circuit_breaker: {window: 10}}",  # a small window lowers the minimum
        "{rate_limiter: 2/second, circuit_breaker: {window: 10s, minimum_calls: 20}}",
        "{rate_limiter: {rate: 1/second, scope: key}, circuit_breaker: {window: 10s, minimum_calls: 20}}",
        "{mode: observe, rate_limiter: 1/second, circuit_breaker: {window: 10s, minimum_calls: 20}}",
    ],
    "AR405": [
        "{timeout: 15s, circuit_breaker: {window: 30s}}",
        "{timeout: 90s, circuit_breaker: {failure_threshold: 3}}",
    ],
    "AR406": ["{deadline: 9s, idempotent: true, retry: {max_attempts: 2, jitter: 0, max_delay: 0s}}"],
    "AR407": [
        "{idempotent: true, retry: 2, timeout: 1s}",
        "{idempotent: true, retry: 2, deadline: 9s}",
        "{idempotent: true, retry: 2, circuit_breaker: {timeout: 1s}}",
        "{retry: 1}",
    ],
    "AR408": ["{deadline: 9s, retry: 2, idempotent: false}", "{retry: 1}", "{deadline: 9s, retry: {mode: off}}"],
    "AR409": [
        "{deadline: 9s, idempotent: true, retry: 4, circuit_breaker: {failure_threshold: 5}}",
        "{deadline: 9s, idempotent: true, retry: 4, circuit_breaker: {failure_rate: 50%}}",
        "{deadline: 9s, retry: 4, circuit_breaker: {failure_threshold: 4}, order: [deadline, circuit_breaker, retry]}",
    ],
    "AR410": [
        "{timeout: 1s, bulkhead: {max_waiting: 5, timeout: 1s}}",
        "{timeout: 1s, bulkhead: {timeout: 5s}}",
        "{deadline: 9s, timeout: 1s, bulkhead: {max_waiting: 5, timeout: null}}",
    ],
    "AR411": ["{load_shedder: 100}", "{deadline: 9s, idempotent: true, retry: 1, load_shedder: 100}"],
    "AR412": ["{timeout: 2s}", "{timeout: '${T:-2}'}", "{circuit_breaker: {window: 100}}", "{retry: 1}"],
    "AR420": [
        "{timeout: 1s, circuit_breaker: {slow_call_rate: 50%, slow_call_duration: 1s}}",
        "{timeout: {timeout: 1s, mode: observe}, circuit_breaker: {slow_call_rate: 50%, slow_call_duration: 2s}}",
        "{timeout: 1s, circuit_breaker: {slow_call_rate: 50%, slow_call_duration: 2s, mode: off}}",
        "{deadline: 9s, idempotent: true, retry: {budget: {ratio: 0%, min_per_second: 0.1, window: 10s}}}",
        "{deadline: 9s, idempotent: true, retry: {budget: {ratio: 0%, min_per_second: 0, window: 10s}}}",  # none meant
    ],
}


@pytest.mark.parametrize(("code", "policy"), [(code, one) for code, all_ in SPEAKS.items() for one in all_])
def test_a_rule_speaks(code, policy):
    assert code in ids(f"policies:\n  a: {policy}\n")


@pytest.mark.parametrize(("code", "policy"), [(code, one) for code, all_ in KEEPS_SILENT.items() for one in all_])
def test_a_rule_keeps_silent(code, policy):
    assert code not in ids(f"policies:\n  a: {policy}\n")


def test_every_rule_about_one_policy_is_tried_both_ways():
    one_policy = {code for code in CATALOGUE if "AR401" <= code <= "AR412"} - {"AR404"} | {"AR420"}
    assert SPEAKS.keys() == KEEPS_SILENT.keys() == one_policy


@pytest.mark.parametrize(
    ("severity", "codes"),
    [
        ("error", {"AR401", "AR403", "AR404"}),
        ("warning", set(SPEAKS) - {"AR401", "AR403"} | {"AR413", "AR414", "AR415"}),
    ],
)
def test_lint_errors_are_few(severity, codes):
    assert {CATALOGUE[code].severity for code in codes} == {severity}


def override(expires):
    one = f"{{policy: a, set: {{timeout: 3s}}, expires: {expires}, reason: INC-1, by: ops}}"
    return f"policies: {{a: {{timeout: 2s}}}}\noverrides: [{one}]\n"


def test_an_override_long_past_its_end_is_found():
    assert ids(override("2020-01-01T00:00:00Z")) == ["AR404"]
    assert ids(override("2026-09-20T00:00:00Z")) == []  # it ended days ago
    assert ids(override("2027-01-01T00:00:00Z")) == []


def test_a_template_that_nothing_extends_is_found():
    assert ids("templates: {t: {timeout: 2s}}\npolicies: {a: {}}\n") == ["AR413"]
    assert ids("templates: {t: {timeout: 2s}}\n") == []  # a file that is there to be included
    assert ids("templates: {t: {timeout: 2s}, u: {extends: t}}\npolicies: {a: {extends: [u]}}\n") == []
    assert ids('include: ["pack:cache"]\n') == []  # one of a pack is no fault of this file


def test_a_policy_that_repeats_its_template_is_found():
    assert ids("templates: {t: {timeout: 2s}}\npolicies: {a: {extends: t, timeout: 2s}}\n") == ["AR414"]
    assert ids("templates: {t: {timeout: 2s}}\npolicies: {a: {extends: t, timeout: 3s}, b: {extends: t}}\n") == []


@pytest.mark.parametrize("environment", [None, "staging"])
def test_a_policy_that_an_environment_adds_under_nearly_the_name_of_another_is_found(environment):
    def found(name):
        overlay = f"environments: {{staging: {{policies: {{{name}: {{bulkhead: 5}}}}}}}}\n"
        return ids(f"policies: {{payments: {{timeout: 2s}}}}\n{overlay}", environment=environment)

    assert found("payment") == ["AR419"]
    assert found("payments") == []
    assert found("mail") == []


def chain(attempts, below="b"):
    policy = "{{deadline: 600s, idempotent: true, retry: {}, about: {{depends_on: [{}]}}}}"
    return f"policies:\n  a: {policy.format(attempts, below)}\n  b: {policy.format(attempts, '')}\n"


def test_attempts_multiply_along_dependencies_and_circles_end():
    assert ids(chain(4)) == ["AR415"]
    assert ids(chain(3)) == []
    circle = chain(4).replace("depends_on: []", "depends_on: [a]")
    assert set(ids(circle)) == {"AR415"}


def test_a_comment_silences_its_line_and_an_idle_one_is_reported():
    assert ids("policies: {a: {timeout: 2}} # aioresilience: ignore[AR412] as measured\n") == []
    assert ids("policies: {a: {timeout: 2s}} # aioresilience: ignore[AR412] as measured\n") == ["AR418"]
    assert ids("policies: {a: {timeout: 2}} # aioresilience: ignore[AR401, AR412] both\n") == ["AR418"]
    assert ids("policies: {a: {timeout: 2}} # aioresilience: ignore\n") == ["AR412", "AR418"]
    assert ids('x-a: "# aioresilience: ignore[AR412]"\n') == []


def test_what_a_pack_gives_is_found_where_the_policy_stands_and_can_be_silenced_there():
    text = 'include: ["pack:http-client"]\npolicies:\n  a: {extends: http-client, timeout: 800ms, deadline: 9s}\n'
    [found] = read(text).findings
    assert (found.id, found.file, found.line, found.column) == ("AR410", "r.yaml", 4, 3)
    assert "the value comes from pack:http-client:" in str(found)
    assert ids(text.replace("9s}", "9s} # aioresilience: ignore[AR410] measured")) == []


def test_a_finding_in_a_template_is_told_once_for_all_its_policies():
    assert ids("templates:\n  t: {timeout: 3s, deadline: 2s}\npolicies: {a: {extends: t}, b: {extends: t}}\n") == [
        "AR401"
    ]


@pytest.fixture
def code(tmp_path):
    """Write code beside a file; return what comparing the two finds, as id, file and line."""

    def compare(source, policies="  payments: {timeout: 2s}\n  search: {timeout: 2s}\n", name="service.py"):
        file = tmp_path / "r.yaml"
        file.write_text(f"version: 1\npolicies:\n{policies}")
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
        document = load(FileSource(file), patterns=BUILTIN, in_service=False, now=NOW)
        found = compare_code(document, uses_in(tmp_path / "src"))
        return [(one.id, re.sub(r".*/", "", one.file), one.line) for one in found]

    return compare


def test_names_in_code_are_compared_both_ways_without_importing_it(code):
    source = 'raise SystemExit\n@resilient("paymets")\ndef pay(): ...\nregistry.get("search")\ncache.get("other")\n'
    assert code(source) == [("AR416", "service.py", 2), ("AR417", "r.yaml", 3)]


@pytest.mark.parametrize(
    "use",
    [
        '@resilient("{}")\nasync def f(): ...',
        '@aioresilience.resilient("{}", key=lambda user: user)\nasync def f(): ...',
        'registry.get("{}")',
        'self._registry.get("{}")',
        'registry["{}"]',
        'get_registry().get("{}")',
        'app.state.registry["{}"].call(f)',
        'REGISTRY.get("{}")',
        'resilient(name="{}")(f)',
    ],
)
def test_every_way_to_name_a_policy_is_read(code, use):
    assert code(f"{use.format('payments')}\n{use.format('search')}\n") == []
    assert ("AR416", "service.py", 1) in code(use.format("nope"))


@pytest.mark.parametrize(
    "use", ['cache.get("nope")', 'get("nope")', "registry.get(name)", 'os.environ["nope"]', '"nope"']
)
def test_what_names_no_policy_is_passed_over(code, use):
    assert [found for found in code(use) if found[0] == "AR416"] == []


def test_other_peoples_code_and_broken_code_are_passed_over(code):
    code('registry.get("nope")', name=".venv/a.py")
    code('registry.get("nope")', name="node_modules/a.py")
    code("def (:", name="broken.py")
    assert code('registry.get("payments"), registry.get("search")', name="fine.py") == []


def test_code_that_cannot_be_parsed_and_may_name_policies_is_told_and_no_policy_taken_for_unused(code):
    code('registry.get("nope")', name="fine.py")
    found = code('@resilient("payments")\nasync def f(:\n', name="broken.py")
    assert found == [("AR416", "fine.py", 1), ("AR422", "broken.py", 2)]
    assert ("AR422", "broken.py", 1) in code("registry = '\0'", name="broken.py")


def test_a_byte_order_mark_is_no_reason(code):
    assert code('\ufeffregistry.get("payments"), registry.get("search")', name="fine.py") == []


def test_a_policy_that_only_a_route_names_is_used(code):
    policies = "  payments: {timeout: 2s}\nroutes: [{policy: payments}]\n"
    assert code("pass", policies) == []


def test_comments_silence_what_code_and_file_disagree_on(code):
    source = 'registry.get("nope")  # aioresilience: ignore[AR416] made at run time\nregistry.get("payments")\n'
    silent = "  payments: {timeout: 2s}\n  search: {timeout: 2s} # aioresilience: ignore[AR417] used elsewhere\n"
    assert code(source, silent) == []
    idle = 'registry.get("search")  # aioresilience: ignore[AR416]\nregistry.get("payments")\n'
    assert sorted(code(idle, silent)) == [("AR418", "r.yaml", 4), ("AR418", "service.py", 1)]
