"""A fork while another thread is in the middle of something: the child can do it all the same."""

import gc
import os
import threading
import time
import warnings

import pytest

from aioresilience import Registry, collector, counts, get_registry
from aioresilience.events import emitter
from aioresilience.policy import fused, policy
from aioresilience.registry import default, names

HELD = 0.05
"""Seconds for which the other thread goes on after the fork has begun, which waits for it where it has to."""


def forked(check):
    """Tell whether the check holds in a forked child; one that hangs is killed."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of forks beside threads, from 3.12 on
        child = os.fork()
    if child == 0:
        threading.Timer(30, lambda: os._exit(2)).start()
        os._exit(0 if check() else 1)
    return os.waitpid(child, 0)[1] == 0


class SlowlyStopped:
    """The collector's module, in which another thread gets its turn right after the stop."""

    isenabled, enable = gc.isenabled, gc.enable

    def __init__(self):
        self.stopped = threading.Event()

    def disable(self):
        gc.disable()
        self.stopped.set()
        time.sleep(HELD)


def test_the_collector_runs_in_a_child_though_a_thread_of_the_parent_was_just_stopping_it(monkeypatch):
    slowly = SlowlyStopped()
    monkeypatch.setattr(collector, "gc", slowly)

    def read():
        with collector.collector_paused():
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert slowly.stopped.wait(15)
    assert forked(gc.isenabled)
    reader.join()
    assert gc.isenabled()


LOCKS = {
    "handlers": emitter._registering,
    "rows of counts": counts._lining_up,
    "compiled shapes": fused._compiling,
    "policies": policy._living,
    "names": names._lock,
}


@pytest.mark.parametrize("held", LOCKS)
def test_a_child_makes_policies_though_a_thread_of_the_parent_was_making_one(held):
    taken = threading.Event()

    def hold():
        with LOCKS[held]:
            taken.set()
            time.sleep(HELD)

    def make():
        registry = Registry.from_text("version: 1\npolicies: {p: {bulkhead: 3, timeout: 1s}}", environ={})
        fused.bind.cache_clear()
        registry.events.on("*")(print)
        registry.get("p")(time_of)
        registry.verify()
        return True

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(15)
    assert forked(make)
    holder.join()


async def time_of():
    return time.time()


def test_a_child_has_its_default_registry_though_a_thread_of_the_parent_was_reading_one(tmp_path, monkeypatch):
    (tmp_path / "r.yaml").write_text("version: 1\npolicies: {p: {bulkhead: 3}}\n")
    monkeypatch.setenv("AIORESILIENCE_CONFIG", str(tmp_path / "r.yaml"))
    monkeypatch.setattr(default, "_default", None)
    monkeypatch.setattr(names, "_default", set())
    read, taken = threading.Event(), threading.Event()

    def hold():
        with default._lock:
            taken.set()
            read.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert taken.wait(15)
        assert forked(lambda: "p" in get_registry())
    finally:
        read.set()
        holder.join()
