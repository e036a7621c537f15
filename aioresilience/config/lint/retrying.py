"""Rules about retries: storms, and calls that run twice."""

from __future__ import annotations

from collections.abc import Iterator

from aioresilience.circuit_breaker import CircuitConfig
from aioresilience.config.diagnostics import Diagnostic, diagnose
from aioresilience.config.lint.subject import Subject, found, part, position
from aioresilience.config.spec import PolicySpec
from aioresilience.load_shedding import LoadSheddingConfig
from aioresilience.retry import RetryConfig
from aioresilience.timeout import DeadlineConfig, TimeoutConfig
from aioresilience.units import format_duration


def retrying(spec: PolicySpec) -> RetryConfig | None:
    """Return the retry of a policy, if it tries more than once."""
    retry = part(spec, RetryConfig)
    return retry if retry and retry.max_attempts > 1 else None


def no_jitter(_: Subject, spec: PolicySpec) -> Iterator[Diagnostic]:
    """AR406: clients that failed together try again together."""
    retry = retrying(spec)
    if retry and not retry.jitter and retry.max_delay:
        message = "without jitter, callers that failed together try again together"
        yield found("AR406", spec, ("retry", "jitter"), message, "write jitter: full")


def no_bound(subject: Subject, spec: PolicySpec) -> Iterator[Diagnostic]:
    """AR407: neither timeout nor deadline bounds the attempts."""
    bounded = part(spec, TimeoutConfig) or part(spec, DeadlineConfig)
    breaker = part(spec, CircuitConfig)
    if retrying(spec) and not bounded and not (breaker and breaker.timeout):
        message = "it retries, and neither a timeout nor a deadline bounds an attempt"
        yield _at_name("AR407", subject, spec, message, "add a deadline, such as deadline: 10s")


def idempotent_unsaid(subject: Subject, spec: PolicySpec) -> Iterator[Diagnostic]:
    """AR408: nobody said whether a call may run twice."""
    routed = any(route.policy == spec.name for route in subject.routes)  # the client knows the method of its request
    if retrying(spec) and spec.idempotent is None and not routed:
        message = "it retries, and does not say whether a call may run twice"
        yield _at_name("AR408", subject, spec, message, "add idempotent: true or idempotent: false")


def one_call_trips(_: Subject, spec: PolicySpec) -> Iterator[Diagnostic]:
    """AR409: the attempts of one call are enough to open the circuit."""
    retry, breaker = retrying(spec), part(spec, CircuitConfig)
    threshold = breaker.failure_threshold if breaker else None
    if not retry or threshold is None or position(spec, "retry") > position(spec, "circuit_breaker"):
        return
    if threshold <= retry.max_attempts:
        message = f"one call of {retry.max_attempts} attempts reaches the threshold of {threshold} failures"
        hint = f"write {retry.max_attempts + 1} or more, or use a failure_rate"
        yield found("AR409", spec, ("circuit_breaker", "failure_threshold"), message, hint)


def first_delay_over_longest(_: Subject, spec: PolicySpec) -> Iterator[Diagnostic]:
    """AR421: the longest delay bounds the first one too, so that all are alike."""
    retry = retrying(spec)
    if retry and retry.initial_delay > retry.max_delay > 0:
        first, longest = format_duration(retry.initial_delay), format_duration(retry.max_delay)
        message = f"a first delay of {first} is longer than the longest of {longest}, so that every delay is {longest}"
        yield found("AR421", spec, ("retry", "initial_delay"), message, f"write {longest} or less, or raise max_delay")


def shedder_beside_retry(_: Subject, spec: PolicySpec) -> Iterator[Diagnostic]:
    """AR411: a load shedder guards what comes in, a retry what goes out."""
    if retrying(spec) and part(spec, LoadSheddingConfig):
        message = "a load shedder is for calls that come in, a retry for calls that go out"
        yield found("AR411", spec, ("load_shedder",), message, "give each its own policy")


def _at_name(code: str, subject: Subject, spec: PolicySpec, message: str, hint: str) -> Diagnostic:
    return diagnose(code, subject.policy_place(spec), message, hint=hint, path=("policies", spec.name))
