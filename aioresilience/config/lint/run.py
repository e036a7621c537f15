"""Every rule over one document, and the comments that silence some of what they find."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

from aioresilience.config.diagnostics import CATALOGUE, Diagnostic, diagnose
from aioresilience.config.lint import overlays, retrying, routing, timing, upkeep
from aioresilience.config.lint.amplification import amplification
from aioresilience.config.lint.subject import PolicyRule, Rule, Subject
from aioresilience.config.sources import PACK
from aioresilience.config.spec import PolicySpec
from aioresilience.config.suppressions import Suppression

RULES: Final[tuple[Rule, ...]] = (
    upkeep.stale_override,
    upkeep.bare_number,
    upkeep.unused_template,
    upkeep.repeats_template,
    overlays.near_miss,
    amplification,
    routing.unreachable,
)
POLICY_RULES: Final[tuple[PolicyRule, ...]] = (
    timing.timeout_reaches_deadline,
    timing.attempts_overrun_deadline,
    timing.futile,
    timing.window_never_fills,
    timing.slow_calls_are_cut,
    timing.window_under_timeouts,
    timing.wait_over_timeout,
    retrying.no_jitter,
    retrying.no_bound,
    retrying.idempotent_unsaid,
    retrying.one_call_trips,
    retrying.first_delay_over_longest,
    retrying.shedder_beside_retry,
)
ELSEWHERE: Final = frozenset({"AR416", "AR417"})
"""Ids that only a look at the code can give; here nobody can know whether they are needed."""


def lint(subject: Subject) -> tuple[Diagnostic, ...]:
    """Return what the rules find and no comment silences, each finding once, then the comments that silence nothing."""
    unique: dict[object, Diagnostic] = {}
    for one in chain(_document(subject), _each_policy(subject)):
        unique.setdefault((one.id, one.file, one.line, one.column, one.message, "" if one.line else one.path), one)
    return (*silenced(unique.values(), subject.suppressions), *useless(unique.values(), subject.suppressions))


def _document(subject: Subject) -> Iterator[Diagnostic]:
    for rule in RULES:
        yield from rule(subject)


def _each_policy(subject: Subject) -> Iterator[Diagnostic]:
    for spec in subject.policies.values():
        subject.breathe()
        for rule in POLICY_RULES:
            yield from (_in_reach(subject, spec, one) for one in rule(subject, spec))


def _in_reach(subject: Subject, spec: PolicySpec, one: Diagnostic) -> Diagnostic:
    """Move what was found in a pack, which nobody edits, to the policy that it concerns."""
    if not one.file.startswith(PACK):
        return one
    moved = diagnose(one.id, subject.policy_place(spec), one.message, hint=one.hint, path=one.path)
    return replace(moved, notes=(f"the value comes from {one.file}:{one.line}:{one.column}",))


def silenced(findings: Iterable[Diagnostic], suppressions: Iterable[Suppression]) -> Iterator[Diagnostic]:
    """Yield what no comment on its line silences."""
    hushed = {(one.place.name, one.line, code) for one in suppressions for code in one.ids}
    return (one for one in findings if (one.file, one.line, one.id) not in hushed)


def useless(
    findings: Iterable[Diagnostic], suppressions: Iterable[Suppression], elsewhere: Collection[str] = ELSEWHERE
) -> Iterator[Diagnostic]:
    """Yield the comments that silence nothing; of ids found `elsewhere` nobody can know here."""
    there = {(one.file, one.line, one.id) for one in findings}
    for one in suppressions:
        if not one.ids:
            yield diagnose("AR418", one.place, "the comment names no id", hint="write ignore[AR402] and a reason")
        for code in one.ids:
            if (one.place.name, one.line, code) not in there and code not in elsewhere:
                yield diagnose("AR418", one.place, _why(code), hint="delete it")


def _why(code: str) -> str:
    if code not in CATALOGUE:
        return f"there is no {code}"
    return f"nothing on this line gives {code}" if code.startswith("AR4") else f"{code} is no lint and stays"
