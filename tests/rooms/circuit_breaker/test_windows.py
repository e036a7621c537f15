"""What a closed circuit remembers, held against plain lists."""

from __future__ import annotations

import dis

import pytest
from hypothesis import given, strategies as st

from aioresilience.circuit_breaker import CircuitBreaker
from aioresilience.circuit_breaker.windows import SLICES, CallWindow, TimeWindow

outcome = st.tuples(st.booleans(), st.booleans())


def streak_of(outcomes: list[tuple[bool, bool]]) -> int:
    streak = 0
    for failed, _ in outcomes:
        streak = streak + 1 if failed else 0
    return streak


def note(window: CallWindow | TimeWindow, now: float, failed: bool, slow: bool) -> None:
    """Tell an outcome the way the pattern does: a success only raises `calls` where it may."""
    if not failed and not slow and (window.plain or now < window.until):
        window.calls += 1
    else:
        window.note(now, failed=failed, slow=slow)


@given(st.integers(0, 8), st.lists(st.one_of(outcome, st.integers(0, 8)), max_size=60))
def test_a_call_window_holds_the_newest_outcomes_whatever_its_size_was(size: int, steps: list[object]):
    window, kept, every = CallWindow(size), [], []
    for step in steps:
        if isinstance(step, int):
            window.resize(step)
            kept = kept[len(kept) - min(step, size, len(kept)) :]
            size = step
        else:
            note(window, 0.0, *step)
            every.append(step)
            kept = [*kept, step][-size:] if size else []
        assert window.totals(0.0) == (len(kept), sum(f for f, _ in kept), sum(s for _, s in kept))
        assert window.streak == streak_of(every)


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans(), st.booleans()), max_size=80))
def test_a_time_window_is_exact_to_a_slice_at_its_far_end(steps: list[tuple[float, bool, bool]]):
    window, now, told = TimeWindow(30.0), 0.0, []
    for gap, failed, slow in steps:
        now += gap
        note(window, now, failed, slow)
        told.append((now, failed, slow))
        totals = window.totals(now)
        inner = [entry for entry in told if entry[0] >= now - 30.0 + 30.0 / SLICES]
        outer = [entry for entry in told if entry[0] > now - 30.0]
        for count, few, many in zip(totals, map(list, _columns(inner)), map(list, _columns(outer)), strict=True):
            assert sum(few) <= count <= sum(many)
        assert window.streak == streak_of([(failed, slow) for _, failed, slow in told])


def _columns(entries: list[tuple[float, bool, bool]]) -> list[list[bool]]:
    return [[True for _ in entries], [failed for _, failed, _ in entries], [slow for _, _, slow in entries]]


def test_a_shorter_time_window_keeps_its_newest_outcomes_and_a_longer_one_brings_nothing_back():
    window = TimeWindow(30.0)
    for now in range(30):
        window.note(now, failed=True, slow=False)
    window.resize(10.0, 29.0)
    calls, _, _ = window.totals(29.0)
    assert 7 <= calls <= 10
    window.resize(60.0, 29.0)
    assert window.totals(29.0)[0] == calls


def test_a_very_short_time_window_keeps_what_it_cannot_tell_apart():
    window = TimeWindow(600.0)
    window.note(0.0, failed=True, slow=False)
    window.resize(1.0, 30.0)
    assert window.totals(30.0) == (1, 1, 0)
    window.note(31.0, failed=False, slow=False)
    assert window.totals(31.5) == (1, 0, 0)


def test_memory_of_a_window_is_bounded_by_its_size_and_its_slices():
    calls, seconds = CallWindow(100), TimeWindow(30.0)
    for number in range(10_000):
        calls.note(number / 10, failed=True, slow=True)
        seconds.note(number / 10, failed=True, slow=True)
    assert len(calls._failures) == len(calls._slow) == 100
    assert len(seconds._marks) <= SLICES


def test_a_plain_window_stores_nothing_for_a_success():
    window = CallWindow(100)
    before = window._failures, window._slow, window._last, window._run
    window.calls += 1
    assert window.totals(0.0) == (1, 0, 0)
    assert (window._failures, window._slow, window._last, window._run) == before


@pytest.mark.parametrize("function", [CircuitBreaker.settle, CallWindow.note, TimeWindow.note])
def test_calls_are_raised_in_one_straight_line(function: object):
    code = list(dis.get_instructions(function))
    stores = [n for n, step in enumerate(code) if step.opname == "STORE_ATTR" and step.argval == "calls"]
    assert stores
    for store in stores:
        load = max(n for n in range(store) if code[n].argval == "calls" and code[n].opname == "LOAD_ATTR")
        between = {step.opname for step in code[load:store]}
        assert not {name for name in between if "CALL" in name or "JUMP" in name or "BUILD" in name}
