"""What was promised, and whether it was kept."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from aioresilience.circuit_breaker import CircuitState
from aioresilience.cli.demo.service import Flight, Shop
from aioresilience.cli.demo.story import Record
from aioresilience.exceptions import OperationTimeoutError

UNDER_WAY: Final = 12
"""Payments that the bulkhead lets run and wait at once: what may still reach the provider when the circuit opens."""
FIRST_LIMIT: Final = 5 + 20 + 1
SECOND_LIMIT: Final = 5 + 40 + 1
"""Quotes that may start within a second, before and after the reload: burst, rate, and both ends of the second."""
TWO_MISTAKES: Final = 2
NEW_TIMEOUT: Final = 0.5
"""Seconds, of a search in the second file."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A claim, whether it held, and what was seen."""

    claim: str
    held: bool
    seen: str


def check(shop: Shop, record: Record) -> list[Promise]:
    """Return every promise of the demo."""
    return list(_promises(shop, record))


def _promises(shop: Shop, record: Record) -> Iterator[Promise]:
    yield _every_call_ended(shop)
    yield _customers_were_served(shop)
    yield _retries_helped(shop)
    yield _outage_stayed_outside(shop, record)
    yield _limit_held(shop, record)
    yield _broken_file_refused(record)
    yield _service_went_on(shop, record)
    yield _good_file_applied(shop, record)
    yield _calls_kept_their_rules(shop.flights, record)
    yield _circuit_stayed_open(record)
    yield _counters_went_on(record)
    yield _observe_then_enforce(shop, record)
    yield _circuit_closed(record)


def _every_call_ended(shop: Shop) -> Promise:
    calls = sum(tally.calls for tally in shop.tallies.values())
    ended = sum(tally.ended for tally in shop.tallies.values())
    unexpected = [text for tally in shop.tallies.values() for text in tally.unexpected]
    claim = "every call ended as its policy says: answered, replaced, rejected, cut, or with the provider's own error"
    return Promise(
        claim, calls == ended > 0, f"{ended} of {calls} calls" + "".join(f"; {text}" for text in unexpected[:3])
    )


def _customers_were_served(shop: Shop) -> Promise:
    tally = shop.tallies["payments"]
    held = tally.calls == tally.answered + tally.stood_in and tally.stood_in > 0
    return Promise(
        "no customer saw the outage: every payment was charged, or taken to be charged later",
        held,
        f"{tally.answered} charged, {tally.stood_in} taken for later",
    )


def _retries_helped(shop: Shop) -> Promise:
    retry = shop.registry.get("payments").retry
    assert retry is not None, "the demo's file gives payments a retry"
    retries, calls = retry.tally.retries, retry.counts.started
    claim = "retries helped, and their budget kept them from multiplying the outage"
    return Promise(claim, 0 < retries <= 0.2 * calls + 0.5 * 20, f"{retries} retries for {calls} calls")


def _outage_stayed_outside(shop: Shop, record: Record) -> Promise:
    claim = f"while the circuit was open, no more reached the provider than was under way ({UNDER_WAY} at most)"
    if not record.opened or not record.probed:
        return Promise(claim, False, "the circuit did not open and probe")
    arrivals = _between(shop.upstream.arrivals["payments"], record.opened[0], record.probed[0])
    seconds = record.probed[0] - record.opened[0]
    return Promise(claim, arrivals <= UNDER_WAY, f"{arrivals} requests in {seconds:.1f} s")


def _limit_held(shop: Shop, record: Record) -> Promise:
    claim = "the rate limit held: 20 quotes a second and a burst of 5, then 40 a second"
    if record.before is None or record.after is None:
        return Promise(claim, False, "nothing was applied")
    started = shop.quotes_started
    first = _most_in_a_second([time for time in started if time < record.before.at])
    second = _most_in_a_second([time for time in started if time > record.after.at])
    rejected = shop.tallies["quotes"].rejected
    held = 0 < first <= FIRST_LIMIT and 0 < second <= SECOND_LIMIT and rejected > 0
    return Promise(claim, held, f"at most {first}, then {second}, within any second; {rejected} rejected")


def _broken_file_refused(record: Record) -> Promise:
    claim = "the broken file was refused whole, with all mistakes at once, each with its line and column"
    if not record.refusals:
        return Promise(claim, False, "it was not refused")
    refusal = record.refusals[0]
    listed = refusal.details.get("diagnostics")
    texts = [str(text) for text in listed] if isinstance(listed, list) else []
    placed = [text for text in texts if re.match(r".*resilience\.yaml:\d+:\d+: error AR\d{3} ", text)]
    held = len(placed) == len(texts) == TWO_MISTAKES and refusal.generation == 1
    return Promise(claim, held, f"{len(placed)} mistakes placed, generation {refusal.generation}")


def _service_went_on(shop: Shop, record: Record) -> Promise:
    begun, ended = record.broken_at
    served = sum(_between(times, begun, ended) for times in shop.upstream.arrivals.values())
    claim = "it was reported once, and the service went on meanwhile"
    return Promise(claim, len(record.refusals) == 1 and served > 0, f"{len(record.refusals)} report, {served} requests")


def _good_file_applied(shop: Shop, record: Record) -> Promise:
    claim = "the good file was applied at once, while calls were in flight"
    if record.after is None:
        return Promise(claim, False, f"generation {shop.registry.generation}")
    held = len(record.applied) == 1 and record.after.generation == shop.registry.generation == 2
    return Promise(
        claim,
        held and record.after.in_flight > 0,
        f"generation {shop.registry.generation}, {record.after.in_flight} calls in flight",
    )


def _calls_kept_their_rules(flights: Sequence[Flight], record: Record) -> Promise:
    """Look at the searches that the new timeout would have cut; a tenth of a second around the swap is left out."""
    claim = "those calls ended under the rules they had started with"
    if record.after is None:
        return Promise(claim, False, "nothing was applied")
    applied = record.after.at
    across = [flight for flight in flights if flight.started < applied - 0.1 and flight.ended > applied]
    cut_anew = [flight for flight in across if _cut_after(flight) == NEW_TIMEOUT]
    longer = [flight for flight in across if flight.ended - flight.started > NEW_TIMEOUT]
    seen = f"{len(longer)} of {len(across)} searches took longer than their new timeout allows; it cut {len(cut_anew)}"
    return Promise(claim, bool(longer) and not cut_anew, seen)


def _cut_after(flight: Flight) -> object:
    error = flight.outcome
    return error.metadata.get("timeout") if isinstance(error, OperationTimeoutError) else None


def _circuit_stayed_open(record: Record) -> Promise:
    claim = "the open circuit stayed open across the reload, and waited no longer for it"
    before, after = record.before, record.after
    if before is None or after is None or before.retry_after is None or after.retry_after is None:
        return Promise(claim, False, "it was not open")
    drift = after.at + after.retry_after - before.at - before.retry_after
    same = before.circuit is after.circuit and before.state is after.state is CircuitState.OPEN
    return Promise(
        claim, same and abs(drift) < 0.05, f"next probe in {before.retry_after:.1f} s, then {after.retry_after:.1f} s"
    )


def _counters_went_on(record: Record) -> Promise:
    claim = "no counter was set back"
    before, after = record.before, record.after
    if before is None or after is None:
        return Promise(claim, False, "nothing was applied")
    back = [name for name, count in before.started.items() if after.started.get(name, 0) < count]
    return Promise(claim, not back, ", ".join(back) or f"{len(before.started)} counters compared")


def _observe_then_enforce(shop: Shop, record: Record) -> Promise:
    claim = "observe reported what it would reject and rejected nothing; enforce rejects"
    bulkhead = shop.registry.get("search").bulkhead
    rejected = 0 if bulkhead is None else sum(bulkhead.counts.rejected.values())
    held = record.observed_before > 0 and record.rejected_before == 0 and rejected > 0
    return Promise(claim, held, f"{record.observed_before} reported, then {rejected} rejected")


def _circuit_closed(record: Record) -> Promise:
    claim = "the circuit probed, and closed by itself once the provider was back"
    if not record.closed or not record.probed:
        return Promise(claim, False, "it did not close")
    return Promise(claim, True, f"{record.closed[0] - record.opened[0]:.1f} s after it had opened")


def _most_in_a_second(times: Sequence[float]) -> int:
    return max((_between(times, start, start + 1.0) for start in times), default=0)


def _between(times: Sequence[float], start: float, end: float) -> int:
    return bisect_left(times, end) - bisect_left(times, start)


def kept(promises: Sequence[Promise]) -> bool:
    """Tell whether all of them held."""
    return all(promise.held for promise in promises)
