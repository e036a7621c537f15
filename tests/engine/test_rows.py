"""Rows of counts: kept while a call may count in them, and one number afterwards."""

import asyncio
import gc

from aioresilience import Registry
from aioresilience.counts import Counts, counted_by, row_of

WITH = "{version: 1, policies: {p: {circuit_breaker: {}, bulkhead: 5}}}"
WITHOUT = "{version: 1, policies: {p: {circuit_breaker: {}}}}"


async def fine() -> None:
    pass


async def test_rows_of_what_a_reload_replaced_are_folded():
    registry = Registry.from_text(WITH)
    policy = registry.get("p")
    for _ in range(20):
        await policy.call(fine)
        async with policy.admit():
            pass
        registry.apply(WITHOUT)
        await policy.call(fine)
        registry.apply(WITH)
    gc.collect()
    counts = policy.circuit_breaker.counts
    assert counts.succeeded == 60
    assert len(counts._rows) <= 5


async def test_a_call_that_ends_long_after_a_reload_is_counted():
    registry, go = Registry.from_text(WITH), asyncio.Event()
    policy = registry.get("p")
    calls = [asyncio.ensure_future(policy.call(go.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    bulkhead = policy.bulkhead.counts
    registry.apply(WITHOUT)
    await policy.call(fine)
    gc.collect()
    go.set()
    await asyncio.gather(*calls)
    del calls
    gc.collect()
    assert (policy.circuit_breaker.counts.succeeded, bulkhead.succeeded) == (4, 3)


def test_thousands_that_share_a_block_come_and_go_without_going_through_all_of_it_each():
    """What is counted is how often the list of rows is made anew, which takes as long as it is."""
    shared, lists, total = Counts(None), [], 2_000
    users = []
    for _ in range(total):
        row = row_of(shared, Counts(None))
        users.append(lambda row=row: None)
        counted_by(users[-1], [row])
        row.succeeded += 1
        lists.append(shared._rows)
        del row
    assert len({id(one) for one in lists}) == 1
    while users:
        users.pop()
        if shared._rows is not lists[-1]:
            lists.append(shared._rows)
    assert 2 <= len({id(one) for one in lists}) <= 20
    assert (shared.succeeded, len(shared._rows)) == (total, 1)
