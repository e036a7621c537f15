"""explain: what is in effect, its worst case, and where each value comes from."""

from __future__ import annotations

import asyncio
import os
import re

import pytest

from aioresilience import Registry
from aioresilience.cli.worst_case import attempts_of, latency_of, worst_case
from aioresilience.config import MappingSource, load
from aioresilience.policy import BUILTIN
from aioresilience.testing import VirtualClock

FILE = """version: 1
templates:
  base: {timeout: 2s, deadline: 10s, retry: {max_attempts: 4}}
policies:
  payments:
    extends: base
    about: {description: Card authorisation, owner: team-pay, runbook: "https://example.invalid/psp"}
    idempotent: true
    timeout: 1s
    retry: {max_attempts: 3, max_delay: 1s}
    bulkhead: {max_concurrent: 5, max_waiting: 10, timeout: 100ms}
    fallback: {value: later}
    classify: {failure: {status: [500, 502-504]}}
  payments.eu: {timeout: 3s}
  quotes: {extends: base, retry: null, fallback: {call: cached-quote, timeout: 1s}, deadline: "${D}"}
environments:
  live: {policies: {payments: {retry: {max_attempts: 5}}}}
"""


@pytest.fixture
def explain(run, write):
    write(FILE)

    def explain(*words, code=0, **options):
        result = run("explain", "resilience.yaml", *words, **options)
        assert result.exit_code == code, result.output
        return result.output

    return explain


def test_without_a_policy_it_shows_each_in_a_line(explain):
    lines = explain().splitlines()
    assert lines[0].split() == ["payments", "5.3s", "per", "call,", "3", "attempts", "team-pay"]
    assert [line.split()[0] for line in lines] == ["payments", "payments.eu", "quotes"]


def test_a_policy_shows_whose_it_is_and_what_it_does_at_worst(explain):
    output = explain("payments")
    for line in (
        "description  Card authorisation",
        "owner        team-pay",
        "runbook      https://example.invalid/psp",
        "order        fallback → deadline → retry → bulkhead → timeout → call",
        "worst case   5.3s per call, 3 attempts",
        "idempotent   true",
        "classify     failure: {status: [500, 502-504]}",
    ):
        assert f"  {line}\n" in output


def test_every_value_has_its_place(explain):
    lines = [" ".join(line.split()) for line in explain("payments").splitlines()]
    assert "max_attempts 3 resilience.yaml:10:27" in lines
    assert "timeout 10s resilience.yaml:3:33" in lines
    assert "backoff_multiplier 2 default" in lines


def test_a_value_shows_what_it_shadows(explain):
    assert explain("payments.retry.max_attempts", "-e", "live").splitlines() == [
        "payments.retry.max_attempts = 5",
        "  from resilience.yaml:17:54: 5",
        "  over resilience.yaml:10:27: 3",
        "  over resilience.yaml:3:60: 4",
        "  over the default: 3",
    ]


def test_a_value_that_every_layer_says_names_them_all(run, write):
    write("defaults: {retry: {max_attempts: 9}}\npolicies: {payments: {retry: {max_attempts: 8}}}", "common/http.yaml")
    override = "expires: 2999-01-01T00:00:00Z, reason: INC-1, by: ops"
    write(
        f"""version: 1
include: [common/http.yaml, "pack:http-client"]
templates: {{psp: {{extends: http-client, retry: {{max_attempts: 2}}}}}}
policies: {{payments: {{extends: psp, retry: {{max_attempts: 3}}}}}}
environments: {{live: {{policies: {{payments: {{retry: {{max_attempts: 4}}}}}}}}}}
overrides:
  - {{policy: payments, set: {{retry: {{max_attempts: 6}}}}, {override}}}
  - {{policy: "*", set: {{retry: {{max_attempts: 1}}}}, {override}}}
"""
    )
    write("policies: {payments: {retry: {max_attempts: 7}}}", "later.yaml")
    variable = "AIORESILIENCE_POLICIES__PAYMENTS__RETRY__MAX_ATTEMPTS"
    files = f"resilience.yaml{os.pathsep}later.yaml"
    shown = run("explain", files, "payments.retry.max_attempts", "-e", "live", env={variable: "5"}).output.splitlines()
    assert shown[0] == "payments.retry.max_attempts = 1"
    assert [re.sub(r":\d+(?=: |$)", "", line) for line in shown[1:]] == [
        "  from override resilience.yaml:8: 1",
        "  over override resilience.yaml:7: 6",
        f"  over environment {variable}",
        "  over resilience.yaml:5: 4",
        "  over later.yaml:2: 7",
        "  over resilience.yaml:4: 3",
        "  over common/http.yaml:3: 8",
        "  over resilience.yaml:3: 2",
        "  over pack:http-client:22: 3",
        "  over common/http.yaml:2: 9",
        "  over the default: 3",
    ]


def test_a_variable_is_a_place_too(explain):
    shown = explain("payments.timeout.timeout", env={"AIORESILIENCE_POLICIES__PAYMENTS__TIMEOUT__TIMEOUT": "4s"})
    assert shown.splitlines()[:2] == [
        "payments.timeout.timeout = 4s",
        "  from environment AIORESILIENCE_POLICIES__PAYMENTS__TIMEOUT__TIMEOUT",
    ]


def test_a_value_that_nobody_set_is_the_default(explain):
    assert explain("payments.retry.initial_delay").splitlines() == [
        "payments.retry.initial_delay = 100ms",
        "  from the default: 100ms",
    ]


def test_a_pattern_shows_the_values_that_were_set(explain):
    assert explain("payments.bulkhead").count(" = ") == 3
    assert explain("payments.timeout").startswith("payments.timeout.timeout = 1s\n  from resilience.yaml:9:14: 1s")


def test_what_stands_beside_the_patterns_can_be_asked_too(explain):
    assert explain("payments.about.owner").splitlines() == [
        "payments.about.owner = team-pay",
        "  from resilience.yaml:7:53: team-pay",
    ]
    assert explain("payments.idempotent").startswith("payments.idempotent = true\n  from resilience.yaml:8")
    assert "{status: [500, 502-504]}" in explain("payments.classify.failure")


def test_a_value_within_a_block_can_be_asked(run, write):
    write("policies: {a: {retry: {budget: {ratio: 10%}}}}")
    assert run("explain", "resilience.yaml", "a.retry.budget.ratio").output.splitlines() == [
        "a.retry.budget.ratio = 10%",
        "  from resilience.yaml:2:40: 10%",
    ]


def test_what_was_removed_says_by_whom(explain):
    shown = explain("quotes.retry").splitlines()
    assert shown == ["quotes.retry = null", "  from resilience.yaml:15:34: null", "  over resilience.yaml:3:45"]


def test_what_only_the_service_knows_is_shown_as_written(explain):
    output = explain("quotes")
    assert "${D} (not set here)" in output
    assert " ".join(next(line for line in output.splitlines() if " call " in line).split()).startswith(
        "call cached-quote"
    )


def test_the_longest_name_that_fits_is_taken(explain):
    assert "policy payments.eu" in explain("payments.eu")
    assert "payments.eu.timeout.timeout = 3s" in explain("payments.eu.timeout")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("paymnts", "did you mean 'payments'?"),
        ("zzz", "there are: payments, payments.eu, quotes"),
        ("payments.nope", "it has fallback, deadline, retry, bulkhead, timeout"),
        ("payments.retry.max_atempts", "did you mean 'max_attempts'?"),
        ("payments.about.team", "says nothing about about.team"),
        ("payments.timeout.timeout.x", "says nothing about timeout.timeout.x"),
    ],
)
def test_what_does_not_exist_is_told_with_what_does(explain, target, said):
    assert said in explain(target, code=2)


def test_a_bad_or_missing_file_says_so(run, write):
    assert run("explain", write("policies: {a: {retyr: 3}}"), "a").exit_code == 1
    assert run("explain", "nope.yaml", "a").exit_code == 2


def test_secrets_stay_hidden(run, write):
    write('backends: {m: {type: redis, url: "${U}"}}\npolicies: {a: {fallback: {value: "${V}"}}}')
    assert "sesame" not in run("explain", "resilience.yaml", "a", env={"U": "sesame", "V": "sesame"}).output


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ({"timeout": "2s"}, "2s per call, 1 attempt"),
        ({"bulkhead": 5}, "no bound in time per call, 1 attempt"),
        ({"timeout": "2s", "retry": {"max_attempts": 3, "max_delay": "1s"}}, "8s per call, 3 attempts"),
        ({"timeout": "2s", "retry": 3, "deadline": "5s"}, "5s per call, 3 attempts"),
        ({"deadline": "5s", "fallback": {"call": "f", "timeout": "1s"}}, "6s per call, 1 attempt"),
        ({"deadline": "5s", "fallback": {"call": "f"}}, "no bound in time per call, 1 attempt"),
        ({"deadline": "5s", "fallback": {"value": 1}}, "5s per call, 1 attempt"),
        ({"deadline": "5s", "fallback": {"chain": ["f", {"call": "g"}], "timeout": "1s"}}, "7s per call, 1 attempt"),
        ({"timeout": "1s", "bulkhead": {"max_waiting": 3, "timeout": "2s"}}, "3s per call, 1 attempt"),
        ({"timeout": "1s", "bulkhead": {"max_waiting": 3}}, "no bound in time per call, 1 attempt"),
        ({"timeout": "1s", "bulkhead": {"timeout": "2s"}}, "1s per call, 1 attempt"),
        ({"timeout": "1s", "rate_limiter": {"rate": "1/second", "wait": "2s"}}, "3s per call, 1 attempt"),
        ({"timeout": "1s", "backpressure": {}}, "6s per call, 1 attempt"),
        ({"circuit_breaker": {"timeout": "3s"}}, "3s per call, 1 attempt"),
        # the wait is inside of the timeout, where the order says so
        (
            {"timeout": "1s", "bulkhead": {"max_waiting": 3, "timeout": "2s"}, "order": ["timeout", "bulkhead"]},
            "1s per call, 1 attempt",
        ),
        # modes: guards as the policy says, the others only as they say themselves
        ({"timeout": "1s", "mode": "observe"}, "1s per call, 1 attempt"),
        ({"timeout": {"timeout": "1s", "mode": "observe"}}, "no bound in time per call, 1 attempt"),
        ({"timeout": {"timeout": "1s", "mode": {"enforce": "10%"}}}, "no bound in time per call, 1 attempt"),
        ({"timeout": {"timeout": "1s", "mode": {"enforce": "100%"}}}, "1s per call, 1 attempt"),
        ({"timeout": "1s", "retry": {"max_attempts": 3, "mode": "off"}}, "1s per call, 1 attempt"),
        ({"timeout": "1s", "retry": {"max_attempts": 2, "mode": {"enforce": "1%"}}}, "4s per call, 2 attempts"),
        ({"timeout": "1s", "mode": "off", "bulkhead": {"max_waiting": 3}}, "1s per call, 1 attempt"),
        (
            {"timeout": "1s", "retry": {"max_attempts": 2, "exception_strategies": {"OSError": {"max_attempts": 4}}}},
            "10s per call, 4 attempts",
        ),
    ],
)
def test_the_worst_case_adds_up_from_the_call_outwards(policy, told):
    document = load(MappingSource({"version": 1, "policies": {"a": policy}}), patterns=BUILTIN, in_service=False)
    assert worst_case(document.policies["a"]) == told


async def test_the_worst_case_is_what_a_hanging_call_takes():
    policy = {"timeout": "2s", "retry": {"max_attempts": 3, "initial_delay": "1s", "max_delay": "1s", "jitter": 0}}
    clock, calls = VirtualClock(), []
    registry = Registry.from_mapping({"version": 1, "policies": {"a": {**policy, "idempotent": True}}}, clock=clock)
    spec = registry.document.policies["a"]
    assert (attempts_of(spec), latency_of(spec)) == (3, 8.0)

    async def hang():
        calls.append(clock.monotonic())
        await asyncio.Event().wait()

    started = clock.monotonic()
    task = asyncio.ensure_future(registry.get("a").call(hang))
    for _ in range(40):
        await clock.advance(0.25)
        if task.done():
            break
    assert isinstance(task.exception(), TimeoutError)
    assert (len(calls), clock.monotonic() - started) == (3, 8.0)


def test_code_shows_the_python_that_runs_around_a_function(run, write):
    file = write("policies: {payments: {retry: 3, bulkhead: 5}}")
    shown = run("explain", file, "payments", "--code")
    assert shown.exit_code == 0
    compile(shown.output, "shown", "exec")
    assert "machine1.free" in shown.output
    assert "await func(*args, **kwargs)" in shown.output
    assert run("explain", file, "--code").exit_code == 2
    assert run("explain", file, "payments.retry", "--code").exit_code == 2


def test_without_a_choice_the_environment_is_that_of_the_process(run, write, monkeypatch):
    write("policies: {a: {timeout: 2s}}\nenvironments: {slow: {policies: {a: {timeout: 9s}}}, fast: {}}\n")
    monkeypatch.setenv("AIORESILIENCE_ENVIRONMENT", "slow")
    assert "= 9s" in run("explain", "resilience.yaml", "a.timeout").output
    assert "= 2s" in run("explain", "resilience.yaml", "a.timeout", "-e", "fast").output
