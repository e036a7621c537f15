"""The side of a backend that runs on the I/O thread: sends what is waiting, answers, has a server probed that is away.

Checks that come while every connection is busy wait and go together in one script call. Every check is answered within
the time budget: by the server, or with None once the server counts as away.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Final

from aioresilience.backends.checks import Bundle, Charge, Check, Row, rows, whole
from aioresilience.backends.client import BackendError, Client, Node
from aioresilience.backends.config import BackendConfig
from aioresilience.backends.health import Health
from aioresilience.backends.presence import Presence
from aioresilience.backends.probing import found
from aioresilience.backends.scripts import Script

LARGEST_BATCH: Final = 500
"""Keys in one script call, during which the server does nothing else."""
LATE: Final = 0.05
GRACE: Final = 0.02
"""Seconds: when a timer rings later than LATE, this process stood still, and answers may lie unread."""
TURN: Final = 0.002
TURNS: Final = 5
"""Seconds and number of the turns by which this thread tells whether it is late itself."""
Group = tuple[Script, int]


class Courier:
    """Belongs to one I/O loop; everything but the constructor runs on it."""

    def __init__(
        self,
        config: BackendConfig,
        member: str,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[str | None], None],
    ) -> None:
        self.config = config
        self.health = Health(config.slow)
        self.trips = self.checks = self.batches = 0
        self.presence = Presence(config, member)
        self._loop = loop
        self._changed = changed
        self._client: Client | None = None
        self._nodes: list[Node] = []
        self._suspect: bytes | None = None
        self._queues: dict[Group, deque[Check]] = {}
        self._bundles: set[Bundle] = set()
        self._sending: set[asyncio.Task[None]] = set()
        self._others: set[asyncio.Task[None]] = set()
        self._active = self._doubting = False
        self._beat: asyncio.TimerHandle | None = None
        self._probing: asyncio.Task[None] | None = None

    def receive(self, bundle: Bundle) -> None:
        """Take a bundle, which is answered within the budget."""
        if self.health.reason is not None:
            self._give_up(bundle)
            return
        try:
            client = self._connected()
        except (OSError, ValueError) as error:  # a secret file that is not there, or holds no url
            self.trip("settings" if isinstance(error, ValueError) else "secret")
            self._give_up(bundle)
            return
        self._bundles.add(bundle)
        bundle.timer = self._loop.call_later(self.config.timeout, self._overdue, bundle, True)
        for check in bundle.checks:
            check.slot = client.slot(check.place.key)
            self._queues.setdefault((check.place.script, check.slot), deque()).append(check)
        self._active = True
        if self._beat is None:
            self._heartbeat()
        self._pump()

    def _connected(self) -> Client:
        if self._client is None:
            self._client = Client(self.config, self._nodes)
        return self._client

    def _pump(self) -> None:
        while self._queues and len(self._sending) < self.config.max_connections:
            group, queue = next(iter(self._queues.items()))
            batch = [queue.popleft() for _ in range(min(len(queue), LARGEST_BATCH))]
            if queue:
                self._queues[group] = self._queues.pop(group)  # the others come first
            else:
                del self._queues[group]
            task = self._loop.create_task(self._send(group[0], batch))
            self._sending.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled():
            task.result()
        self._pump()

    async def _send(self, script: Script, batch: Sequence[Check]) -> None:
        client, begun = self._connected(), self._loop.time()
        try:
            keys, numbers = [check.place.key for check in batch], [check.numbers() for check in batch]
            answer = await client.run(script, keys, numbers)
        except BackendError as error:
            if client is self._client:
                self.trip(error.reason, keys[0])
            return
        self.batches += 1
        self.checks += sum(len(check.futures) for check in batch)
        self._answer(batch, list(rows(answer)))
        now = self._loop.time()
        if self.health.answered(now, now - begun) and not self._doubting:
            self._doubting = True
            self._later(self._judge_slowness())

    async def _judge_slowness(self) -> None:
        """Count the server as away, unless it is this thread that is late: then its answers were, too."""
        late = []
        for _ in range(TURNS):
            begun = self._loop.time()
            await asyncio.sleep(TURN)
            late.append(self._loop.time() - begun - TURN)
        self._doubting = False
        if statistics.median(late) < self.config.slow / 2:
            self.trip("slow")
        else:
            self.health.forget()

    def _answer(self, batch: Sequence[Check], answers: Sequence[Row]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Check, Row]]] = {}
        for check, row in zip(batch, answers, strict=True):
            bundle = check.bundle
            assert bundle is not None
            check.bundle = None
            bundle.left -= 1
            if not bundle.left:
                self._done(bundle)
            if bundle.loop is not None:
                by_loop.setdefault(bundle.loop, []).append((check, row))
        for loop, answered in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._tell, answered)
            except RuntimeError:  # closed; what it was granted goes back
                self._return([(check, *whole(row)) for check, row in answered])

    def _tell(self, answered: Iterable[tuple[Check, Row]]) -> None:
        """Answer the checks on their own loop."""
        spare = [(check, *check.answer(row)) for check, row in answered]
        if any(count for _, count, _ in spare):
            with contextlib.suppress(RuntimeError):  # closed meanwhile; what is spare refills as what is spent
                self._loop.call_soon_threadsafe(self._return, spare)

    def _return(self, spare: Iterable[tuple[Check, int, Charge]]) -> None:
        checks = [Check(check.place, back=count, charge=charge) for check, count, charge in spare if count]
        if checks:
            self.receive(Bundle(None, checks))

    def _done(self, bundle: Bundle) -> None:
        self._bundles.discard(bundle)
        if bundle.timer is not None:
            bundle.timer.cancel()

    def _give_up(self, bundle: Bundle) -> None:
        self._done(bundle)
        if bundle.loop is not None:
            try:
                bundle.loop.call_soon_threadsafe(_all_unanswered, bundle.checks)
            except RuntimeError:  # closed: nobody waits
                return

    def _overdue(self, bundle: Bundle, first: bool) -> None:
        assert bundle.timer is not None
        if first and self._loop.time() - bundle.timer.when() > LATE:
            bundle.timer = self._loop.call_later(GRACE, self._overdue, bundle, False)
        else:
            waits = next(check for check in bundle.checks if check.bundle is not None)
            self.trip("timeout", waits.place.key)

    def trip(self, reason: str, key: bytes | None = None) -> None:
        """Count the server as away: everybody who waits is answered at once, and probing begins.

        `key` is one that was not answered: of a cluster, its node is probed.
        """
        if self.health.reason is not None:
            return
        self._suspect = key if self.config.cluster else None
        self.trips += 1
        self.health.failed(self._loop.time(), reason)
        self._changed(reason)
        self._abandon()
        self._probing = self._loop.create_task(self._probe())

    def _abandon(self) -> None:
        self._queues.clear()
        for bundle in list(self._bundles):
            self._give_up(bundle)
        for task in self._sending:
            task.cancel()
        client, self._client = self._client, None
        if client is not None:
            self._nodes = client.nodes() or self._nodes
            self._later(client.close())

    def _later(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)

    async def _probe(self) -> None:
        """Try again, ever less often, until the server answers quickly and takes writes."""
        while True:
            await asyncio.sleep(self.health.pause())
            client = await found(self.config, self._nodes, self.presence, self._suspect)
            if client is not None:
                break
        self._client = client
        self.health.recovered(self._loop.time())
        self._changed(None)

    def _heartbeat(self) -> None:
        """Go on telling the fleet while there is something to ask; a process at rest is not counted."""
        self._beat = None
        if self._active:
            self._active = False
            self._beat = self._loop.call_later(self.presence.interval(), self._heartbeat)
            if self._client is not None and self.config.fleet_size is None:
                self._later(self._beat_once(self._client))

    async def _beat_once(self, client: Client) -> None:
        try:
            async with asyncio.timeout(self.config.timeout):
                await self.presence.say(client)
        except TimeoutError:
            return  # whether the server is away, the checks tell
        except BackendError as error:
            if client is self._client and error.reason != "timeout":
                self.trip(error.reason)

    async def drain(self) -> None:
        """Wait until everything that was taken is answered, then close the connections."""
        while self._sending or self._queues:
            await asyncio.wait(self._sending)
        if self._beat is not None:
            self._beat.cancel()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        if self._others:
            await asyncio.wait(self._others)


def _all_unanswered(checks: Iterable[Check]) -> None:
    for check in checks:
        check.unanswered()
