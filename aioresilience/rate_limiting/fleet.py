"""The rate limiter of a policy, counted on a server for the whole fleet.

A call that finds a permit of a lease is admitted at once, as by the local limiter; any other asks the server. While
that is away, `on_backend_error` decides: `local` goes on with a limit in this process.
"""

from __future__ import annotations

import asyncio
import math

from aioresilience.backends import Answer, Backend
from aioresilience.backends.checks import FOREIGN, WRONG_TYPE
from aioresilience.calls import Caller, Trace
from aioresilience.clock import Clock
from aioresilience.events import EventType, global_bus
from aioresilience.exceptions import ExceptionConfig, RateLimitReason, RejectionError
from aioresilience.failures import REJECTED, Outcome
from aioresilience.rate_limiting.buckets import SHARED, AnyBuckets
from aioresilience.rate_limiting.config import RateLimiterConfig
from aioresilience.rate_limiting.leases import Lease
from aioresilience.rate_limiting.limit import build
from aioresilience.rate_limiting.pattern import MissingKeyError, RateLimit
from aioresilience.rate_limiting.remote import RemoteLimit
from aioresilience.rate_limiting.tickets import FREE, Grant, Shadow, local_part
from aioresilience.rate_limiting.turns import Turns
from aioresilience.scope import current_deadline, sleep


class FleetRateLimit(RateLimit):
    """Limits how many calls start in a time in all processes together."""

    on_backend = True
    splits = False
    admits_observed = False

    def __init__(
        self,
        name: str | None = None,
        config: RateLimiterConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        *,
        backend: Backend,
        clock: Clock | None = None,
        known_as: str | None = None,
    ) -> None:
        self.server = backend
        self._fleet = backend.fleet_size
        super().__init__(name, config, exceptions, clock=clock)
        self.degraded = 0
        """Decisions that were made without the server."""
        self._outage = 0
        self._owed: dict[str, int] = {}
        self._counted = backend.config
        self._seen: tuple[float, float] = 0.0, 0.0
        self._turns = Turns(self.clock)
        self._remote = RemoteLimit(backend, known_as or self.name, self.config, self.clock)

    def _build(self, config: RateLimiterConfig) -> AnyBuckets:
        """Build the buckets for when the server is away."""
        rate, burst = local_part(config, self._fleet)
        return build(config.algorithm, rate, burst, self._census)

    def admit(self, caller: Caller) -> object | None:
        """Spend a permit of a lease; without the server, decide as configured."""
        remote = self._remote
        if not remote.backend.available:
            return self._without_server(caller)
        leases = remote.leases
        if leases is None:
            return None
        key: str | None = SHARED
        if self._limit.by_key:
            key = caller.key
            if key.__class__ is not str:
                return None
        if self._turns.lines and key in self._turns.lines:
            return None
        lease = leases.take(key, self._limit.monotonic())  # type: ignore[arg-type]  # a str by now
        if lease is not None and (self.events.handlers or global_bus.handlers):
            self._tell_allowed(caller, lease.left)
        return lease

    def _without_server(self, caller: Caller, reason: str | None = None) -> object | None:
        """Decide at once without the server, where that admits; `reason` is why where the server is well."""
        ticket: object | None = None
        if self.config.on_backend_error == "allow":
            ticket = FREE
        elif self.config.on_backend_error == "local":
            self._prepare()
            ticket = super().admit(caller)
        if ticket is not None:
            self._note_degraded(reason)
        return ticket

    async def _wait_without_server(self, caller: Caller, reason: str | None = None) -> object:
        """Decide without the server; raises the refusal."""
        ticket = self._without_server(caller, reason)
        if ticket is not None:
            return ticket
        self._note_degraded(reason)
        if self.config.on_backend_error == "deny":
            raise self._away(reason)
        return await super().wait(caller)

    def _away(self, reason: str | None) -> RejectionError:
        """Say that nobody counts now, and so nobody may call."""
        backend = self.server
        what = f"is away ({backend.reason})" if reason is None else f"cannot count this key ({reason})"
        why = f"backend {backend.name!r} {what}, and on_backend_error is deny"
        message = f"rate limiter {self.name!r}: {why}"
        return self.reject(RateLimitReason.RATE_LIMIT_EXCEEDED, message, None, backend=backend.name)

    def _prepare(self) -> None:
        """At the start of an outage: take the part of the fleet that is known now, charged with what was last seen."""
        if self._outage != self.server.outages:
            self._outage, self._fleet = self.server.outages, self.server.fleet_size
            with self._limit.lock:
                old = self._limit.table
                self._limit.replace(self._build(self.config), lambda new, _, now: self._charge(new, old, now))

    def _charge(self, heir: AnyBuckets, old: AnyBuckets, now: float) -> None:
        """Charge buckets with what is spent in old ones, and with what the server last said to be spent."""
        heir.inherit(old, now)
        share = self._share(now)
        entry = heir.find(SHARED)
        if share > (0.0 if entry is None else heir.share(entry, now)):
            heir.put(SHARED, heir.charged(share, now))

    def _share(self, now: float) -> float:
        """Return how much of the one limit of a policy is spent, as far as the server's last answer tells."""
        share, at = self._seen
        drained = (now - at) * self.config.rate.permits / self.config.rate.period / self.config.capacity
        return max(0.0, share - drained)

    def bequeath(self, heir: AnyBuckets, now: float) -> None:
        """Charge other buckets with the share that is spent here, and on the server."""
        self._charge(heir, self._limit.table, now)

    def spent(self) -> dict[str, int]:
        """Return this process's part of what is spent on the server; by key it is not known."""
        share = self._share(self.clock.monotonic())
        return {SHARED: math.ceil(share * self.config.capacity / self.server.fleet_size - 1e-6)} if share else {}

    def succeed(self, old: RateLimit) -> None:
        """Take over: the local buckets at once, and the server with the first call that comes here."""
        super().succeed(old)
        if old._limit.by_key == self._limit.by_key:
            self._owed = old.spent()

    def _follow_server(self) -> None:
        """Take what is spent along where a reload has moved the backend to another place."""
        before, self._counted = self._counted, self.server.config
        if before.place() != self._counted.place():
            self._owed = self.spent()
            if self.listening():
                kept = self._kept(self.config, self.config)
                self._publish(EventType.STATE_RESTARTED, {"backend": f"{self.server.name} moved", "kept": kept})

    def _pay(self) -> None:
        owed, self._owed = self._owed, {}
        for key, count in owed.items():
            self.server.charge(self._remote.place(key, by_key=self._limit.by_key), count)

    def _note_degraded(self, reason: str | None = None) -> None:
        self.degraded += 1
        if self.listening():
            decision = self.config.on_backend_error
            about: dict[str, object] = {
                "backend": self.server.name, "reason": reason or self.server.reason, "in_use": decision,
            }  # fmt: skip
            self._publish(EventType.BACKEND_DEGRADED, about)

    @property
    def waits(self) -> bool:
        """Whether a call that finds no permit of a lease waits, be it for the server's answer alone."""
        return True

    def was_delayed(self, ticket: object) -> bool:
        """Tell whether a call waited for its permit, and not merely for the server's answer."""
        return bool(getattr(ticket, "waited", True))

    async def wait(self, caller: Caller) -> object:
        """Ask the server; wait for a permit no longer than configured, and not at all where the deadline cuts it."""
        key = self._key(caller)
        if not self.server.available:
            return await self._wait_without_server(caller)
        until = self.clock.monotonic() + (self.config.wait or 0.0)
        if key not in self._turns.lines:
            answer = await self._ask(key, caller)
            if not isinstance(answer, Answer):
                return answer
            self._refuse_late(key, caller, answer.retry_after, until)
        return await self._wait_in_turn(key, caller, until)

    async def _ask(self, key: str, caller: Caller, *, waited: bool = False) -> object:
        """Return a ticket, or the answer of the server that there is none now."""
        if self.server.config is not self._counted:
            self._follow_server()
        if self._owed:
            self._pay()
        place = self._remote.place(key, by_key=self._limit.by_key)
        answer = await self._remote.ask(place, key)
        if answer is None or answer is FOREIGN:
            return await self._wait_without_server(caller, None if answer is None else WRONG_TYPE)
        if not self._limit.by_key:
            self._seen = 1 - answer.remaining / self.config.capacity, self.clock.monotonic()
        if not answer.granted:
            return answer
        if self.listening():
            self._tell_allowed(caller, answer.remaining)
        return Grant(place, answer, waited)

    def _refuse_late(self, key: str, caller: Caller, delay: float, until: float) -> None:
        """Raise the refusal where a permit that is due in `delay` seconds comes too late."""
        due, deadline = self.clock.monotonic() + delay, current_deadline()
        if due > until or (deadline is not None and due > deadline):
            raise self._refuse(key, caller, delay)

    async def _wait_in_turn(self, key: str, caller: Caller, until: float) -> object:
        rate, longest = self.config.rate, self._line_length(self.config.wait or 0.0)
        if not await self._turns.take(key, until, longest):
            line = self._turns.lines.get(key)
            ahead = 0 if line is None else line.waiting + 1
            raise self._refuse(key, caller, (ahead + 1) * rate.period / rate.permits)
        try:
            return await self._poll(key, caller, until)
        finally:
            self._turns.pass_on(key)

    async def _poll(self, key: str, caller: Caller, until: float) -> object:
        while True:
            lease = self._remote.leased(key)
            if lease is not None and lease.place is not None:
                return Grant(lease.place, Answer(True, 0.0, lease.left, lease.charge), True)
            answer = await self._ask(key, caller, waited=True)
            if not isinstance(answer, Answer):
                return answer
            self._refuse_late(key, caller, answer.retry_after, until)
            await sleep(answer.retry_after, self.clock)

    def _key(self, caller: Caller) -> str:
        """Return the key that is counted; raises MissingKeyError."""
        if not self._limit.by_key:
            return SHARED
        key = self._bucket(caller)
        return self._place(caller) if key is None else key

    async def observe(self, caller: Caller, trace: Trace) -> object | None:
        """Let the call go on at once; what enforcing would have done is charged to a shadow, and told when known."""
        try:
            key = self._key(caller)
        except MissingKeyError:
            return await super().observe(caller, trace)
        if not self.server.available:
            ticket = self._without_server(caller)
            return ticket if ticket is not None else await super().observe(caller, trace)
        place = self._remote.place(key, by_key=self._limit.by_key, shadow=True)
        future = self.server.ask(place)
        future.add_done_callback(lambda done: self._observed(done, key, trace))
        return Shadow(place, future)

    def _observed(self, done: asyncio.Future[Answer | None], key: str, trace: Trace) -> None:
        if done.cancelled():
            return
        answer = done.result()
        if answer is None or answer is FOREIGN:
            self._note_degraded(None if answer is None else WRONG_TYPE)
        elif not answer.granted:
            self.counts.observed += 1
            self.decide(trace, "would_reject", self._reason(key).name)

    def settle(self, ticket: object, outcome: Outcome, started: float | None) -> None:
        """Give the permit back if a pattern further in refused the call."""
        if outcome is not REJECTED or ticket is FREE:
            return
        if isinstance(ticket, Lease):
            self._remote.put_back(ticket)
        elif isinstance(ticket, Grant):
            self._remote.give_back(ticket.place, ticket.answer)
        elif isinstance(ticket, Shadow):
            if not ticket.future.cancel() and not ticket.future.cancelled():
                self._remote.give_back(ticket.place, ticket.future.result())
        else:
            super().settle(ticket, outcome, started)

    def refusal(self, caller: Caller) -> RejectionError:
        """Say that the permits are spent; when the next one is due, the server alone knows."""
        if not self.server.available:
            return super().refusal(caller)
        return self._refuse(SHARED if not self._limit.by_key else str(caller.key), caller, None)

    def retune(self, config: RateLimiterConfig) -> None:
        """Ask under the new rate from now on: the server keeps the spent share, and so do the local buckets."""
        before, spent = self.config, self.spent()
        super().retune(config)
        self._remote.retune(config)
        if before.algorithm != config.algorithm and before.scope == config.scope:
            self._owed = spent

    def _kept(self, old: RateLimiterConfig, new: RateLimiterConfig) -> str:
        return "this process's part" if old.scope == new.scope == "policy" else "nothing on the server"

    def _tell_allowed(self, caller: Caller, remaining: int) -> None:
        key = caller.key if self._limit.by_key else None
        self.events.publish(self._event(EventType.REQUEST_ALLOWED, key, remaining, {}))

    def status(self) -> dict[str, object]:
        """Return what the local limiter does, and what is asked of the server."""
        available = self.server.available
        local = super().status()
        if available:
            local.pop("remaining", None)
        return (
            local
            | self._remote.status()
            | {
                "backend": self.server.name,
                "backend_in_use": self.server.name if available else self.config.on_backend_error,
                "backend_away": int(not available),
                "degraded": self.degraded,
                "waiting": self._turns.waiting + self._limit.waiting,
            }
        )
