"""Every name of the 0.2 API is where it was, with its parameters, defaults and methods.

`api_0_2.txt` lists them as facts, one a line: module | kind | signature, methods, values. The HTTP integrations
are not there yet.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel

STARRED = {"args", "kwargs", "fallbacks", "metadata"}
ANY = object()
"""A default that the facts leave open."""


@dataclass(frozen=True)
class Fact:
    module: str
    kind: str
    text: str

    @property
    def name(self) -> str:
        return re.match(r"\w+", self.text)[0]

    @property
    def found(self) -> object:
        return getattr(importlib.import_module(self.module), self.name)


FACTS = [
    Fact(*line.split(" | ", 2))
    for line in (Path(__file__).parent / "api_0_2.txt").read_text(encoding="utf-8").splitlines()
]
CALLABLE = [fact for fact in FACTS if fact.kind != "enum" and "(" in fact.text]


def ids(fact: Fact) -> str:
    return f"{fact.module.removeprefix('aioresilience.')}.{fact.name}"


def parameters(text: str) -> dict[str, object]:
    """Return the named parameters of a listed signature with their defaults."""
    inside = text[text.index("(") + 1 : _closing(text)]
    found: dict[str, object] = {}
    for part in _split(inside):
        name, _, default = part.partition("=")
        name = name.strip()
        if name.startswith("*") or (name in STARRED and not default):
            continue
        found[name] = _default(default.strip()) if default else inspect.Parameter.empty
    return found


def _closing(text: str) -> int:
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and letter == ")":
            return index
    raise AssertionError(text)


def _split(text: str) -> list[str]:
    parts = re.split(r",\s*(?![^()]*\))", text)
    return [part for part in parts if part.strip()]


def _default(text: str) -> object:
    if text == "…":
        return ANY
    try:
        return ast.literal_eval(text)
    except ValueError:
        return {"(Exception,)": (Exception,)}.get(text, ANY)


def actual(found: object) -> dict[str, object]:
    if isinstance(found, type) and issubclass(found, BaseModel):
        return {name: field.default for name, field in found.model_fields.items()}
    return {name: parameter.default for name, parameter in inspect.signature(found).parameters.items()}


@pytest.mark.parametrize("fact", FACTS, ids=ids)
def test_a_name_is_where_it_was(fact: Fact):
    assert fact.found is not None


@pytest.mark.parametrize("fact", CALLABLE, ids=ids)
def test_its_parameters_and_defaults_are_what_they_were(fact: Fact):
    wanted, have = parameters(fact.text), actual(fact.found)
    missing = [name for name in wanted if name not in have]
    assert not missing
    for name, default in wanted.items():
        if default is ANY or name in CHANGED.get(fact.name, ()):
            continue
        if default is inspect.Parameter.empty:
            continue  # a required one may have become optional
        assert have[name] == default, (name, have[name], default)


CHANGED = {
    "ExceptionHandler": ("handled_exceptions",),
    "BulkheadConfig": (),
}
"""Parameters whose default is written differently and means the same."""


@pytest.mark.parametrize("fact", [fact for fact in FACTS if fact.kind == "enum"], ids=ids)
def test_an_enum_has_its_members_and_values(fact: Fact):
    members = dict(part.split("=") for part in fact.text.split(": ", 1)[1].split(", "))
    kind = fact.found
    assert {name: int(value) for name, value in members.items()}.items() <= {m.name: m.value for m in kind}.items()


def methods(fact: Fact) -> list[tuple[str, bool]]:
    _, _, listed = fact.text.partition(" — ")
    found = re.findall(r"(async )?(\w+)(?:\(|(?= \(property\)))", re.sub(r"\([^()]*\)(?=;|$)", "(", listed))
    return [(name, bool(is_async)) for is_async, name in found]


@pytest.mark.parametrize("fact", [fact for fact in FACTS if " — " in fact.text], ids=ids)
def test_a_class_has_its_methods_and_they_are_awaited_as_before(fact: Fact):
    listed = methods(fact)
    assert listed, fact.text
    for name, is_async in listed:
        method = getattr(fact.found, name)
        if is_async:
            assert inspect.iscoroutinefunction(method), f"{name} must be awaited"


@pytest.mark.parametrize("fact", [fact for fact in FACTS if fact.text.endswith(": ResilienceError")], ids=ids)
def test_an_error_takes_what_it_took_and_carries_it(fact: Fact):
    from aioresilience.exceptions import CircuitBreakerReason, ResilienceError

    reason = CircuitBreakerReason.CIRCUIT_OPEN
    error = fact.found("why", "name", "type", reason, detail=3)
    assert isinstance(error, ResilienceError)
    assert (str(error), error.pattern_name, error.pattern_type, error.reason) == ("why", "name", "type", reason)
    assert error.metadata == {"detail": 3}


@pytest.mark.parametrize("fact", [fact for fact in FACTS if "methods: to_dict" in fact.text], ids=ids)
def test_a_value_class_has_to_dict(fact: Fact):
    assert callable(fact.found.to_dict)


async def test_threshold_exceeded_is_told_from_call_failed():
    from aioresilience import CircuitBreaker, CircuitConfig, ExceptionConfig

    seen = []

    async def note(context):
        seen.append((context.reason.name, context.metadata["state"], context.metadata["failure_count"]))

    circuit = CircuitBreaker("api", CircuitConfig(failure_threshold=2), ExceptionConfig(on_exception=note))

    async def fail():
        raise ConnectionError

    for _ in range(2):
        with pytest.raises(ConnectionError):
            await circuit.call(fail)
    assert [reason for reason, _, _ in seen] == ["CALL_FAILED", "THRESHOLD_EXCEEDED"]
    assert seen[1][1] == "open"


async def test_handlers_hear_by_name_by_value_and_by_wildcard_on_the_emitter_and_the_bus():
    import asyncio

    from aioresilience import CircuitBreaker, CircuitConfig
    from aioresilience.circuit_breaker import CircuitState
    from aioresilience.events import EventType, global_bus

    circuit, heard = CircuitBreaker("api", CircuitConfig(failure_threshold=1)), []
    circuit.events.on("state_change")(lambda event: heard.append(("name", event.new_state)))

    @circuit.events.on(EventType.STATE_CHANGE.value)
    async def by_value(event):
        heard.append(("value", event.old_state))

    @global_bus.on("*")
    async def on_the_bus(event):
        heard.append(("bus", event.to_dict()["event_type"]))

    async def fail():
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await circuit.call(fail)
    for _ in range(100):  # handlers run after the calls
        await asyncio.sleep(0)
    global_bus.clear()
    assert ("name", CircuitState.OPEN) in heard
    assert ("value", CircuitState.CLOSED) in heard
    assert ("bus", "state_change") in heard


def test_the_ready_made_retry_policies():
    from aioresilience.retry import RetryPolicies

    made = {
        name: getattr(RetryPolicies, name)().config for name in ("default", "aggressive", "conservative", "network")
    }
    seen = {name: (c.max_attempts, c.initial_delay, c.max_delay, c.backoff_multiplier) for name, c in made.items()}
    assert seen["default"] == (3, 1.0, 60.0, 2.0)
    assert seen["aggressive"] == (5, 0.1, 10.0, 2.0)
    assert seen["conservative"][:3] == (3, 2.0, 30.0)
    assert made["conservative"].jitter == 0.3
    assert seen["network"] == (4, 0.5, 15.0, 2.5)
    assert made["network"].retry_on_exceptions == (ConnectionError, TimeoutError, OSError)


@pytest.mark.parametrize(
    ("active", "level"), [(0, "NORMAL"), (60, "NORMAL"), (61, "ELEVATED"), (76, "HIGH"), (91, "CRITICAL")]
)
def test_load_levels_by_utilization(active, level):
    from aioresilience.load_shedding import LoadMetrics

    assert LoadMetrics(active, 0, 100, 100, 0.0).load_level.name == level
