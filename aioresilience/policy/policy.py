"""A policy: a named handle that stays valid and current across reloads."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Generic, ParamSpec, TypeVar, overload

from aioresilience import callables
from aioresilience.adaptive_concurrency import AdaptiveConcurrencyLimiter
from aioresilience.backpressure import BackpressureManager
from aioresilience.bulkhead import Bulkhead
from aioresilience.calls import ANYONE, Caller, Exchange
from aioresilience.circuit_breaker import CircuitBreaker
from aioresilience.clock import SYSTEM_CLOCK, Clock
from aioresilience.events import DecisionEvent, EventType
from aioresilience.failures import EVERY_EXCEPTION, Classifier
from aioresilience.fallback import FallbackHandler
from aioresilience.forks import held_at_forks
from aioresilience.load_shedding import BasicLoadShedder
from aioresilience.modes import Mode
from aioresilience.pattern import AnyPattern, Context
from aioresilience.policy.admission import Admission, Entrance
from aioresilience.policy.divided import Divided
from aioresilience.policy.partition import Partition, Partitions
from aioresilience.policy.snapshot import Snapshot, attempt_timeout
from aioresilience.rate_limiting import RateLimit
from aioresilience.retry import RetryPolicy
from aioresilience.timeout import Deadline, TimeoutManager

P = ParamSpec("P")
T = TypeVar("T")
PatternT = TypeVar("PatternT", bound=AnyPattern)


class _Named(Generic[PatternT]):
    """Reads the pattern of that class from the present snapshot, None where the policy has none."""

    def __init__(self, kind: type[PatternT]) -> None:
        self._kind = kind

    @overload
    def __get__(self, policy: None, owner: type[Policy]) -> _Named[PatternT]: ...
    @overload
    def __get__(self, policy: Policy, owner: type[Policy]) -> PatternT | None: ...
    def __get__(self, policy: Policy | None, owner: type[Policy]) -> _Named[PatternT] | PatternT | None:
        if policy is None:
            return self
        return next((p for p in policy.patterns if isinstance(p, self._kind)), None)


_live: weakref.WeakSet[Policy] = weakref.WeakSet()
_living = threading.RLock()
held_at_forks(_living)
_bypasses: list[object] = []


@contextlib.contextmanager
def bypass() -> Iterator[None]:
    """Let every policy of the process pass calls through untouched, for tests of what stands around them."""
    mark = object()
    try:
        _bypasses.append(mark)
        _refresh_all()
        yield
    finally:
        _bypasses.remove(mark)
        _refresh_all()


def _refresh_all() -> None:
    with _living:
        for policy in list(_live):
            policy.refresh()


class Policy:
    """Patterns in order, outermost first, under one name.

    `Registry.get` hands these out and keeps them current; built by hand, it composes pattern instances in Python.
    """

    circuit_breaker = _Named(CircuitBreaker)
    retry = _Named(RetryPolicy)
    timeout = _Named(TimeoutManager)
    deadline = _Named(Deadline)
    bulkhead = _Named(Bulkhead)
    fallback = _Named(FallbackHandler)
    rate_limiter = _Named(RateLimit)
    load_shedder = _Named(BasicLoadShedder)
    backpressure = _Named(BackpressureManager)
    adaptive_concurrency = _Named(AdaptiveConcurrencyLimiter)

    def __init__(
        self,
        name: str,
        patterns: Sequence[AnyPattern] = (),
        *,
        mode: Mode = "enforce",
        classify: Classifier = EVERY_EXCEPTION,
        idempotent: bool | None = None,
        clock: Clock | None = None,
        partition: Partition | None = None,
    ) -> None:
        self.name = name
        self.clock: Clock = clock or SYSTEM_CLOCK
        self.used_by_admit = False
        self.snapshot = self._settled = Snapshot((), Context(), self.clock)
        context = Context(name, classify, mode, attempt_timeout(p.config for p in patterns), idempotent)
        self.set(patterns, context, partition=partition)
        with _living:
            _live.add(self)
            self.refresh()

    def set(
        self, patterns: Sequence[AnyPattern], context: Context, generation: int = 1, partition: Partition | None = None
    ) -> None:
        """Put other patterns under the name."""
        for pattern in patterns:
            if pattern.policy is None:
                pattern.policy = self.name
        self.put(Snapshot(patterns, context, self.clock, generation), partition)

    def put(self, settled: Snapshot, partition: Partition | None) -> None:
        """Put a snapshot into effect with one assignment; calls under way keep the one they started with."""
        settled.succeed(self._settled)
        self._settled = settled if partition is None else self._divided(settled, partition)
        self.refresh()

    def _divided(self, own: Snapshot, partition: Partition) -> Divided:
        before = self._settled
        known = before.partitions if isinstance(before, Divided) else None
        if known is None or not known.fits(partition):
            return Divided(own, Partitions(partition, own, self.clock))
        known.adopt(partition, own)
        return Divided(own, known)

    def restore(self, snapshot: Snapshot) -> None:
        """Put an earlier snapshot back."""
        self._settled = snapshot
        if isinstance(snapshot, Divided):
            snapshot.restore()
        self.refresh()

    @property
    def partitions(self) -> Partitions | None:
        """What is kept apart for each host or key, None where nothing is."""
        settled = self._settled
        return settled.partitions if isinstance(settled, Divided) else None

    @property
    def settled(self) -> Snapshot:
        """What is in effect when policies are not bypassed."""
        return self._settled

    def refresh(self) -> None:
        """Let the next call see what is in effect: the policy's patterns, or none while policies are bypassed."""
        settled, before = self._settled, self.snapshot
        settled.replaced = False
        self.snapshot = settled if not _bypasses else Snapshot((), settled.context, self.clock, settled.generation)
        before.replaced = before is not self.snapshot

    @property
    def patterns(self) -> tuple[AnyPattern, ...]:
        """The pattern instances, outermost first."""
        return self._settled.patterns

    @property
    def mode(self) -> Mode:
        """How the policy's guards act where they say nothing themselves."""
        return self.snapshot.context.mode

    @property
    def generation(self) -> int:
        """The document under which the policy last changed."""
        return self.snapshot.generation

    @overload
    async def call(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def call(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def call(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> object:
        """Call `func` under the policy; a plain function runs in a worker thread."""
        return await self.snapshot.run(callables.awaitable(func), args, kwargs, ANYONE)

    def bind(
        self,
        *,
        key: str | None = None,
        priority: str = "normal",
        arrived: float | None = None,
        host: str | None = None,
        exchange: Exchange | None = None,
    ) -> BoundPolicy:
        """Return a light view for one caller: the key of keyed limits, a priority, when the request arrived.

        `arrived` is in seconds of the monotonic clock. `host` is whom the call goes to, `exchange` what a client knows
        of its request.
        """
        return BoundPolicy(self, Caller(key, priority, arrived, host, exchange))

    def admit(self) -> Admission:
        """Enter the policy's guards and bounds around a block; see `BoundPolicy.admit`."""
        return self._admission(ANYONE, self.snapshot.block)

    def serve(self, caller: Caller = ANYONE) -> Admission:
        """Enter the policy's guards and bounds around a request that comes in; say with what status it was `answered`.

        A status that `classify` does not name is a failure from 500 on. Raises TypeError where the policy has retry or
        fallback: an answer that is on its way can be neither repeated nor replaced.
        """
        return Admission(self.entrance(), caller)

    def entrance(self) -> Entrance:
        """Return what requests that come in go through at present; raises TypeError as `serve` does."""
        snapshot = self.snapshot
        entrance = snapshot.served
        if entrance is None:
            entrance = snapshot.answers
            self._note_skipped(entrance)
            snapshot.served = None if entrance.skipped else entrance
        return entrance

    def _admission(self, caller: Caller, entrance: Entrance) -> Admission:
        if entrance.skipped or not self.used_by_admit:
            self._note_skipped(entrance)
        return Admission(entrance, caller)

    def _note_skipped(self, entrance: Entrance) -> None:
        if entrance.skipped and not self.used_by_admit:
            raise TypeError(
                f"policy {self.name!r} has {' and '.join(p.key for p in entrance.skipped)}, which cannot be applied to "
                f"a block or to a request that comes in: use 'await policy.call(func, ...)' or decorate the function"
            )
        for pattern in entrance.skipped:
            self._tell_skipped(pattern)
        self.used_by_admit |= bool(self.snapshot.patterns)

    @staticmethod
    def _tell_skipped(pattern: AnyPattern) -> None:
        if pattern.listening():
            event = DecisionEvent(
                pattern.pattern_type, EventType.PATTERN_SKIPPED, pattern.name, policy=pattern.policy, action="skipped"
            )
            pattern.events.publish(event)

    def __call__(self, func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        """Decorate an async function; every call runs under what the policy is by then."""
        callables.require_async(func, f"policy {self.name!r}")
        made = self._settled.around(func, self)
        if made is not None:
            return callables.wraps(func)(made)  # type: ignore[return-value]  # what it returns is what func gives

        @callables.wraps(func)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.snapshot.run(func, args, kwargs, ANYONE)  # type: ignore[return-value]

        return wrapper

    def status(self) -> dict[str, object]:
        """Return name, mode, generation and the live state of every pattern, fit for JSON."""
        return self.status_beside({})

    def status_beside(self, others: dict[int, tuple[AnyPattern, dict[str, object]]]) -> dict[str, object]:
        """Return the status; a pattern that is in `others`, by id, is not asked again, since thousands may share it."""
        mode, partitions, patterns = self.mode, self.partitions, self.patterns
        for pattern in patterns:
            if id(pattern) not in others:
                others[id(pattern)] = pattern, pattern.status()
        return {
            "name": self.name,
            "mode": mode if isinstance(mode, str) else {"enforce": mode.enforce},
            "generation": self.generation,
            "patterns": {pattern.key: others[id(pattern)][1] for pattern in patterns},
        } | ({} if partitions is None else {"partitions": partitions.status()})

    def __repr__(self) -> str:
        return f"<Policy {self.name!r}: {' → '.join(p.key for p in self.patterns) or 'no patterns'}>"


class BoundPolicy:
    """A policy as one caller sees it; cheap to make for every request."""

    __slots__ = ("caller", "policy")

    def __init__(self, policy: Policy, caller: Caller) -> None:
        self.policy = policy
        self.caller = caller

    @overload
    async def call(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def call(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def call(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> object:
        """Call `func` under the policy for this caller."""
        return await self.policy.snapshot.run(callables.awaitable(func), args, kwargs, self.caller)

    async def open(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an async function for this caller; what the call holds lasts until its result is closed.

        The caller's `exchange` says when that is; without one it is at the end of the call.
        """
        return await self.policy.snapshot.run_lasting(func, args, kwargs, self.caller)  # type: ignore[return-value]

    def admit(self) -> Admission:
        """Enter the policy's guards and bounds around a block for this caller.

        Raises TypeError where the policy has retry or fallback, which cannot run a block again or in its place.
        """
        return self.policy._admission(self.caller, self.policy.snapshot.block)
