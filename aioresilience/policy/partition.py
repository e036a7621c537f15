"""One policy for many dependencies: what it learns is kept apart for each host or key, in a bounded number.

A partition has instances of its own of the patterns whose class says `splits`; the others, and those that `use` a
shared block, are the policy's. A call without a host or key, and one that finds all places held, runs under the
policy's own instances.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final, Literal
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field

from aioresilience.calls import Caller
from aioresilience.clock import Clock
from aioresilience.events import DecisionEvent, EventType
from aioresilience.fields import Count
from aioresilience.pattern import AnyPattern
from aioresilience.policy.snapshot import Snapshot

CIRCUIT: Final = "circuit_breaker"
SHOWN: Final = 20
"""Partitions that a status lists."""
SECONDS_BETWEEN_EVENTS: Final = 60.0
SECONDS_BETWEEN_LOOKS: Final = 0.1
"""How long a full table is believed to be full."""


class Partition(BaseModel):
    """An instance of the policy's breaker, retry budget, limits and bulkhead for each host or key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    by: Literal["host", "key"] = Field(
        default="host",
        description="host: whom the call goes to, as the HTTP clients say; key: what bind(key=) or the decorator says.",
    )
    max: Count = Field(
        default=256, description="Most partitions at a time; the one unused for longest goes, if it holds nothing back."
    )


class Member:
    """One partition: its own instances, how many calls are under way in it, when the last one began."""

    __slots__ = ("_gone", "_made", "_present", "active", "key", "last_used", "name")

    def __init__(self, key: str, name: str, whole: Snapshot) -> None:
        self.key = key
        self.name = name
        self.active = 0
        self.last_used = 0.0
        self._present: tuple[Snapshot, dict[AnyPattern, AnyPattern]] = whole, {}
        """The policy's patterns and its own instances of them: one assignment, since other threads look."""
        self._made: tuple[Snapshot, Snapshot] | None = None
        """Its snapshot, behind that of the policy which it was made from."""
        self._gone: dict[AnyPattern, AnyPattern] = {}
        self.adopt(whole)

    def adopt(self, whole: Snapshot) -> None:
        """Take the patterns of a new snapshot: what stays is retuned and keeps its state."""
        before, twins = self._gone | self._twins, {}
        for pattern in whole.patterns:
            if not splits(pattern, whole):
                continue
            twin = before.get(pattern) or pattern.twin(self.name)
            if twin.config != pattern.config:
                twin.retune(pattern.config)
            twins[pattern] = twin
        self._gone = {pattern: twin for pattern, twin in self._twins.items() if pattern not in twins}
        self._present = whole, twins

    @property
    def _twins(self) -> dict[AnyPattern, AnyPattern]:
        return self._present[1]

    @property
    def snapshot(self) -> Snapshot:
        """What its calls run under, made when the first one needs it: a reload only retunes."""
        (whole, twins), made = self._present, self._made
        if made is None or made[0] is not whole:
            patterns = [twins.get(pattern, pattern) for pattern in whole.patterns]
            made = self._made = whole, Snapshot(patterns, whole.context, whole.clock, whole.generation)
        return made[1]

    def twin(self, whole: AnyPattern) -> AnyPattern | None:
        """Return its own instance of one of the policy's patterns, None where it is shared."""
        return self._twins.get(whole)

    def circuit(self) -> str | None:
        """Return the state of its circuit breaker, None where the policy has none."""
        return next((str(twin.status()["state"]) for twin in self._twins.values() if twin.key == CIRCUIT), None)

    def follow(self) -> None:
        """Take over what people did by hand to the policy's own instances."""
        for whole, twin in self._twins.items():
            twin.follow(whole)

    def is_free(self, now: float) -> bool:
        """Tell whether it may be dropped: nothing runs in it, and it holds nothing back that a new one would not."""
        return self.active == 0 and not any(twin.holds_back(now) for twin in self._twins.values())

    def status(self, now: float) -> dict[str, object]:
        """Return what runs in it and the state of its instances, without the counts, which are the policy's."""
        states = {twin.key: _state(twin) for twin in self._twins.values()}
        return {"name": self.name, "active": self.active, "idle_seconds": now - self.last_used, "patterns": states}


def splits(pattern: AnyPattern, whole: Snapshot) -> bool:
    """Tell whether each partition has its own: neither what others share, nor a limit that a backend keeps."""
    own = pattern.policy == whole.context.policy
    return pattern.splits and own and getattr(pattern.config, "backend", None) is None


def _state(twin: AnyPattern) -> Mapping[str, object]:
    counted = twin.counts.as_dict()
    return {name: value for name, value in twin.status().items() if name not in counted and name != "name"}


class Partitions:
    """The partitions of one policy: at most `max`, safe from any thread and loop."""

    __slots__ = ("_full_until", "_lock", "_members", "_next_event", "clock", "config", "counts", "whole")

    def __init__(self, config: Partition, whole: Snapshot, clock: Clock) -> None:
        self.config = config
        self._lock = threading.RLock()  # a coroutine that is collected while it is held may end a call
        self._members: dict[str, Member] = {}
        self._full_until = self._next_event = 0.0
        self.clock = clock
        self.whole = whole
        self.counts = {"dropped": 0, "overflowed": 0, "keyless": 0}

    def __len__(self) -> int:
        return len(self._members)

    def fits(self, config: Partition) -> bool:
        """Tell whether the state can be kept under another config: what it is partitioned by stays."""
        return config.by == self.config.by

    def adopt(self, config: Partition, whole: Snapshot) -> None:
        """Take a new config and new patterns; each partition keeps its state."""
        with self._lock:
            self.config, self.whole, self._full_until = config, whole, 0.0
            for member in self._members.values():
                member.adopt(whole)
            while len(self._members) > config.max and self._drop_one():
                pass

    def enter(self, caller: Caller) -> Member | None:
        """Count the call into its partition; None where the policy's own instances serve it."""
        key = caller.host if self.config.by == "host" else caller.key
        if key is None:
            self._note("keyless", EventType.KEY_MISSING)
            return None
        key = str(key)
        with self._lock:
            member = self._members.get(key) or self._add(key)
            if member is not None:
                member.active += 1
                member.last_used = self.clock.monotonic()
        if member is None:
            self._note("overflowed", EventType.KEY_OVERFLOW)
        else:
            member.follow()
        return member

    def leave(self, member: Member) -> None:
        """Count the call out, and drop a partition where a reload left too many."""
        with self._lock:
            member.active -= 1
            if self._full_until and member.is_free(self.clock.monotonic()):
                self._full_until = 0.0
            if len(self._members) > self.config.max:
                self._drop_one()

    def _add(self, key: str) -> Member | None:
        if len(self._members) >= self.config.max and not self._drop_one():
            return None
        member = self._members[key] = Member(key, self._name(key), self.whole)
        return member

    def _name(self, key: str) -> str:
        """Name a partition for errors and events: a host as it is, a key, which may be a person, by its hash."""
        shown = key if self.config.by == "host" else f"#{crc32(key.encode('utf-8', 'surrogatepass')):08x}"
        return f"{self.whole.context.policy}[{shown}]"

    def _drop_one(self) -> bool:
        """Drop the partition that has not been used for longest, of those that are free."""
        now = self.clock.monotonic()
        if now < self._full_until:
            return False
        for member in sorted(self._members.values(), key=lambda one: one.last_used):
            if member.is_free(now):
                del self._members[member.key]
                self.counts["dropped"] += 1
                return True
        self._full_until = now + SECONDS_BETWEEN_LOOKS
        return False

    def _note(self, what: str, event_type: EventType) -> None:
        """Count every such call; tell of one a minute."""
        self.counts[what] += 1
        now, first = self.clock.monotonic(), next(iter(self.whole.patterns), None)
        if first is None or now < self._next_event or not first.listening():
            return
        self._next_event = now + SECONDS_BETWEEN_EVENTS
        event = DecisionEvent(
            first.pattern_type, event_type, first.name, policy=self.whole.context.policy, action="not_partitioned",
            metadata=dict(self.counts),
        )  # fmt: skip
        first.events.publish(event)

    def instances(self, whole: AnyPattern) -> list[AnyPattern]:
        """Return what the partitions have of one of the policy's patterns; nothing where all share it."""
        with self._lock:
            found = [member.twin(whole) for member in self._members.values()]
        return [twin for twin in found if twin is not None]

    def states(self) -> dict[str, int]:
        """Count the circuits by state."""
        with self._lock:
            found = [member.circuit() for member in self._members.values()]
        return {state: found.count(state) for state in ("closed", "open", "half_open")}

    def status(self) -> dict[str, object]:
        """Return the numbers, and of the partitions those that hold back, then the latest used, at most twenty."""
        now = self.clock.monotonic()
        with self._lock:
            members = list(self._members.values())
        members.sort(key=lambda one: (one.is_free(now), -one.last_used))
        return {
            "by": self.config.by, "max": self.config.max, "live": len(members),
            "in_use": sum(one.active > 0 for one in members), **self.counts,
            "circuits": self.states(), "shown": [one.status(now) for one in members[:SHOWN]],
        }  # fmt: skip
