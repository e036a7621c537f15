"""`python -m benchmarks.fleet`: what a fleet asks of the server, by lease and size, simulated on the shipped leases.

The server is simulated by the machine that its script is held equal to; what a process does with a lease is the code
that ships. Time is virtual. The tables are those of docs/distributed.md.
"""

from __future__ import annotations

import heapq
import random
from typing import Literal, NamedTuple

from aioresilience.backends import NOTHING, Place
from aioresilience.backends.scripts import GCRA
from aioresilience.rate_limiting.leases import LIFE, Lease, Leases
from aioresilience.units import Rate

SECONDS = 4.0
PER_PROCESS = 50
"""Permits a second for each process."""


class Outcome(NamedTuple):
    """What a second of a fleet looks like."""

    trips: float
    admitted: float
    """As a share of the calls."""


class SimulatedServer:
    """One GCRA bucket, as gcra.lua counts it."""

    def __init__(self, rate: Rate) -> None:
        self.per_second, self.burst = rate.permits / rate.period, rate.permits
        self.level = self.at = 0.0
        self.trips = 0

    def ask(self, now: float, ahead: int, parts: int) -> tuple[bool, int]:
        self._drain(now)
        self.trips += 1
        if self.level + 1 > self.burst + 1e-6:
            return False, 0
        self.level += 1
        leased = min(ahead, max(0, int((self.burst - self.level) / parts)))
        self.level += leased
        return True, leased

    def give_back(self, now: float, count: int) -> None:
        self._drain(now)
        self.level = max(0.0, self.level - count)
        self.trips += 1

    def _drain(self, now: float) -> None:
        self.level = max(0.0, self.level - (now - self.at) * self.per_second)
        self.at = now


def run(processes: int, lease: int | Literal["auto"] | None, demanded: float) -> Outcome:
    """Let the processes call at random instants, so many times for each permit; count trips and admissions."""
    chance = random.Random(7)
    permits = PER_PROCESS * processes
    server, place = SimulatedServer(Rate(permits, 1.0)), Place(GCRA, b"", permits, 1.0, permits)
    server.level = permits * min(1.0, demanded) / 2  # a fleet in full swing, not one that starts with a full burst
    fleet = [None if lease is None else Leases(lease) for _ in range(processes)]
    demand = PER_PROCESS * demanded
    calls = [(chance.expovariate(demand), number) for number in range(processes)]
    heapq.heapify(calls)
    admitted = total = 0
    while calls[0][0] < SECONDS:
        now, number = calls[0]
        heapq.heapreplace(calls, (now + chance.expovariate(demand), number))
        leases, total = fleet[number], total + 1
        if leases is None:
            admitted += server.ask(now, 0, 1)[0]
            continue
        for _, left, _ in leases.over(now, every_one=False):
            server.give_back(now, left)
        if leases.take("", now) is not None:
            admitted += 1
            continue
        granted, leased = server.ask(now, leases.wanted("", now), max(2, processes))
        admitted += granted
        if leased:
            leases.hold("", Lease(place, leased, NOTHING, now + LIFE))
    return Outcome(server.trips / SECONDS, admitted / total)


def table(demanded: float) -> str:
    """Return the table: trips a second, and the share of the calls that is admitted."""
    leases: tuple[int | Literal["auto"] | None, ...] = (None, 10, 100, "auto")
    lines = ["| processes | calls a second | " + " | ".join(f"lease {lease or 'none'}" for lease in leases) + " |"]
    lines.append("|---:|---:|" + "---:|" * len(leases))
    for processes in (1, 10, 100, 1000):
        cells = []
        for lease in leases:
            outcome = run(processes, lease, demanded)
            cells.append(f"{outcome.trips:,.0f} ({outcome.admitted:.0%})")
        lines.append(f"| {processes:,} | {processes * PER_PROCESS * demanded:,.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    for demanded in (0.7, 1.5):
        print(f"\nThe fleet asks for {demanded:.0%} of what it may have; trips a second (calls admitted)\n")
        print(table(demanded))
