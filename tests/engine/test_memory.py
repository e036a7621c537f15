"""What a policy of five patterns weighs, from being asked for to having been called; `make bench` has the figures."""

import gc
import tracemalloc

import pytest

from aioresilience import Registry

COUNT = 300
SPEC = (
    "{retry: 3, circuit_breaker: {window: 30s}, rate_limiter: 100/second, bulkhead: 100, timeout: 5s, idempotent: true}"
)
TEXT = "version: 1\npolicies:\n" + "".join(f"  p{number}: {SPEC}\n" for number in range(COUNT + 1))


async def bare():
    return 1


async def asked(policy):
    """Do nothing more."""


async def looked_at(policy):
    assert policy.bulkhead is not None


async def called(policy):
    await policy.call(bare)


async def decorating(policy):
    decorated = policy(bare)
    await decorated()
    return decorated


BYTES = {asked: 750, looked_at: 5_400, called: 9_500, decorating: 9_900}
"""At most so many bytes: what it takes today on CPython 3.11 to 3.13, and about a tenth."""


def policies(spec):
    return "".join(f"  p{number}: {spec(number)}\n" for number in range(COUNT))


DOCUMENTS = {"alike": (lambda number: SPEC, 280), "each its own": (lambda n: SPEC.replace("100", str(n + 100)), 1_350)}
"""What the policies are, and at most so many bytes for each."""


def test_a_document_is_read_into_little_memory():
    for what, (spec, most) in DOCUMENTS.items():
        text = "version: 1\npolicies:\n" + policies(spec)
        Registry.from_text(text.replace("  p", "  q"), environ={})
        # The least of two: a table of the whole process, as that of its names, grows now and then, and not twice.
        assert min(bytes_of(text.replace("  p", f"  {letter}")) for letter in "pr") <= most, what


def bytes_of(text):
    """Return what a registry takes for each policy of its text."""
    gc.collect()
    tracemalloc.start()
    try:
        registry = Registry.from_text(text, environ={})
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / len(registry)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("use", BYTES)
async def test_a_policy_takes_little_memory(use):
    registry = Registry.from_text(TEXT, environ={})
    await use(registry.get(f"p{COUNT}"))  # makes what all policies of one shape share
    gc.collect()
    tracemalloc.start()
    try:
        kept = [await use(registry.get(f"p{number}")) for number in range(COUNT)]
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] / len(kept)
    finally:
        tracemalloc.stop()
    assert taken <= BYTES[use]
