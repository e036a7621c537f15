"""The two kinds of pattern that act where a call has failed: one calls again, one answers instead."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from aioresilience.calls import Call, Handler
from aioresilience.pattern import ConfigT, Context, Pattern

RoomsPlan = Any
"""What a room of this kind keeps for a call; nobody else looks into it."""


class Recovering(Pattern[ConfigT]):
    """A pattern that acts where a call has failed: it calls again, or answers in the call's place.

    A room gives `plan` and `recover`, `begin` where it notes starts, and `review` where it may object to a result.
    """

    @abstractmethod
    def plan(self, context: Context) -> RoomsPlan:
        """Return what a call keeps until its end, whatever is retuned meanwhile; only the room looks into it."""

    def begin(self, plan: RoomsPlan) -> None:
        """Note that a call starts."""

    @abstractmethod
    async def recover(self, plan: RoomsPlan, call: Call, error: BaseException, inner: Handler) -> object:
        """Return what becomes of a call that raised, or raise; count how it ended."""

    def reads_results(self, plan: RoomsPlan) -> bool:
        """Tell whether results are to be reviewed."""
        return False

    async def review(self, plan: RoomsPlan, call: Call, result: object, inner: Handler) -> object:
        """Return what becomes of a result, or raise; count how the call ended."""
        return result

    @property
    def is_common(self) -> bool:
        """Whether calls go the path of every pattern of this kind."""
        return type(self).layer is Recovering.layer

    def layer(self, inner: Handler, context: Context) -> Handler:
        """Call, and hand over what does not simply succeed: the one path through retry and fallback."""
        plan, counts = self.plan(context), self.counts
        reads = self.reads_results(plan)

        async def recovered(call: Call) -> object:
            self.begin(plan)
            call.started = error = None
            try:
                result = await inner(call)
            except BaseException as raised:
                error = raised
            if error is not None:
                try:
                    return await self.recover(plan, call, error, inner)
                finally:
                    error = None  # this frame is in its traceback, and must not keep it alive
            if reads:
                return await self.review(plan, call, result, inner)
            counts.done += 1
            return result

        return recovered


class Repeat(Recovering[ConfigT]):
    """A pattern that may call more than once."""


class Replace(Recovering[ConfigT]):
    """A pattern that may answer in the call's place."""
