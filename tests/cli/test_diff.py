"""diff: what a change does, in words of behaviour, in every environment."""

from __future__ import annotations

import json

import pytest

OLD = "policies: {a: {timeout: 2s}}"


@pytest.fixture
def diff(run, write):
    def diff(old, new, *words, code=1):
        write(old, "old.yaml")
        write(new, "new.yaml")
        result = run("diff", "old.yaml", "new.yaml", *words)
        assert result.exit_code == code, result.output
        return result.output

    return diff


def _backend(url):
    return f'backends: {{m: {{type: redis, url: "{url}"}}}}'


def policy(**fields):
    return f"policies: {{a: {json.dumps(fields)}}}"


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ({"timeout": "2s"}, {"timeout": "3s"}, "takes at most 3s per call, was at most 2s"),
        ({"timeout": "2s"}, {"bulkhead": 3}, "takes any time per call, was at most 2s"),
        ({"retry": 2}, {"retry": 3}, "reaches the dependency up to 3 times per call, was up to 2 times"),
        ({}, {"retry": 3}, "reaches the dependency up to 3 times per call, was once"),
        ({"bulkhead": 5}, {"bulkhead": 9}, "runs at most 9 calls at once in one process, was at most 5 calls at once"),
        ({"bulkhead": 5}, {}, "runs any number of calls in one process, was at most 5 calls at once"),
        ({"bulkhead": 5}, {"bulkhead": {"max_concurrent": 5, "mode": "off"}}, "any number of calls in one process"),
        ({"rate_limiter": "9/second"}, {"rate_limiter": "5/minute"}, "starts at most 5/minute, was at most 9/second"),
        ({"rate_limiter": "9/second"}, {"rate_limiter": {"rate": "9/second", "scope": "key"}}, "9/second for each key"),
        ({"bulkhead": 5}, {"bulkhead": 3}, "bulkhead.max_concurrent: 5 → 3 (a shrink is a debt paid by releases"),
        ({"rate_limiter": "9/second"}, {"rate_limiter": "5/second"}, "the spent share is kept"),
        (
            {"circuit_breaker": {"window": "30s"}},
            {"circuit_breaker": {"window": 50}},
            "circuit_breaker.window: 30s → 50",
        ),
        ({"timeout": "2s"}, {"timeout": "2s", "retry": 1}, "retry: absent → present (starts with new state)"),
        ({"mode": "observe"}, {"mode": "enforce"}, "mode: observe → enforce (from the next call on)"),
    ],
)
def test_it_says_what_callers_and_the_dependency_notice(diff, old, new, shown):
    assert shown in diff(policy(**old), policy(**new))


def test_what_only_looks_different_is_no_change(diff):
    assert diff(OLD, "policies:\n  a:\n    timeout: {timeout: 2000ms} # the same\n", code=0) == "nothing changes\n"


def test_policies_come_and_go(diff):
    output = diff(OLD, "policies: {b: {timeout: 2s, retry: 3}}")
    assert "a: removed\n  processes that use it go on with it\n" in output
    assert "b: added\n  worst case: 10s per call, 3 attempts\n" in output


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("settings: {}", "settings: {on_removed: reject}", "settings.on_removed: keep → reject"),
        ("service: a", "service: b", "service: a → b"),
        (_backend("redis://a"), _backend("redis://b"), "backends.m: changed"),
        ("shared: {}", "shared: {p: {bulkhead: 3}}", "shared p.bulkhead: added"),
    ],
)
def test_it_tells_what_changes_beside_the_policies(diff, old, new, shown):
    assert shown in diff(old, new)


def test_overrides_come_and_go(diff):
    one = "overrides: [{policy: a, set: {timeout: 9s}, expires: 2999-01-01T00:00:00Z, reason: INC-1, by: ops}]"
    begun = diff(OLD, f"{OLD}\n{one}")
    assert "override of a (INC-1): in force" in begun
    assert "takes at most 9s per call, was at most 2s" in begun
    assert "override of a (INC-1): ended" in diff(f"{OLD}\n{one}", OLD)


LIVE = f"{OLD}\nenvironments: {{live: {{policies: {{a: {{timeout: 5s}}}}}}, test: {{}}}}"


def test_environments_are_compared_each_and_equal_differences_told_once(diff):
    output = diff(LIVE, LIVE.replace("timeout: 2s", "timeout: 3s"))
    assert output.startswith("in no environment and test:\na\n  takes at most 3s per call, was at most 2s\n")
    assert "live" not in output
    assert diff(LIVE, LIVE.replace("timeout: 5s", "timeout: 6s")).startswith("in live:\na\n  takes at most 6s")


def test_an_environment_that_one_side_lacks_is_compared_with_its_base(diff):
    assert diff(OLD, LIVE).startswith("in live:\na\n  takes at most 5s per call, was at most 2s")
    assert diff(OLD, LIVE, "-e", "live").startswith("a\n  takes at most 5s")
    assert "neither side has the environment 'nope'" in diff(OLD, LIVE, "-e", "nope", code=2)


def test_a_side_may_be_several_files_or_standard_input(run, write):
    write(OLD, "base.yaml")
    write("policies: {a: {deadline: 9s}}", "team.yaml")
    assert "deadline: absent → present" in run("diff", "base.yaml", "base.yaml:team.yaml").output
    assert run("diff", "-", "base.yaml", input=f"version: 1\n{OLD}\n").exit_code == 0
    assert run("diff", "-", "base.yaml", input="version: 1\npolicies: {a: {timeout: 7s}}").exit_code == 1


def test_trouble_exits_2(diff, run, write):
    assert "AR201" in diff(OLD, "policies: {a: {timeuot: 3s}}", code=2)
    assert run("diff", "nope.yaml", write(OLD)).exit_code == 2


def test_machines_read_json(diff):
    rows = json.loads(diff(OLD, "policies: {a: {timeout: 3s}}\nservice: b", "--format", "json"))
    assert (rows[0]["path"], rows[0]["old"], rows[0]["new"]) == ("service", None, "b")
    assert rows[1] == {
        "environments": [None], "policy": "a", "kind": "changed", "path": "timeout.timeout", "old": "2s", "new": "3s",
        "effect": "from the next call on",
    }  # fmt: skip
    assert json.loads(diff(OLD, OLD, "--format", "json", code=0)) == []
