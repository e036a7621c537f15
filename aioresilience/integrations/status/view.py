"""What the status page shows of a registry: its state in the words of whoever is on call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from aioresilience.integrations.status.rates import Rates
from aioresilience.integrations.status.rejections import Recorder, Rejection

Level = Literal["trouble", "notice", "fine"]
_RANK: Final[Mapping[Level, int]] = {"trouble": 0, "notice": 1, "fine": 2}
_COUNTS: Final = frozenset({"name", "started", "succeeded", "failed", "neutral", "observed", "delayed", "rejected"})
_LINK: Final = re.compile(r"https?://", re.IGNORECASE)

Facts = Mapping[str, object]
Report = Mapping[str, object]
"""What `Registry.status` returns."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing that a reader should know, and how much it matters."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class PatternRow:
    """One pattern of a policy: what it counted, and its live state."""

    key: str
    counts: Mapping[str, int]
    rejected: Mapping[str, int]
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One policy; the rates are calls per second, None until two looks lie a second apart."""

    name: str
    signs: tuple[Sign, ...]
    patterns: tuple[PatternRow, ...]
    calls: int
    rejected: int
    calls_rate: float | None
    rejected_rate: float | None
    rejections: tuple[Rejection, ...]
    description: str | None = None
    owner: str | None = None
    runbook: str | None = None

    @property
    def level(self) -> Level:
        """The gravest of the signs."""
        return min((sign.level for sign in self.signs), key=_RANK.__getitem__, default="fine")

    @property
    def runbook_is_link(self) -> bool:
        """Whether the runbook is an address that a browser may follow."""
        return bool(self.runbook and _LINK.match(self.runbook))


@dataclass(frozen=True, slots=True)
class Page:
    """All that the page shows."""

    report: Report
    signs: tuple[Sign, ...]
    policies: list[PolicyRow]
    reloads: Mapping[str, object] = field(default_factory=dict)


def page(
    report: Report, rates: Rates, recorder: Recorder, breathe: Callable[[], None] = lambda: None, *, whole: bool = True
) -> Page:
    """Turn a registry's status into what the page shows, the gravest policies first.

    Only a `whole` status is a look for the rates; `breathe` is called between policies, since there may be thousands.
    """
    policies = _mapping(report["policies"])
    if whole:
        rates.note({name: totals(_mapping(status)) for name, status in policies.items()})
    rows = []
    for name, status in policies.items():
        breathe()
        rows.append(_policy(name, _mapping(status), rates, recorder))
    rows.sort(key=lambda row: (_RANK[row.level], row.name))
    return Page(report, tuple(_of_registry(report)), rows, _mapping(report.get("reloads")))


def totals(status: Facts) -> tuple[int, int]:
    """Return how many calls came to a policy, and how many of them a pattern of it refused."""
    patterns = [_mapping(pattern) for pattern in _mapping(status.get("patterns")).values()]
    refused = [sum(_numbers(pattern.get("rejected")).values()) for pattern in patterns]
    if not patterns:
        return 0, 0
    return _number(patterns[0].get("started")) + refused[0], sum(refused)


def _policy(name: str, status: Facts, rates: Rates, recorder: Recorder) -> PolicyRow:
    about = _mapping(status.get("about"))
    calls, rejected = totals(status)
    calls_rate, rejected_rate = rates.of(name)
    patterns = _mapping(status.get("patterns"))
    return PolicyRow(
        name,
        tuple(_of_policy(status, patterns)),
        tuple(_pattern(key, _mapping(pattern)) for key, pattern in patterns.items()),
        calls, rejected, calls_rate, rejected_rate, recorder.of(name),
        _text(about.get("description")), _text(about.get("owner")), _text(about.get("runbook")),
    )  # fmt: skip


def _pattern(key: str, status: Facts) -> PatternRow:
    counts = {name: _number(status[name]) for name in status if name in _COUNTS - {"name", "rejected"}}
    rejected = {reason: number for reason, number in _numbers(status.get("rejected")).items() if number}
    return PatternRow(key, counts, rejected, dict(_flat({k: v for k, v in status.items() if k not in _COUNTS})))


def _flat(facts: Facts, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _of_registry(report: Report) -> Iterator[Sign]:
    if not report.get("last_reload_successful"):
        yield Sign("trouble", "the last reload was refused; the configuration before it stays in effect")
    if report.get("on_fallback"):
        yield Sign("trouble", "the fallback configuration is in effect")
    if report.get("pinned"):
        yield Sign("notice", "pinned: the files are not followed until they change again")
    watcher = _mapping(report.get("watcher"))
    if not watcher.get("alive"):
        yield Sign("notice", "nobody watches the files: edits apply only when a reload is asked for")
    for source in cast("list[Facts]", report.get("sources") or []):
        if not source.get("read_ok"):
            yield Sign("trouble", f"{source.get('path')} cannot be read")
    overrides = cast("list[object]", report.get("overrides_active") or [])
    if overrides:
        yield Sign("notice", f"overrides in effect: {', '.join(map(_said, overrides))}")


def _said(override: object) -> str:
    return str(override["policy"]) if isinstance(override, Mapping) and "policy" in override else str(override)


def _of_policy(status: Facts, patterns: Mapping[str, object]) -> Iterator[Sign]:
    if status.get("error"):
        yield Sign("trouble", f"cannot be used: {status['error']}")
    if not status.get("used"):
        yield Sign("fine", "not used yet")
        return
    if status.get("retired"):
        yield Sign("notice", "retired: no longer in the file")
    if status.get("mode") != "enforce":
        yield Sign("notice", _mode(status.get("mode")))
    for key, pattern in patterns.items():
        for look in _LOOKS.get(key, ()):
            yield from look(_mapping(pattern))


def _mode(mode: object) -> str:
    part = _mapping(mode).get("enforce")
    return f"enforced for {100 * part:.3g} %" if isinstance(part, float) else f"mode {mode}"


def _circuit(status: Facts) -> Iterator[Sign]:
    state, forced, wait = str(status.get("state")), status.get("forced"), status.get("retry_after")
    if forced is not None:
        yield Sign("trouble" if state == "open" else "notice", f"circuit forced {state}: {_reason(forced)}")
    elif state == "open":
        probe = f", next probe in {wait:.0f} s" if isinstance(wait, float) else ""
        yield Sign("trouble", f"circuit open{probe}")
    elif state == "half_open":
        yield Sign("notice", "circuit half-open: probing")


def _reason(forced: object) -> str:
    return ", ".join(map(str, forced.values())) if isinstance(forced, Mapping) else str(forced)


def _full(status: Facts) -> Iterator[Sign]:
    active, limit = status.get("active"), status.get("limit")
    if isinstance(active, int) and isinstance(limit, int) and active >= limit:
        waiting = _number(status.get("waiting"))
        yield Sign("notice", f"full: {active} of {limit}" + (f", {waiting} waiting" if waiting else ""))


def _spent(status: Facts) -> Iterator[Sign]:
    if status.get("scope") == "policy" and status.get("remaining") == 0:
        yield Sign("notice", f"at its rate of {status.get('rate')}")
    if status.get("backend") is not None and status.get("backend_in_use") != status.get("backend"):
        yield Sign("trouble", f"backend {status.get('backend')} does not answer: {status.get('backend_in_use')} in use")


def _pressed(status: Facts) -> Iterator[Sign]:
    if status.get("active"):
        yield Sign("notice", f"backpressure: {status.get('pending')} pending")


def _loaded(status: Facts) -> Iterator[Sign]:
    level = status.get("load_level")
    if level in ("high", "critical"):
        yield Sign("trouble" if level == "critical" else "notice", f"load {level}")


_LOOKS: Final = {
    "circuit_breaker": (_circuit,),
    "bulkhead": (_full,),
    "adaptive_concurrency": (_full,),
    "rate_limiter": (_spent,),
    "backpressure": (_pressed,),
    "load_shedder": (_loaded,),
}


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _numbers(value: object) -> dict[str, int]:
    return {name: _number(number) for name, number in _mapping(value).items()}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
