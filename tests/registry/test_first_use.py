"""A policy that was asked for gets its patterns at its first use: once, as the document then says."""

import threading

import pytest

from aioresilience import Registry
from aioresilience.bulkhead import Bulkhead
from aioresilience.exceptions import BulkheadFullError
from aioresilience.integrations.metrics.view import View
from aioresilience.policy import BUILTIN
from aioresilience.rate_limiting.pattern import MissingKeyError
from aioresilience.registry.names import declare
from aioresilience.testing import bypass

BASIC = "version: 1\npolicies:\n  a: {bulkhead: 1}\n  b: {bulkhead: 2}\n"


async def nothing():
    return "done"


def made(registry, name):
    return registry.get(name).settled.made


def kinds(kind):
    return tuple(kind if one is Bulkhead else one for one in BUILTIN)


def test_asking_for_a_policy_makes_no_pattern_and_using_it_does():
    registry = Registry.from_text(BASIC, environ={})
    policy = registry.get("a")
    assert (policy.mode, policy.generation, made(registry, "a")) == ("enforce", 1, ())
    assert policy.bulkhead is not None
    assert made(registry, "a") == policy.patterns == (policy.bulkhead,)
    assert policy.bulkhead.policy == "a"


async def test_every_way_to_use_a_policy_makes_its_patterns():
    ways = {
        "call": lambda policy: policy.call(nothing),
        "decorated": lambda policy: policy(nothing)(),
        "bound": lambda policy: policy.bind(key="k").call(nothing),
        "open": lambda policy: policy.bind(key="k").open(nothing),
    }
    for name, way in ways.items():
        registry = Registry.from_text(BASIC, environ={})
        assert await way(registry.get("a")) == "done"
        assert registry.get("a").bulkhead.counts.started == 1, name
    registry = Registry.from_text(BASIC, environ={})
    async with registry.get("a").admit():
        assert registry.get("a").status()["patterns"]["bulkhead"]["active"] == 1


def test_first_uses_on_many_threads_at_once_make_the_patterns_once():
    instances, begun, goes_on = [], threading.Event(), threading.Event()

    class Slow(Bulkhead):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            instances.append(self)
            begun.set()
            assert goes_on.wait(15.0)

    registry = Registry.from_text(BASIC, patterns=kinds(Slow), environ={})
    policy, found = registry.get("a"), []
    threads = [threading.Thread(target=lambda: found.append(policy.patterns)) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.wait(15.0)
    assert found == []
    goes_on.set()
    for thread in threads:
        thread.join(15.0)
    assert len(instances) == 1
    assert found == [(instances[0],)] * 8


async def test_a_policy_first_used_after_reloads_is_what_the_last_one_says():
    registry = Registry.from_text(BASIC, environ={})
    policy = registry.get("a")
    registry.apply(BASIC.replace("a: {bulkhead: 1}", "a: {bulkhead: 3, timeout: 1s}"))
    registry.apply(BASIC.replace("a: {bulkhead: 1}", "a: {bulkhead: 4}"))
    assert made(registry, "a") == ()
    assert await policy.call(nothing) == "done"
    assert (policy.bulkhead.max_concurrent, policy.timeout, policy.generation) == (4, None, 3)


def test_a_reload_makes_no_pattern_of_a_policy_that_nobody_has_used():
    registry = Registry.from_text(BASIC, environ={})
    registry.get("a"), registry.get("b")
    assert registry.plan(BASIC.replace("bulkhead: 1", "bulkhead: 3"))
    assert registry.apply(BASIC.replace("bulkhead: 1", "bulkhead: 3")).outcome == "applied"
    assert registry.apply("version: 1\npolicies: {a: {bulkhead: nonsense}}").outcome == "rejected"
    assert registry.apply("version: 1\npolicies: {b: {bulkhead: 2}}").outcome == "applied"
    assert registry.rollback(2).outcome == "applied"
    assert made(registry, "a") == made(registry, "b") == ()
    assert registry.get("a").bulkhead.max_concurrent == 1


LIMITS = "version: 1\npolicies:\n  b: {timeout: 1s}\n  c: {timeout: 1s}\n  a: {bulkhead: 1}\n  d: {timeout: 1s}\n"
CHANGED = LIMITS.replace("timeout: 1s", "timeout: 2s").replace("bulkhead: 1", "bulkhead: 2")


def swapped_while(happens):
    """Apply `CHANGED` to policies that nobody has used but `a`, which does something when its turn comes."""

    class Busy(Bulkhead):
        def retune(self, config):
            happens(registry)
            super().retune(config)

    registry = Registry.from_text(LIMITS, patterns=kinds(Busy), environ={})
    assert [registry.get(name) for name in "bcad"][2].bulkhead is not None
    return registry, registry.apply(CHANGED).outcome


def test_what_is_used_for_the_first_time_in_the_middle_of_a_swap_keeps_its_instances():
    used = {}
    registry, outcome = swapped_while(lambda it: used.update({n: it.get(n).timeout for n in "bd"}))
    assert outcome == "applied"
    for name in "bd":  # one before its own turn, one after
        timeout = registry.get(name).timeout
        assert (timeout, timeout.config.timeout) == (used[name], 2.0)
        assert registry.get(name).generation == 2
    assert made(registry, "c") == ()


def test_what_is_used_for_the_first_time_in_the_middle_of_a_refused_swap_keeps_its_instances_as_they_were():
    used = {}

    def use(registry):
        used.update({name: registry.get(name).timeout for name in "bd"})
        raise RuntimeError("not this")

    registry, outcome = swapped_while(use)
    assert outcome == "rejected"
    for name in "bd":
        timeout = registry.get(name).timeout
        assert (timeout, timeout.config.timeout) == (used[name], 1.0)
    assert made(registry, "c") == ()
    assert {registry.get(name).timeout.config.timeout for name in "bcd"} == {1.0}
    assert {registry.get(name).generation for name in "bcad"} == {1}


def test_who_holds_what_a_reload_has_just_replaced_uses_the_same_instances_as_everybody():
    registry = Registry.from_text(LIMITS, environ={})
    policy = registry.get("b")
    before = policy.settled
    registry.apply(CHANGED)
    assert before.patterns == policy.patterns
    assert policy.timeout.config.timeout == 2.0


async def test_a_reload_that_brings_in_keys_before_the_first_use_lets_keyless_calls_share_a_bucket():
    text = "version: 1\npolicies: {a: {rate_limiter: 5/second}}\n"
    keyed = text.replace("5/second", "{rate: 5/second, scope: key}")
    registry = Registry.from_text(text, environ={})
    policy = registry.get("a")
    registry.apply(keyed)
    assert await policy.call(nothing) == "done"
    with pytest.raises(MissingKeyError):
        await Registry.from_text(keyed, environ={}).get("a").call(nothing)


async def test_a_policy_that_is_gone_before_its_first_use_goes_on_as_it_was_and_changes_nobody():
    text = "version: 1\nshared: {s: {bulkhead: 1}}\npolicies:\n  a: {bulkhead: {use: s}}\n  b: {bulkhead: {use: s}}\n"
    registry = Registry.from_text(text, environ={})
    a, b = registry.get("a"), registry.get("b")
    gone = text.replace("bulkhead: 1", "bulkhead: 7").replace("  a: {bulkhead: {use: s}}\n", "")
    assert registry.apply(gone).outcome == "applied"
    assert (await a.call(nothing), await b.call(nothing)) == ("done", "done")
    assert a.bulkhead is b.bulkhead
    assert b.bulkhead.max_concurrent == 7


@pytest.mark.parametrize("later", ["", "  a: {timeout: 1s}\n", "  a: {bulkhead: {use: s}}\n"])
@pytest.mark.parametrize("use", [lambda policy: policy, lambda policy: policy.patterns])
def test_what_is_first_asked_for_in_the_middle_of_a_swap_tunes_nothing_back_that_it_shares(later, use):
    text = "version: 1\nshared: {s: {bulkhead: 1}}\npolicies:\n  b: {bulkhead: {use: s}}\n  a: {bulkhead: {use: s}}\n"
    registry = None

    class Asking(Bulkhead):
        def retune(self, config):
            super().retune(config)
            use(registry.get("a"))

    registry = Registry.from_text(text, patterns=kinds(Asking), environ={})
    b = registry.get("b").bulkhead
    new = text.replace("bulkhead: 1", "bulkhead: 7").replace("  a: {bulkhead: {use: s}}\n", later)
    assert registry.apply(new).outcome == "applied"
    assert b.max_concurrent == 7
    assert registry.get("a").bulkhead is (None if "timeout" in later else b)
    assert b.max_concurrent == 7


def test_a_policy_that_is_gone_before_its_first_use_still_has_its_backend():
    pytest.importorskip("redis")
    text = (
        "version: 1\nbackends: {main: {url: 'redis://127.0.0.1:1/0'}}\npolicies:\n  b: {bulkhead: 2}\n"
        "  a: {rate_limiter: {rate: 5/second, backend: main}}\n"
    )
    registry = Registry.from_text(text, environ={})
    policy = registry.get("a")
    assert list(registry.status()["backends"]) == ["main"]
    assert registry.apply("version: 1\npolicies:\n  b: {bulkhead: 2}\n").outcome == "applied"
    assert policy.rate_limiter.status()["backend"] == "main"


async def test_shared_instances_first_used_while_a_document_is_refused_stay_the_ones_in_use():
    text = "version: 1\nshared: {s: {bulkhead: 1}}\npolicies:\n" + "".join(
        f"  {name}: {{bulkhead: {{use: s}}}}\n" for name in "abc"
    )
    registry = None

    class Stubborn(Bulkhead):
        def retune(self, config):
            assert registry.get("c").bulkhead is self  # used for the first time in the middle of the swap
            raise RuntimeError("not this")

    registry = Registry.from_text(text, patterns=kinds(Stubborn), environ={})
    a, b, c = (registry.get(name) for name in "abc")
    assert a.bulkhead is not None
    assert registry.apply(text.replace("bulkhead: 1", "bulkhead: 9")).outcome == "rejected"
    assert a.bulkhead is b.bulkhead is c.bulkhead
    async with a.admit():
        with pytest.raises(BulkheadFullError):
            await c.call(nothing)


class Picky(Bulkhead):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.max_concurrent == 1:
            raise RuntimeError("not one")


async def test_a_pattern_that_cannot_be_made_says_so_at_every_use_until_a_document_cures_it():
    registry = Registry.from_text(BASIC, patterns=kinds(Picky), environ={})
    policy = registry.get("a")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not one"):
            await policy.call(nothing)
    assert registry.apply(BASIC.replace("a: {bulkhead: 1}", "a: {bulkhead: 3}")).outcome == "applied"
    assert await policy.call(nothing) == "done"


async def test_a_policy_that_cannot_be_used_keeps_nobody_from_looking_at_the_others():
    registry = Registry.from_text(BASIC, patterns=kinds(Picky), environ={})
    a, b = registry.get("a"), registry.get("b")
    await b.call(nothing)
    with pytest.raises(RuntimeError, match="not one"):
        await a.call(nothing)
    policies = registry.status()["policies"]
    assert "not one" in policies["a"]["error"]
    assert policies["b"]["patterns"]["bulkhead"]["succeeded"] == 1
    assert [row.policy for row in View(registry, ()).rows] == ["b"]


def test_what_code_names_and_cannot_be_made_fails_the_start():
    class Broken(Bulkhead):
        def __init__(self, *args, **kwargs):
            raise RuntimeError("cannot be made")

    registry = Registry.from_text(BASIC, patterns=kinds(Broken), environ={})
    registry.verify()
    declare("a", registry)
    with pytest.raises(RuntimeError, match="cannot be made"):
        registry.verify()


async def test_a_bypassed_policy_makes_no_pattern():
    registry = Registry.from_text(BASIC, environ={})
    with bypass():
        assert await registry.get("a").call(nothing) == "done"
        assert made(registry, "a") == ()
    assert await registry.get("a").call(nothing) == "done"
    assert registry.get("a").bulkhead.counts.started == 1


async def test_a_partitioned_policy_has_its_own_patterns_from_the_start():
    text = "version: 1\npolicies: {a: {bulkhead: 1, partition: {by: key, max: 3}}}\n"
    registry = Registry.from_text(text, environ={})
    policy = registry.get("a")
    assert await policy.bind(key="k").call(nothing) == "done"
    assert policy.partitions is not None
    assert len(policy.partitions) == 1


def test_first_uses_on_many_threads_during_reloads_agree_on_the_instances():
    names = [f"p{number}" for number in range(120)]

    def text(seconds):
        return "version: 1\npolicies:\n" + "".join(f"  {name}: {{timeout: {seconds}s}}\n" for name in names)

    registry, found = Registry.from_text(text(1), environ={}), []
    policies = [registry.get(name) for name in names]
    ready = threading.Barrier(5)

    def use():
        ready.wait(15.0)
        for policy in policies:
            found.append((policy.name, policy.timeout))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    ready.wait(15.0)
    for seconds in (2, 3, 4, 5):
        assert registry.apply(text(seconds)).outcome == "applied"
    for thread in threads:
        thread.join(15.0)
    assert len(found) == 4 * len(names)
    assert len({instance for _, instance in found}) == len(names)
    assert {policy.timeout.config.timeout for policy in policies} == {5.0}
    assert {policy.timeout for policy in policies} == {instance for _, instance in found}
