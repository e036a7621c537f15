"""When a request reached the first of our proxies, as that says and as far as it is believed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from aioresilience.clock import SYSTEM_CLOCK, Clock
from aioresilience.integrations.addresses import TrustedProxies
from aioresilience.integrations.asgi.types import Scope

_TIME: Final = re.compile(r"(?:t=)?(\d{9,16}(?:\.\d{1,9})?)", re.ASCII)
_MILLISECONDS: Final = 1e11
"""From here on a number is no longer seconds since the epoch but milliseconds, and from 1e14 on microseconds."""
_MICROSECONDS: Final = 1e14
BELIEVED: Final = 3600.0
"""Seconds: a request older than this has not waited so long; somebody's clock is wrong."""


class RequestStart:
    """The arrival of a request, for `max_age` of load shedders: what a trusted proxy writes into `X-Request-Start`.

    Seconds since the epoch (nginx: `t=${msec}`), milliseconds (Heroku) or microseconds (Apache: `%t`), told apart by
    their size, with or without `t=`. Called with the scope it returns seconds of the monotonic clock; None where the
    header is missing, is no time, or comes from anybody else. The clocks of proxy and service must agree.
    """

    __slots__ = ("_clock", "_name", "_proxies")

    def __init__(
        self, trusted_proxies: Iterable[str], name: str = "X-Request-Start", *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._proxies = TrustedProxies(trusted_proxies)
        self._name = name.lower().encode("latin-1")
        self._clock = clock

    def __call__(self, scope: Scope) -> float | None:
        """Return when this request arrived."""
        said = [value for name, value in scope.get("headers", ()) if name == self._name]
        peer = scope.get("client")
        if not said or not self._proxies.trusts(peer[0] if peer else None):
            return None
        began = epoch_seconds(str(said[-1], "latin-1"))
        age = None if began is None else self._clock.wall() - began
        if age is None or age > BELIEVED:
            return None
        return self._clock.monotonic() - max(0.0, age)


def epoch_seconds(text: str) -> float | None:
    """Read a time since the epoch in any of the three units; None for what is no time."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        return None
    number = float(found[1])
    if number >= _MICROSECONDS:
        return number / 1e6
    return number / 1e3 if number >= _MILLISECONDS else number
