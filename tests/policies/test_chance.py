"""Whatever the luck: a dependency that fails 30% of its calls must not lose a pack's users by chance openings."""

from __future__ import annotations

import random
from itertools import count
from math import comb

import pytest

from aioresilience import CircuitConfig, Registry
from aioresilience.circuit_breaker.machine import CLOSED, CircuitMachine

PACKS = ["http-client", "internal-rpc", "database", "cache", "llm-api", "queue-consumer"]
ERRORS = 0.3
SLACK = 600 * (1 - 0.65 / (1 - ERRORS))
"""Seconds of ten minutes that may be refused, when 65% are to succeed and no retry helps."""


def breaker_of(pack: str) -> CircuitConfig:
    text = f'version: 1\ninclude: ["pack:{pack}"]\npolicies: {{mine: {{extends: {pack}}}}}\n'
    return Registry.from_text(text, environ={}).get("mine").circuit_breaker.config


def chance_to_open(config: CircuitConfig) -> float:
    """Return the chance that failures ever are half of all outcomes, from `minimum_calls` on: a walk's return."""
    calls, falls = config.minimum_calls, ERRORS / (1 - ERRORS)
    assert config.failure_rate == 0.5
    weights = (
        (fails, comb(calls, fails) * ERRORS**fails * (1 - ERRORS) ** (calls - fails)) for fails in range(calls + 1)
    )
    return sum(weight * falls ** max(0, calls - 2 * fails) for fails, weight in weights)


def chance_to_lose(config: CircuitConfig, left: float = SLACK) -> float:
    """Return the chance that chance openings refuse for more than `left` seconds, each wait at its longest."""
    if left < 0:
        return 1.0
    recovers = (1 - ERRORS) ** config.success_threshold
    waited = chance = 0.0
    still_open = 1.0
    for attempt in count():
        wait = config.recovery_timeout * config.recovery_multiplier**attempt
        waited += min(wait, config.max_recovery_timeout or wait)
        if waited > left:
            return chance_to_open(config) * (chance + still_open)
        chance += still_open * recovers * chance_to_lose(config, left - waited)
        still_open *= 1 - recovers


@pytest.mark.parametrize("pack", PACKS)
def test_no_luck_costs_more_than_the_promise_leaves(pack):
    assert chance_to_lose(breaker_of(pack)) < 1 / 400


@pytest.mark.parametrize("pack", ["http-client", "llm-api"])
def test_the_machine_opens_as_often_as_the_walk_says(pack):
    config, dice, starts = breaker_of(pack), random.Random(3), 3000
    opened = sum(opens(config, dice) for _ in range(starts))
    expected = chance_to_open(config) * starts
    assert abs(opened - expected) < 5 * expected**0.5


def opens(config: CircuitConfig, dice: random.Random) -> bool:
    machine = CircuitMachine(config, dice.random)
    for _ in range(200):
        ticket = machine.ticket
        if ticket is None:
            break
        if dice.random() < ERRORS:
            machine.fail(ticket, 0.0, 0.0)
        else:
            machine.succeed(ticket, 0.0, 0.0)
    return machine.state is not CLOSED
