"""Routes: which request gets which policy, and routes that no request reaches."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from aioresilience import Registry
from aioresilience.config import TextSource, load
from aioresilience.config.document import Route
from aioresilience.config.lint import compare_code
from aioresilience.config.routes import covers, find
from aioresilience.policy import BUILTIN

ROUTES = (
    Route(host="api.psp.example.invalid", method=("POST", "PUT"), path="/v1/charges", policy="charges"),
    Route(host="*.PSP.example.invalid", policy="psp"),
    Route(host="localhost:8080", policy="local"),
    Route(host="[::1]", policy="six"),
    Route(method=("GET",), path="/static/", policy="static"),
)


@pytest.mark.parametrize(
    ("method", "host", "port", "path", "policy"),
    [
        ("POST", "api.psp.example.invalid", 443, "/v1/charges", "charges"),
        ("put", "API.psp.example.invalid.", 443, "/v1/charges/7", "charges"),
        ("POST", "api.psp.example.invalid", 443, "/v1/charges-all", "psp"),
        ("GET", "api.psp.example.invalid", 443, "/v1/charges", "psp"),
        ("GET", "a.b.psp.example.invalid", 443, "/", "psp"),
        ("GET", "psp.example.invalid", 443, "/", None),
        ("GET", "psp.example.invalid.evil.invalid", 443, "/", None),
        ("GET", "localhost", 8080, "/", "local"),
        ("GET", "localhost", 80, "/", None),
        ("GET", "[::1]", 80, "/", "six"),
        ("GET", "anything", 80, "/static/x.js", "static"),
        ("HEAD", "anything", 80, "/static/x.js", None),
        ("GET", "anything", 80, "/static", None),
    ],
)
def test_the_first_route_that_fits_counts(method, host, port, path, policy):
    assert find(ROUTES, method, host, port, path) == policy


HOSTS = st.sampled_from([None, "*", "*.a", "a", "b.a", "a:80", "b*", "*.b.a", "c.b.a:81"])
METHODS = st.sampled_from([(), ("GET",), ("POST",), ("GET", "POST")])
PATHS = st.sampled_from([None, "/", "/v1", "/v1/", "/v1/x", "/v10"])
ROUTE = st.builds(
    lambda host, method, path: Route(host=host, method=method, path=path, policy="x"), HOSTS, METHODS, PATHS
)
REQUEST = st.tuples(
    st.sampled_from(["GET", "POST", "PUT"]),
    st.sampled_from(["a", "b.a", "c.b.a", "xb.a", "bb"]),
    st.sampled_from([80, 81]),
    st.sampled_from(["/", "/v1", "/v1/", "/v1/x", "/v1/x/y", "/v10", "/v10/x"]),
)


@given(ROUTE, ROUTE, REQUEST)
def test_what_fits_a_covered_route_fits_the_one_that_covers_it(broad, narrow, request_):
    if covers(broad, narrow) and find((narrow,), *request_):
        assert find((broad,), *request_)


def findings(text: str) -> list[str]:
    document = load(TextSource(f"version: 1\npolicies: {{a: {{}}, b: {{}}}}\n{text}", "r.yaml"), patterns=BUILTIN)
    return [f"{one.line} {one.message}" for one in document.findings if one.id == "AR430"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{policy: a}", "{host: x.invalid, policy: b}"),
        ('{host: "*.invalid", policy: a}', '{host: "*.x.invalid", method: GET, policy: b}'),
        ("{host: x.invalid, policy: a}", '{host: "X.invalid:8080", policy: b}'),
        ("{path: /v1, method: [GET, POST], policy: a}", "{path: /v1/x, method: POST, policy: b}"),
        ("{policy: a}", "{policy: a}"),
    ],
)
def test_a_route_behind_a_broader_one_is_found(first, second):
    assert len(findings(f"routes:\n  - {first}\n  - {second}")) == 1
    assert findings(f"routes:\n  - {first}\n  - {second}")[0].startswith("5 ")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{host: x.invalid, policy: a}", "{policy: b}"),
        ('{host: "*.x.invalid", policy: a}', '{host: "*.invalid", policy: b}'),
        ("{method: GET, policy: a}", "{method: [GET, POST], policy: b}"),
        ("{path: /v1, policy: a}", "{path: /v10, policy: b}"),
        ('{host: "x.invalid:80", policy: a}', "{host: x.invalid, policy: b}"),
    ],
)
def test_a_route_that_requests_reach_is_not(first, second):
    assert findings(f"routes:\n  - {first}\n  - {second}") == []


def test_the_message_names_the_route_before_it():
    (found,) = findings(
        "routes:\n  - {method: [GET, PUT], path: /v1, policy: a}\n  - {path: /v1, method: GET, policy: b}"
    )
    assert "the route of GET or PUT /v1 to 'a' stands before it" in found


ROUTED = "{version: 1, policies: {a: {timeout: 1s}, b: {timeout: 1s}}, routes: [{policy: %s}]}"


def test_other_routes_are_a_change_and_touch_no_policy():
    registry = Registry.from_text(ROUTED % "a")
    policy = registry.get("a")
    result = registry.apply(ROUTED % "b")
    assert result.outcome == "applied"
    assert [str(change) for change in result.changes] == ["routes: changed (from the next call on)"]
    assert policy.generation == 1


def test_an_overlay_replaces_the_whole_list():
    text = ROUTED % "a" + "\n"
    overlaid = text.replace("]}\n", "], environments: {dev: {routes: [{policy: b}, {policy: a}]}}}")
    assert [one.policy for one in Registry.from_text(overlaid, environment="dev").document.routes] == ["b", "a"]


def test_a_policy_of_a_route_is_used_and_leaves_idempotence_to_the_method():
    text = "{version: 1, policies: {a: {retry: 3, deadline: 5s}}%s}"
    routed = Registry.from_text(text % ", routes: [{policy: a}]").document
    assert [one.id for one in routed.findings] == []
    assert list(compare_code(routed, [])) == []
    assert [one.id for one in Registry.from_text(text % "").document.findings] == ["AR408"]
