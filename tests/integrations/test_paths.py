"""Which requests a rule means."""

from __future__ import annotations

from typing import Any

import pytest

from aioresilience.integrations.paths import Paths, Routes, route_path

RULES = {"POST /pay": "post", "/pay": "any", "GET /users/{id}": "user", "/users/{id}": "users", "GET /users/me": "me"}


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("POST", "/pay", "post"),
        ("GET", "/pay", "any"),
        ("BREW", "/pay", "any"),
        ("GET", "/users/7", "user"),
        ("PUT", "/users/7", "users"),
        ("GET", "/users/me", "me"),
        ("HEAD", "/users/me", "me"),
        ("HEAD", "/users/7", "user"),
        ("OPTIONS", "/users/me", "users"),
        ("GET", "/users/", None),
        ("GET", "/users/7/", None),
        ("GET", "/users/7/x", None),
        ("GET", "/pay/", None),
        ("GET", "/PAY", None),
        ("GET", "//pay", None),
        ("GET", "/health/../pay", None),
        ("post", "/pay", "any"),
        ("GET", "", None),
    ],
)
def test_rules_are_exact(method: str, path: str, found: str | None):
    assert Routes(RULES).find(method, path) == found


def test_patterns_count_in_the_order_given():
    assert Routes({"/{a}/x": 1, "/x/{b}": 2}).find("GET", "/x/x") == 1


def test_a_dot_in_a_rule_is_a_dot():
    assert Routes({"/v1.0/{id}": 1}).find("GET", "/v1x0/7") is None


@pytest.mark.parametrize(
    "rule", ["pay", "POST", "post /pay", "POST  /pay", "POST /pay?x=1", "/a b", "/{", "/x{id}", "/{id}x", "/{1}", "/ü"]
)
def test_what_is_no_rule_is_refused(rule: str):
    with pytest.raises(ValueError, match=r"rule|path|segment"):
        Routes({rule: 1})


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ({"path": "/pay"}, "/pay"),
        ({"path": "/api/pay", "root_path": "/api"}, "/pay"),
        ({"path": "/api", "root_path": "/api"}, ""),
        ({"path": "/apix/pay", "root_path": "/api"}, "/apix/pay"),
        ({"path": "/pay", "root_path": "/api"}, "/pay"),
    ],
)
def test_the_path_is_that_within_the_app(scope: dict[str, Any], path: str):
    assert route_path(scope) == path


def test_a_set_of_paths_is_exact():
    paths = Paths(["/health"])
    assert [path for path in ("/health", "/health/", "/healthz", "/health/x", "health") if path in paths] == ["/health"]


@pytest.mark.parametrize(("wrong", "error"), [("/health", TypeError), (["health"], ValueError)])
def test_what_is_no_set_of_paths_is_refused(wrong: Any, error: type[Exception]):
    with pytest.raises(error):
        Paths(wrong)
