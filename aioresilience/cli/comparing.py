"""`aioresilience diff`: what a change of the files does, in words of behaviour, environment by environment."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aioresilience.cli.console import faint, say, strong
from aioresilience.cli.reading import Trouble, environments, read
from aioresilience.cli.worst_case import at_once, attempts_of, lasting, latency_of, per_period, worst_case
from aioresilience.config import Document, PolicySpec
from aioresilience.config.diagnostics import mask
from aioresilience.fields import written
from aioresilience.registry.diff import differences
from aioresilience.registry.results import Change

SAME, CHANGES = 0, 1


@dataclass(frozen=True, slots=True)
class Difference:
    """What changes in the environments named; None stands for the files without an overlay."""

    environments: tuple[str | None, ...]
    old: Document
    new: Document
    changes: tuple[Change, ...]
    around: tuple[str, ...]
    """What changes beside the policies."""


def diff(old: Sequence[str], new: Sequence[str], environment: str | None, form: str) -> int:
    """Print the differences and return the exit code; raises ConfigError and Trouble."""
    compared = compare(old, new, environment)
    several = sum(len(one.environments) for one in compared) > 1
    found = [one for one in compared if one.changes or one.around]
    if form == "json":
        say(json.dumps([row for one in found for row in _rows(one)], indent=2, ensure_ascii=False))
    else:
        _print(found, several=several)
    return CHANGES if found else SAME


def compare(old: Sequence[str], new: Sequence[str], environment: str | None) -> list[Difference]:
    """Return the differences in one environment, or in all that either side has; equal ones are told once."""
    before, after = read(old), read(new)
    of_old, of_new = environments(before), environments(after)
    if environment is not None and environment not in (*of_old, *of_new):
        raise Trouble(f"neither side has the environment {environment!r}")
    names = [None, *dict.fromkeys([*of_old, *of_new])] if environment is None else [environment]
    grouped: dict[object, Difference] = {}
    for name in names:
        low = read(old, name) if name in of_old else before
        high = read(new, name) if name in of_new else after
        changes, around = differences(low, high), tuple(_around(low, high))
        alike = (*map(str, changes), "", *around)
        known = grouped.get(alike)
        told = (*known.environments, name) if known else (name,)
        grouped[alike] = Difference(told, low, high, changes, around)
    return list(grouped.values())


def _print(found: Sequence[Difference], *, several: bool) -> None:
    for one in found:
        if several:
            say(faint(f"in {' and '.join(name or 'no environment' for name in one.environments)}:"))
        for line in _lines(one):
            say(mask(line, one.old.secrets | one.new.secrets))
    if not found:
        say("nothing changes")


def _lines(one: Difference) -> Iterator[str]:
    yield from one.around
    shown = None
    for change in one.changes:
        if not change.policy:
            yield str(change)
            continue
        if change.policy != shown:
            shown = change.policy
            yield strong(shown) + (f": {change.kind}" if not change.path else "")
            yield from (f"  {line}" for line in _behaviour(one.old.policies.get(shown), one.new.policies.get(shown)))
        if change.path:
            yield f"  {str(change).removeprefix(f'{change.policy}.')}"
        elif change.effect:
            yield f"  {change.effect}"


def _rows(one: Difference) -> Iterator[dict[str, object]]:
    for change in one.changes:
        yield {
            "environments": list(one.environments),
            "policy": change.policy,
            "kind": change.kind,
            "path": change.path,
            "old": change.old_text or _plain(change.old),
            "new": change.new_text or _plain(change.new),
            "effect": change.effect,
        }
    for text in one.around:
        yield {"environments": list(one.environments), "policy": None, "kind": "around", "text": text}


def _plain(value: object) -> str | None:
    return None if value is None else str(value)


def _behaviour(old: PolicySpec | None, new: PolicySpec | None) -> Iterator[str]:
    """Yield what a caller and the dependency will notice."""
    if new is None:
        return
    if old is None:
        yield f"worst case: {worst_case(new)}"
        return
    yield from _changed("takes {} per call", _longest(old), _longest(new))
    yield from _changed("reaches the dependency {} per call", _times(old), _times(new))
    yield from _changed("runs {} in one process", _calls(at_once(old)), _calls(at_once(new)))
    yield from _changed("starts {}", _rate(old), _rate(new))


def _changed(sentence: str, before: str, after: str) -> Iterator[str]:
    if before != after:
        yield f"{sentence.format(after)}, was {before}"


def _longest(spec: PolicySpec) -> str:
    seconds = latency_of(spec)
    return "any time" if seconds == math.inf else f"at most {lasting(seconds)}"


def _times(spec: PolicySpec) -> str:
    attempts = attempts_of(spec)
    return "once" if attempts == 1 else f"up to {attempts} times"


def _calls(number: float) -> str:
    return "any number of calls" if number == math.inf else f"at most {int(number)} call{'s' * (number != 1)} at once"


def _rate(spec: PolicySpec) -> str:
    limiter = per_period(spec)
    if limiter is None:
        return "any number of calls in a time"
    share = " for each key" if limiter.scope == "key" else ""
    burst = f" after bursts of {limiter.burst}" if limiter.burst else ""
    return f"at most {written(type(limiter), 'rate', limiter.rate)}{share}{burst}"


def _around(old: Document, new: Document) -> Iterator[str]:
    """Yield what changes beside the policies."""
    yield from _members("shared", _shared(old), _shared(new))
    yield from _overrides(old, new)


def _shared(document: Document) -> Mapping[str, object]:
    return {f"{name}.{key}": spec.config for (name, key), spec in document.shared.items()}


def _members(kind: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            yield f"{kind} {name}: removed"
        elif name not in old:
            yield f"{kind} {name}: added"
        elif old[name] != new[name]:
            yield f"{kind} {name}: changed"


def _overrides(old: Document, new: Document) -> Iterator[str]:
    before, after = ({(one.policy, one.reason): one for one in side.overrides} for side in (old, new))
    for key in sorted(before.keys() | after.keys()):
        what = f"override of {key[0]} ({key[1]})"
        if key not in after:
            yield f"{what}: ended"
        elif key not in before:
            yield f"{what}: {'in force' if after[key].active else 'expired already'}"
        elif before[key].expires != after[key].expires:
            yield f"{what}: expires at another time"
