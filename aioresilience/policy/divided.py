"""The snapshot of a partitioned policy: each call goes to its partition."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Mapping

from aioresilience.calls import Caller, Exit
from aioresilience.policy.admission import Entrance
from aioresilience.policy.fused import AnyFunction
from aioresilience.policy.partition import Partitions
from aioresilience.policy.snapshot import Snapshot


class Divided(Snapshot):
    """A snapshot whose calls go each to its partition; its own patterns serve those that have none."""

    __slots__ = ("_config", "_own", "partitions")

    def __init__(self, own: Snapshot, partitions: Partitions) -> None:
        self._config = partitions.config
        self._own = own
        self.partitions = partitions
        self.unmade, self.made = None, own.patterns
        self.context, self.generation = own.context, own.generation
        self.clock = own.clock
        self._block = self._answers = self.served = None
        self.replaced = False
        self.in_use = True
        self.run = self._run

    def around(self, func: AnyFunction, policy: object) -> None:
        """Return None: there is no frame for all partitions."""

    def restore(self) -> None:
        """Let the partitions run under this snapshot's patterns again."""
        self.partitions.adopt(self._config, self._own)

    def entered(self, caller: Caller) -> tuple[Snapshot, Exit | None]:
        """Return the snapshot of the caller's partition, and what counts the call out of it."""
        member = self.partitions.enter(caller)
        if member is None:
            return self._own, None

        def leave(error: BaseException | None = None) -> BaseException | None:
            self.partitions.leave(member)
            return error

        return member.snapshot, leave

    @property
    def block(self) -> Entrance:
        """What `async with` blocks go through, each caller in its partition."""
        if self._block is None:
            self._block = _PartitionedEntrance(self, operator.attrgetter("block"))
        return self._block

    @property
    def answers(self) -> Entrance:
        """What requests go through that come in, each caller in its partition."""
        if self._answers is None:
            self._answers = _PartitionedEntrance(self, operator.attrgetter("answers"))
        return self._answers

    async def _run(
        self, func: Callable[..., Awaitable[object]], args: tuple[object, ...], kwargs: Mapping[str, object],
        caller: Caller,
    ) -> object:  # fmt: skip
        snapshot, leave = self.entered(caller)
        try:
            return await snapshot.run(func, args, kwargs, caller)
        finally:
            if leave is not None:
                leave(None)

    async def run_lasting(
        self, func: Callable[..., Awaitable[object]], args: tuple[object, ...], kwargs: Mapping[str, object],
        caller: Caller,
    ) -> object:  # fmt: skip
        """Call under the caller's partition, which is in use until the result is closed."""
        (snapshot, leave), kept = self.entered(caller), False
        try:
            result = await snapshot.run_lasting(func, args, kwargs, caller)
            if leave is not None and caller.exchange is not None:
                kept = caller.exchange.when_closed(result, lambda: leave(None))
            return result
        finally:
            if leave is not None and not kept:
                leave(None)


class _PartitionedEntrance(Entrance):
    """An entrance that leads each caller to that of its partition."""

    __slots__ = ("_divided", "_of")

    def __init__(self, divided: Divided, of: Callable[[Snapshot], Entrance]) -> None:
        super().__init__(divided.patterns, divided.context, divided.clock)
        self._divided = divided
        self._of = of
        self.leads_on = True

    def entered(self, caller: Caller) -> tuple[Entrance, Exit | None]:
        """Return the entrance of the caller's partition, and what counts the caller out of it."""
        snapshot, leave = self._divided.entered(caller)
        return self._of(snapshot), leave
