"""What people are told about a kind of value: how it is written, what to try, what each choice means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from aioresilience.backends.config import ADDRESS_PATTERN, PREFIX_PATTERN
from aioresilience.config.document import (
    DOTTED_PATTERN,
    HOST_PATTERN,
    METHOD_PATTERN,
    NAME_PATTERN,
    PATH_PATTERN,
    POLICY_OR_ALL,
)
from aioresilience.fields import MAX_COUNT
from aioresilience.units import DURATION_PATTERN, PERCENTAGE_PATTERN, RATE_PATTERN, STATUS_PATTERN

Schema = dict[str, Any]

OF_PATTERNS: Final[Mapping[str, str]] = {
    NAME_PATTERN: "a name of lower-case letters, digits, - and ., such as payments or checkout.psp-2",
    POLICY_OR_ALL: 'the name of a policy, or "*" for all',
    STATUS_PATTERN: "a status, such as 502, or a range of them, such as 502-504",
    HOST_PATTERN: "a host, such as api.example.invalid or *.example.invalid",
    METHOD_PATTERN: "a method in capitals, such as GET",
    PATH_PATTERN: "a path that begins with /, without ? and #",
    DOTTED_PATTERN: "a dotted name, such as httpx",
    ADDRESS_PATTERN: "a host and a port, such as sentinel-1:26379",
    PREFIX_PATTERN: "letters, digits and the signs _ . : / -",
}
"""What is expected where a text has to fit a pattern, which nobody likes to read."""


class Kind(NamedTuple):
    """How a value is written: in words, as examples, or as one of a few choices."""

    words: str = ""
    examples: tuple[object, ...] = ()
    choices: tuple[str, ...] = ()

    def snippets(self) -> list[Schema]:
        """Return what an editor offers, each choice with its meaning."""
        return [{"label": one, "body": one, "description": CHOICES[one]} for one in self.choices]


MEANINGS: Final[tuple[str, ...]] = ("enumDescriptions", "markdownEnumDescriptions")
UNSAID: Final = Kind()
_DURATION: Final = Kind("a duration, such as 500ms, 2s, 1m30s or 1h", ("500ms", "2s"))
_CALLS_OR_TIME: Final = Kind("a whole number of calls, or a duration such as 30s", ("30s", 100))
_BY_PATTERN: Final[Mapping[str, Kind]] = {
    DURATION_PATTERN: _DURATION,
    RATE_PATTERN: Kind("a rate per second, minute, hour or day, such as 100/second", ("100/second", "1000/minute")),
    PERCENTAGE_PATTERN: Kind("a percentage, such as 50%", ("10%", "50%")),
    STATUS_PATTERN: Kind("a status code or a range of them, such as 502 or 502-504", ("502-504", 429)),
}
_BY_NAME: Final[Mapping[str, Kind]] = {
    "jitter": Kind("full, equal, decorrelated, or a share such as 10%", (), ("full", "equal", "decorrelated")),
    "mode": Kind("enforce, observe, off, or {enforce: 10%}", (), ("enforce", "observe", "off")),
    "lease": Kind("auto, or a whole number of permits from 1", ("auto", 50)),
    **dict.fromkeys(
        ("retry_on_exceptions", "failure_exceptions", "fallback_on_exceptions", "exceptions"),
        Kind("exceptions, each by builtin name or dotted path"),
    ),
    **dict.fromkeys(
        ("call", "failure_predicate", "retry_on_result", "on_retry", "on_success_after_retry", "on_exhausted"),
        Kind("a function, by the name that the service gave it"),
    ),
    "expires": Kind("a date and time with its zone, such as 2026-12-01T00:00:00Z", ("2026-12-01T00:00:00Z",)),
}
_EXAMPLES: Final[Mapping[str, tuple[object, ...]]] = {
    "about": ({"owner": "team-payments", "runbook": "https://example.invalid/runbooks/payments"},),
    "backend": ("main",),
    "backends": ({"main": {"type": "redis", "url": "${REDIS_URL:-redis://127.0.0.1:6379/0}"}},),
    "budget": ({"ratio": "20%", "min_per_second": 0.5},),
    "by": ("ops",),
    "call": ("cached-quote",),
    "chain": (["cached-quote", {"value": None}],),
    "classify": ({"failure": {"status": [500, "502-504"]}, "throttle": {"status": [429]}},),
    "depends_on": (["ledger"],),
    "description": ("Card authorisation",),
    "exception_strategies": ({"ConnectionResetError": {"max_attempts": 2}},),
    "exceptions": (["ConnectionError"],),
    "extends": ("http-client",),
    "failure": ({"status": [500, "502-504"]},),
    "failure_exceptions": (["ConnectionError"],),
    "failure_predicate": ("is-failure",),
    "fallback": ({"status": "queued"},),
    "fallback_on_exceptions": (["ConnectionError"],),
    "file": ("/run/secrets/redis-password",),
    "import_from": (["httpx"],),
    "include": (["pack:http-client"],),
    "master": ("limits",),
    "metadata": ({"revision": "7864d60"},),
    "neutral": ({"exceptions": ["LookupError"]},),
    "nodes": (["sentinel-1.example.invalid:26379", "sentinel-2.example.invalid:26379"],),
    "on_exhausted": ("tell-the-team",),
    "on_retry": ("count-the-retry",),
    "on_success_after_retry": ("count-the-success",),
    "order": (["deadline", "retry", "circuit_breaker", "timeout"],),
    "owner": ("team-payments",),
    "password": ({"file": "/run/secrets/redis-password"},),
    "policy": ("payments",),
    "rate": ("100/second", {"permits": 300, "per": "5m"}),
    "reason": ("INC-4711",),
    "requires": (">=0.3,<1",),
    "retry_on_exceptions": (["ConnectionError"],),
    "retry_on_result": ("is-incomplete",),
    "runbook": ("https://example.invalid/runbooks/payments",),
    "service": ("checkout",),
    "settings": ({"on_removed": "keep"},),
    "status": ([500, "502-504"],),
    "sentinel": ({"master": "limits", "nodes": ["sentinel-1.example.invalid:26379"]},),
    "throttle": ({"status": [429]},),
    "url": ("${REDIS_URL:-redis://127.0.0.1:6379/0}", {"file": "/run/secrets/redis-url"}),
    "value": ({"status": "queued"},),
}
"""Examples of fields whose kind says too little."""

BLOCKS: Final[Mapping[str, Schema]] = {
    "fallback": {"value": {"status": "queued"}},
    "deadline": {"timeout": "10s"},
    "load_shedder": {"max_requests": 1000, "max_lag": "100ms"},
    "backpressure": {"max_pending": 1000, "high_water_mark": 800, "low_water_mark": 200},
    "retry": {"max_attempts": 3, "initial_delay": "100ms", "max_delay": "2s"},
    "circuit_breaker": {"window": "30s", "failure_rate": "50%", "minimum_calls": 20},
    "rate_limiter": {"rate": "100/second", "burst": 20},
    "adaptive_concurrency": {"initial_limit": 100, "min_limit": 10, "max_limit": 1000},
    "bulkhead": {"max_concurrent": 20, "max_waiting": 50, "timeout": "500ms"},
    "timeout": {"timeout": "2s"},
}
"""A block of each pattern to begin with."""

CHOICES: Final[Mapping[str, str]] = {
    "enforce": "Act.",
    "observe": "Decide and report, never act.",
    "off": "As if the pattern were not there.",
    "full": "Anything from nothing to the whole delay.",
    "equal": "Half of the delay, and anything up to the other half.",
    "decorrelated": "Anything from the initial delay to three times the last one.",
    "constant": "Always the same delay.",
    "linear": "Each delay is longer by backoff_multiplier seconds.",
    "exponential": "Each delay is longer by the factor backoff_multiplier.",
    "gcra": "Smooth: up to the burst, and what refills within a period.",
    "sliding_window": "Never more than the permits within any period, exactly; memory grows with the limit.",
    "leaky_bucket": "The accounting of aiolimiter.",
    "policy": "One for all calls of the policy.",
    "host": "One for each host that calls go to, as the HTTP clients say.",
    "key": "One for each key that calls bring.",
    "failure": "Every failure counts against the limit.",
    "overload": "Only timeouts and throttled calls count against the limit.",
    "redis": "A Redis or Valkey server.",
    "keep": "A policy in use that was removed goes on.",
    "reject": "A reload that removes a policy is refused.",
    "error": "An unknown name is an error.",
    "default": "An unknown name gets the defaults.",
    "guard": "A reload that drops more than half of the policies is refused.",
    "allow": "No limit: a reload may drop any number of policies, or any number of calls may start.",
    "local": "A limit in each process: its part of the fleet's, or per key the whole.",
    "deny": "No calls until the server is back.",
}
"""What each choice of a field means."""


def kind_of(name: str, schema: Schema) -> Kind:
    """Say how the value of a field is written."""
    kind = _BY_NAME.get(name) or next(_kinds(schema), UNSAID)
    return kind._replace(examples=_EXAMPLES[name]) if name in _EXAMPLES and not kind.choices else kind


def offers(key: str, short: Schema) -> list[Schema]:
    """Return what an editor offers at a pattern's key: its short form, then a block."""
    bare = [{"label": str(one), "body": one} for one in short.get("examples", ()) if not isinstance(one, dict)]
    return bare + [{"label": f"{key} block", "body": block} for block in (BLOCKS.get(key),) if block]


def with_meanings(schema: Schema) -> Schema:
    """Add to a choice what each value means."""
    meanings = [CHOICES.get(str(one), "") for one in schema["enum"]]
    return {**schema, **dict.fromkeys(MEANINGS, meanings)} if any(meanings) else schema


def _kinds(schema: Schema) -> Iterator[Kind]:
    for one in (schema, *schema.get("anyOf", ())):
        if one.get("pattern") == DURATION_PATTERN and "integer" in one["type"]:
            yield _CALLS_OR_TIME
        elif one.get("pattern") in _BY_PATTERN:
            yield _BY_PATTERN[one["pattern"]]
        elif "enum" in one:
            choices = tuple(map(str, one["enum"]))
            yield Kind(f"one of {', '.join(choices)}", (), choices) if CHOICES.keys() >= set(choices) else UNSAID
        elif "const" in one:
            yield Kind(str(one["const"]).lower(), (one["const"],))
        elif one.get("type") in ("integer", "number"):
            yield Kind(_number(one), ())
        elif one.get("type") == "boolean":
            yield Kind("true or false", (True, False))


def _number(schema: Schema) -> str:
    what = "a whole number" if schema["type"] == "integer" else "a number"
    bounds = [f"from {schema['minimum']:g}"] if "minimum" in schema else []
    bounds += [f"above {schema['exclusiveMinimum']:g}"] if "exclusiveMinimum" in schema else []
    bounds += [f"to {schema['maximum']:g}"] if schema.get("maximum", MAX_COUNT) < MAX_COUNT else []
    return " ".join([what, *bounds])
