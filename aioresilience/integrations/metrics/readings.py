"""How each metric is read from one look at a registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, cast

from aioresilience.integrations.metrics.view import Reading, Row, View
from aioresilience.load_shedding import LoadLevel

Read = Callable[[View], Iterator[Reading]]
CIRCUIT_STATES: Final = ("closed", "open", "half_open")
TRIGGERS: Final = ("api", "apply", "file", "sighup")
"""The triggers that are shown before the first of them came."""
RARER: Final = ("code", "override", "rollback")
"""Those that are shown once they came; any other is "other", since callers of `reload` may say what they like."""
RESULTS: Final = ("applied", "unchanged", "rejected")


def calls(view: View) -> Iterator[Reading]:
    """Read how calls ended."""
    for row in view.rows:
        for outcome, number in (("success", "succeeded"), ("failure", "failed"), ("neutral", "neutral")):
            yield (row.policy, row.pattern, outcome), getattr(row.counts, number)


def rejections(view: View) -> Iterator[Reading]:
    """Read the refused calls by reason."""
    for row in view.rows:
        for reason, count in row.rejections:
            yield (row.policy, row.pattern, reason), count


def counted(number: str) -> Read:
    """Read one of the counts of every pattern that can refuse."""
    return lambda view: (((row.policy, row.pattern), getattr(row.counts, number)) for row in view.rows if row.is_guard)


def summed(*fields: str) -> Read:
    """Add up the first of these fields that a pattern's state has, over its partitions."""

    def read(view: View) -> Iterator[Reading]:
        for row in view.rows:
            states = () if row.shown.isdisjoint(fields) else row.states
            numbers = [number for state in states if (number := _number(state, fields)) is not None]
            if numbers:
                yield (row.policy, row.pattern), sum(numbers)

    return read


def own(pattern: str, *fields: str) -> Read:
    """Read a field of one kind of pattern, which counts for all partitions."""

    def read(view: View) -> Iterator[Reading]:
        for row in view.rows:
            number = _number(row.own, fields) if row.pattern == pattern else None
            if number is not None:
                yield (row.policy,), number

    return read


def _number(state: Mapping[str, object], fields: tuple[str, ...]) -> float | None:
    for field in fields:
        value = state.get(field)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return value
    return None


def timed_out(view: View) -> Iterator[Reading]:
    """Read the calls that timeouts and deadlines cut."""
    return (
        ((row.policy, row.pattern), float(str(row.own["timed_out"]))) for row in view.rows if "timed_out" in row.shown
    )


def circuits(view: View) -> Iterator[Reading]:
    """Count circuits by state: those of the partitions where there are any."""
    for row in _of(view, "circuit_breaker"):
        all_states = row.states
        states = [str(state["state"]) for state in (all_states[1:] if row.partitioned else all_states)]
        for name in CIRCUIT_STATES:
            yield (row.policy, name), states.count(name)


def forced(view: View) -> Iterator[Reading]:
    """Tell which circuits are held by hand."""
    return (((row.policy,), float(row.own["forced"] is not None)) for row in _of(view, "circuit_breaker"))


def stopped(view: View) -> Iterator[Reading]:
    """Read why calls were given up."""
    for row in _of(view, "retry"):
        for reason, count in cast("Mapping[str, int]", row.own["stopped"]).items():
            yield (row.policy, reason), count


def budget(view: View) -> Iterator[Reading]:
    """Read what is left of retry budgets."""
    for row in _of(view, "retry"):
        budget = None if row.partitioned else cast("Mapping[str, float] | None", row.own["budget"])
        if budget is not None:
            yield (row.policy,), budget["left"]


def load_level(view: View) -> Iterator[Reading]:
    """Read the load level as a number."""
    for row in _of(view, "load_shedder"):
        yield (row.policy,), LoadLevel[str(row.own["load_level"]).upper()].value


def _of(view: View, pattern: str) -> Iterator[Row]:
    return (row for row in view.rows if row.pattern == pattern)


def partitions(view: View) -> Iterator[Reading]:
    """Count the live partitions."""
    return (((one.name,), len(one.partitions)) for one in view.policies if one.partitions is not None)


def unpartitioned(view: View) -> Iterator[Reading]:
    """Read what partitions could not hold."""
    for policy in view.policies:
        for reason, count in () if policy.partitions is None else policy.partitions.counts.items():
            yield (policy.name, reason), count


def reloads(view: View) -> Iterator[Reading]:
    """Read the reloads by result and trigger."""
    triggers = cast("Mapping[str, Mapping[str, int]]", view.overview["reloads_by_trigger"])
    summed: dict[str, Counter[str]] = {trigger: Counter() for trigger in TRIGGERS}
    for trigger, counts in triggers.items():
        summed.setdefault(trigger if trigger in (*TRIGGERS, *RARER) else "other", Counter()).update(counts)
    for trigger, by_result in summed.items():
        for result in RESULTS:
            yield (result, trigger), by_result[result]


def config(field: str) -> Read:
    """Read one number or truth value of the registry."""
    return lambda view: iter([((), float(cast("float", view.overview[field])))])


def config_count(field: str) -> Read:
    """Read how many entries a list of the registry has."""
    return lambda view: iter([((), len(cast("list[object]", view.overview[field])))])


def watcher(field: str) -> Read:
    """Read a field of the watcher, where it has one."""

    def read(view: View) -> Iterator[Reading]:
        value = cast("Mapping[str, float | None]", view.overview["watcher"])[field]
        if value is not None:
            yield (), float(value)

    return read


def unreadable(view: View) -> Iterator[Reading]:
    """Count the files that cannot be read."""
    sources = cast("list[Mapping[str, object]]", view.overview["sources"])
    yield (), sum(not source["read_ok"] for source in sources)


def policy_count(view: View) -> Iterator[Reading]:
    """Count the policies of the document."""
    yield (), len(view.registry)
