"""What one event loop asks a backend within one tick: it goes to the I/O thread as one bundle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aioresilience.backends.checks import Answer, Bundle, Check, Leased, Place


class Collector:
    """Belongs to one loop, which it does not hold; checks of one place are one check for as many permits."""

    __slots__ = ("_checks", "_send")

    def __init__(self, send: Callable[[Bundle], None]) -> None:
        self._send = send
        self._checks: dict[object, Check] = {}

    def ask(self, place: Place, ahead: int, parts: int, leased: Leased | None) -> asyncio.Future[Answer | None]:
        """Ask for a permit, and `ahead` more as a lease, at most one of `parts` equal parts of what remains."""
        checks = self._checks
        check = checks.get(place)
        if check is None:
            check = self._add(place, Check(place))
        if ahead:
            check.ahead, check.parts, check.leased = max(check.ahead, ahead), parts, leased
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        check.futures.append(future)
        return future

    def charge(self, place: Place, count: int) -> None:
        """Take permits for nobody, before what is asked of the place from here on in this tick."""
        check = Check(place, asked=count)
        self._add(check, check)

    def _add(self, key: object, check: Check) -> Check:
        if not self._checks:
            asyncio.get_running_loop().call_soon(self._flush)
        self._checks[key] = check
        return check

    def _flush(self) -> None:
        checks, self._checks = self._checks, {}
        self._send(Bundle(asyncio.get_running_loop(), list(checks.values())))
