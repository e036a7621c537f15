"""A million calls through a full stack leave nothing behind."""

import json
import os
import subprocess
import sys

PROGRAM = """
import asyncio, gc, json, sys, threading, tracemalloc
from aioresilience import Registry, ResilienceError

TEXT = '''
version: 1
policies:
  full:
    fallback: {value: instead}
    deadline: 60s
    retry: {max_attempts: 2, initial_delay: 0s, budget: null}
    circuit_breaker: {window: 1000, failure_rate: 90%}
    rate_limiter: {rate: 1000000000/second, scope: key, max_limiters: 100}
    bulkhead: {max_concurrent: 5, max_waiting: 20}
    timeout: 30s
'''
registry = Registry.from_text(TEXT, environ={})
policy = registry.get("full")
views = [policy.bind(key=str(number)) for number in range(50)]

async def work(number):
    if number % 500 == 0:
        raise ConnectionError
    if number % 100 == 0:
        await asyncio.sleep(0)
    return number

async def calls(start, count):
    for number in range(start, start + count, 10):
        await asyncio.gather(*(views[n % 50].call(work, n) for n in range(number, number + 10)))

def look():
    gc.collect()
    return len(gc.get_objects()), threading.active_count(), len(asyncio.all_tasks())

async def main():
    count = int(sys.argv[1])
    await calls(0, 20_000)
    before = look()
    tracemalloc.start()
    await calls(0, 1_000)
    gc.collect()
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    await calls(0, count - 22_000)
    after = look()
    tracemalloc.start()
    await calls(0, 1_000)
    gc.collect()
    print(json.dumps({"before": before, "after": after, "memory": tracemalloc.get_traced_memory()[0] - memory,
                      "done": policy.retry.counts.started}))

asyncio.run(main())
"""


def test_a_million_calls_leave_no_object_no_thread_and_no_task():
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "1000000"], capture_output=True, text=True, timeout=300, env=environ
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["done"] == 1_000_000
    objects = seen["after"][0] - seen["before"][0]
    assert abs(objects) < 200, seen
    assert seen["after"][1:] == seen["before"][1:], seen
    assert seen["memory"] < 50_000, seen
