"""What people see: a live picture on a terminal, plain lines elsewhere, two tables at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aioresilience.cli.demo.promises import Promise
from aioresilience.cli.demo.service import PER_SECOND, Shop

STYLES: Final = {"act": "bold cyan", "ok": "green", "trouble": "yellow", "detail": "dim"}
MARKS: Final = {"act": "▶", "ok": "✓", "trouble": "!", "detail": " "}
TABLE_HEIGHT: Final = 9


class Screen:
    """Shows what is said, and the state of the shop; `refresh` is called several times a second."""

    def __init__(self, console: Console, shop: Shop) -> None:
        self._console = console
        self._shop = shop
        self._started = self._shown = time.monotonic()
        self._said: list[Text] = []
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._console.print(*self._said, sep="\n")

    def say(self, kind: str, text: str) -> None:
        """Show a line, or several."""
        clock = f"{time.monotonic() - self._started:5.1f} s"
        for number, line in enumerate(text.splitlines()):
            head = f"{clock} {MARKS[kind]} " if number == 0 and kind != "detail" else " " * 10
            shown = Text(head + line, STYLES[kind], no_wrap=True, overflow="ellipsis")
            self._said.append(shown)
            if self._live is None:
                self._console.print(shown.plain, markup=False, highlight=False, soft_wrap=True)

    def refresh(self) -> None:
        """Show the state of the shop: always on a terminal, once a second elsewhere."""
        now = time.monotonic()
        if self._live is not None:
            room = max(3, self._console.height - TABLE_HEIGHT)
            self._live.update(Group(policies(self._shop), *self._said[-room:]), refresh=True)
        elif now - self._shown >= 1.0:
            self._shown = now
            line = f"{now - self._started:5.1f} s   {one_line(self._shop)}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def one_line(shop: Shop) -> str:
    """Return the state of the shop in a line."""
    parts = []
    for name, tally in shop.tallies.items():
        ends = {"ok": tally.answered, "later": tally.stood_in, "rejected": tally.rejected, "cut": tally.cut}
        parts.append(f"{name}: " + ", ".join(f"{count} {word}" for word, count in ends.items() if count))
    return f"{' | '.join(parts)} | circuit {circuit_state(shop)}"


def circuit_state(shop: Shop) -> str:
    """Return the state of the payments' circuit as people write it."""
    circuit = shop.registry.get("payments").circuit_breaker
    return "absent" if circuit is None else circuit.state.name.lower().replace("_", "-")


def policies(shop: Shop) -> Table:
    """Return how the calls under each policy ended, and what the policy did about them."""
    title = f"How the calls ended (resilience.yaml, generation {shop.registry.generation})"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("policy", style="bold")
    for heading in ("calls", "answered", "replaced", "rejected", "cut", "failed"):
        table.add_column(heading, justify="right")
    table.add_column("what it did")
    for name in PER_SECOND:
        tally = shop.tallies[name]
        counts = (tally.calls, tally.answered, tally.stood_in, tally.rejected, tally.cut, tally.failed)
        table.add_row(name, *map(str, counts), _did(shop, name))
    return table


def _did(shop: Shop, name: str) -> RenderableType:
    policy, done = shop.registry.get(name), []
    if policy.circuit_breaker is not None:
        spared = sum(policy.circuit_breaker.counts.rejected.values())
        done.append(f"circuit {circuit_state(shop)}, {spared} attempts spared")
    if policy.retry is not None:
        done.append(f"{policy.retry.tally.retries} retries")
    if policy.rate_limiter is not None:
        done.append(f"{sum(policy.rate_limiter.counts.rejected.values())} over the rate")
    if policy.bulkhead is not None and policy.mode == "observe":
        done.append(f"observes: would reject {policy.bulkhead.counts.observed}")
    elif policy.bulkhead is not None and any(policy.bulkhead.counts.rejected.values()):
        done.append(f"{sum(policy.bulkhead.counts.rejected.values())} over the bulkhead")
    return Text(", ".join(done))


def verdict(promises: Sequence[Promise]) -> Table:
    """Return what was promised and what was seen."""
    table = Table(title="What was promised", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", justify="center")
    table.add_column("promise")
    table.add_column("what was seen")
    for promise in promises:
        mark = Text("kept", "green") if promise.held else Text("BROKEN", "bold red")
        table.add_row(mark, promise.claim, promise.seen)
    return table
