"""How much a pattern acts: enforce, observe, off, or a gradual start."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal
from zlib import crc32

from pydantic import BaseModel, ConfigDict, Field

from aioresilience.calls import Caller
from aioresilience.fields import Fraction

SimpleMode = Literal["enforce", "observe", "off"]


class Gradual(BaseModel):
    """Enforce for a share of the calls, observe the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    enforce: Fraction = Field(description="Share of the calls, by the key's hash or else per call, that is enforced.")


Mode = SimpleMode | Gradual
"""`enforce`, `observe` (decide and report, never act), `off`, or a gradual start."""


_GOLDEN = 0.6180339887498949


def draw(key: str | None, turns: itertools.count[int]) -> float:
    """Return a number in [0, 1): the same for a key in every process, else evenly spread over the calls.

    Without a key it is the golden-ratio sequence, whose share below any x is within 1/n of x.
    """
    if key is not None:
        return crc32(str(key).encode("utf-8", "surrogatepass")) / 2**32
    return next(turns) * _GOLDEN % 1.0


def _always(caller: Caller) -> bool:
    return True


def _never(caller: Caller) -> bool:
    return False


def enforcer(mode: Mode) -> Callable[[Caller], bool]:
    """Return what tells, call by call, whether to enforce."""
    if not isinstance(mode, Gradual):
        return _always if mode == "enforce" else _never
    share, turns = mode.enforce, itertools.count(1)
    return lambda caller: draw(caller.key, turns) < share
