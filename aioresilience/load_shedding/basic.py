"""The load shedder around a call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final, ParamSpec, TypeVar

from aioresilience.calls import ANYONE, Call, Caller, invoker
from aioresilience.clock import Clock
from aioresilience.events import EventType, LoadShedderEvent, PatternType, ResilienceEvent
from aioresilience.exceptions import ExceptionConfig, LoadSheddingError, LoadSheddingReason, RejectionError
from aioresilience.failures import SUCCESS, Outcome
from aioresilience.guard import Guard
from aioresilience.load_shedding.config import LoadSheddingConfig
from aioresilience.load_shedding.levels import UTILIZATION, LoadLevel, LoadMetrics, rate
from aioresilience.load_shedding.machine import LoadMachine
from aioresilience.load_shedding.sampling import SAMPLER, SystemSampler
from aioresilience.load_shedding.signals import LagProbe, Pressure, highest_level, worst
from aioresilience.load_shedding.watch import Watch, queue_pressure
from aioresilience.pattern import ALONE

P = ParamSpec("P")
T = TypeVar("T")

PLACE: Final = object()
"""The ticket of a call whose loop is not measured."""

_EVENT_TYPES: Final = {"admitted": EventType.REQUEST_ACCEPTED, "rejected": EventType.REQUEST_SHED}


class BasicLoadShedder(Guard[LoadSheddingConfig]):
    """Sheds calls while the process is too busy for them, low priorities first.

    `queue_depth` is the length of the service's own queue, for the service to set.
    """

    key = "load_shedder"
    config_type = LoadSheddingConfig
    pattern_type = PatternType.LOAD_SHEDDER
    reasons = LoadSheddingReason
    error_type = LoadSheddingError
    holds = True
    machine: Final[LoadMachine]
    kind: ClassVar[str] = "basic"
    sampler: ClassVar[SystemSampler] = SAMPLER

    def __init__(
        self,
        config: LoadSheddingConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        *,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        config = config or LoadSheddingConfig()
        super().__init__(name, config, exceptions=exceptions, clock=clock)
        self.machine = LoadMachine(config.max_requests, config.max_queue_depth)
        self._watch = Watch(config, self.clock, self.sampler)
        self._held: deque[object | None] = deque()
        self._telling = threading.RLock()
        self._told = LoadLevel.NORMAL

    @property
    def type_name(self) -> str:
        """The `pattern_type` string of errors and contexts."""
        return "load_shedding"

    def admit(self, caller: Caller) -> object | None:
        """Count the call in, unless the load is too high for its priority."""
        if self._watch.on or caller.priority != "normal" or self.machine.queue_depth:
            return self._admit_weighed(caller)
        return PLACE if self.machine.take() else None

    def _admit_weighed(self, caller: Caller) -> object | None:
        watch = self._watch
        if watch.samples:
            watch.begin(self)
        probe = watch.probe()
        pressures = self._pressures(caller, probe)
        load, critical = 0.0, False
        if pressures:
            load = max(pressure.load for pressure in pressures)
            critical = load >= 1.0 and self._level(pressures) is LoadLevel.CRITICAL
        if self.machine.sheds(caller.priority, load, critical) or not self.machine.take():
            return None
        if probe is None:
            return PLACE
        probe.enter()
        return probe

    def settle(self, ticket: object, outcome: Outcome, started: float | None) -> None:
        """Count the call out."""
        self.machine.give()
        if ticket is not PLACE:
            self._leave(ticket, outcome)

    def _leave(self, ticket: object, outcome: Outcome) -> None:
        assert isinstance(ticket, LagProbe)
        ticket.leave()
        if outcome is not SUCCESS:
            ticket.rest()

    def refusal(self, caller: Caller) -> LoadSheddingError:
        """Say what the process is too busy with."""
        reason, why = self._why(caller)
        machine = self.machine
        error = self.reject(
            reason,
            f"load shedder {self.name!r} sheds priority {caller.priority!r}: {why}",
            active_requests=machine.active,
            max_requests=machine.max_requests,
            queue_depth=machine.queue_depth,
            load_level=self.load_level.name.lower(),
            priority=caller.priority,
        )
        assert isinstance(error, LoadSheddingError)
        return error

    def _why(self, caller: Caller) -> tuple[LoadSheddingReason, str]:
        machine = self.machine
        in_flight = f"{machine.active} of {machine.max_requests} requests in flight"
        if machine.full:
            return LoadSheddingReason.MAX_LOAD_EXCEEDED, in_flight
        top = worst(self._pressures(caller, self._watch.probe()))
        if top is None or top.load <= machine.utilization:
            return _reason(caller, machine.utilization), in_flight
        return _reason(caller, top.load), str(top)

    def _pressures(self, caller: Caller, probe: LagProbe | None) -> list[Pressure]:
        machine, watch = self.machine, self._watch
        found = queue_pressure(machine.queue_depth, machine.max_queue_depth) if machine.queue_depth else []
        return found + watch.pressures(caller, probe) if watch.on else found

    def _level(self, pressures: list[Pressure]) -> LoadLevel:
        return max(rate(100.0 * self.machine.utilization, UTILIZATION), highest_level(pressures))

    @property
    def load_level(self) -> LoadLevel:
        """The highest level that any signal gives."""
        return self._level(self._pressures(ANYONE, self._watch.probe()))

    @property
    def metrics(self) -> LoadMetrics:
        """What is counted now."""
        machine = self.machine
        return LoadMetrics(
            machine.active, machine.queue_depth, machine.max_requests, machine.max_queue_depth, self.clock.wall()
        )

    def should_shed_load(self) -> tuple[bool, str]:
        """Tell whether a call of normal priority would be shed whatever its turn, and why."""
        self._watch.begin(self)
        top = worst(self._pressures(ANYONE, self._watch.probe()))
        if self.machine.full or (top is not None and top.load >= 1.0):
            return True, self._why(ANYONE)[1]
        return False, ""

    async def acquire(self, priority: str = "normal") -> bool:
        """Count a call in for `release` to count out; False when it is shed."""
        mode = self.mode_in(ALONE)
        try:
            self._held.append(None if mode == "off" else await self.take(Caller(priority=priority), mode))
        except Exception as error:
            if isinstance(error, RejectionError) or isinstance(error.__cause__, RejectionError):
                return False
            raise
        return True

    async def release(self) -> None:
        """Count a call out that `acquire` counted in; harmless where there is none."""
        ticket = self._held.popleft() if self._held else None
        if ticket is not None:
            self.counts.settle(SUCCESS)
            self.settle(ticket, SUCCESS, None)

    async def execute_as(
        self, caller: Caller, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call an async `func` for a caller of some priority."""
        layer = self._alone
        if layer is None:
            layer = self._alone = self.wrap(invoker(self.clock), ALONE)
        return await layer(Call(func, args, kwargs, caller))  # type: ignore[return-value]  # func's own result

    def retune(self, config: LoadSheddingConfig) -> None:
        """Take new limits; what is in flight stays counted."""
        super().retune(config)
        self.machine.resize(config.max_requests, config.max_queue_depth)
        self._watch.retune(config)

    @property
    def active_requests(self) -> int:
        """How many calls are in flight."""
        return self.machine.active

    @active_requests.setter
    def active_requests(self, count: int) -> None:
        self.machine.active = count

    @property
    def queue_depth(self) -> int:
        """How long the service's own queue is, as it told."""
        return self.machine.queue_depth

    @queue_depth.setter
    def queue_depth(self, depth: int) -> None:
        self.machine.queue_depth = depth

    @property
    def total_shed(self) -> int:
        """How many calls were shed."""
        return sum(self.counts.rejected.values())

    def get_stats(self) -> dict[str, object]:
        """Return the numbers under the names of 0.2; `utilization` is a percentage, `load_level` a number."""
        machine = self.machine
        return {
            "active_requests": machine.active,
            "queue_depth": machine.queue_depth,
            "total_shed": self.total_shed,
            "load_level": self.load_level.value,
            "max_requests": machine.max_requests,
            "max_queue_depth": machine.max_queue_depth,
            "utilization": 100.0 * machine.utilization,
            "type": self.kind,
        }

    def status(self) -> dict[str, object]:
        """Return the load by signal and the counts."""
        probe, sample = self._watch.probe(), self._watch.latest
        return super().status() | {
            "active": self.machine.active,
            "max_requests": self.machine.max_requests,
            "queue_depth": self.machine.queue_depth,
            "load_level": self.load_level.name.lower(),
            "lag": None if probe is None else probe.reading(),
            "cpu_percent": None if sample is None else sample.cpu_percent,
            "memory_percent": None if sample is None else sample.memory_percent,
        }

    def fact(self, moment: str, error: BaseException | None = None) -> ResilienceEvent | None:
        """Build the event of a call accepted or shed; publish a change of level that came with it."""
        self._tell_level()
        event_type = _EVENT_TYPES.get(moment)
        return None if event_type is None else self._event(event_type, str(error) if error is not None else None)

    def _tell_level(self) -> None:
        with self._telling:
            before, self._told = self._told, self.load_level
            if self._told is not before:
                change = f"{before.name} to {self._told.name}".lower()
                self.events.publish(self._event(EventType.LOAD_LEVEL_CHANGE, change))

    def _event(self, event_type: EventType, reason: str | None) -> LoadShedderEvent:
        machine = self.machine
        return LoadShedderEvent(
            self.pattern_type, event_type, self.name,
            active_requests=machine.active, max_requests=machine.max_requests,
            load_level=self._told, reason=reason,
        )  # fmt: skip


def _reason(caller: Caller, load: float) -> LoadSheddingReason:
    """Tell whether another priority would have helped."""
    helps = caller.priority == "low" and load < 1.0
    return LoadSheddingReason.PRIORITY_REJECTED if helps else LoadSheddingReason.MAX_LOAD_EXCEEDED


LoadShedder = BasicLoadShedder
