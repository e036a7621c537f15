"""`aioresilience demo`: a shop under a YAML file, faults on purpose, a broken edit, a hot reload; checks itself."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from rich.console import Console

from aioresilience.cli.demo.promises import check, kept
from aioresilience.cli.demo.report import Screen, policies, verdict
from aioresilience.cli.demo.service import Shop
from aioresilience.cli.demo.story import Script, Story
from aioresilience.cli.demo.upstream import Upstream
from aioresilience.logging import disable_logging
from aioresilience.resources import resource

__all__ = ["Afterwards", "Script", "run"]

Afterwards = Callable[[Shop, Console], Awaitable[None]]

FRAME: Final = 0.15
WIDTH: Final = 110
"""Columns, at least, where the output is no terminal."""


def run(script: Script | None = None, afterwards: Afterwards | None = None) -> int:
    """Run the demo on a copy of its file; return 0 if every promise held, 1 otherwise, 130 when interrupted.

    `afterwards` gets the shop and the console once the story has been told.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(WIDTH, console.width))
    shipped, file = resource("demo", "resilience.yaml"), Path("resilience.yaml")
    with tempfile.TemporaryDirectory(prefix="aioresilience-demo-") as folder, contextlib.chdir(folder):
        shutil.copyfile(shipped, file)
        disable_logging()  # the screen says what the log would
        try:
            return asyncio.run(_run(file, shipped, script or Script(), console, afterwards))
        except KeyboardInterrupt:
            return 130


async def _run(file: Path, shipped: Path, script: Script, console: Console, afterwards: Afterwards | None) -> int:
    started = time.monotonic()
    async with Upstream() as upstream:
        shop = Shop(file, upstream)
        console.print(f"A shop of three functions, governed by {file}, a copy of {shipped}.", soft_wrap=True)
        console.print(f"What it depends on answers at {upstream.url}.", soft_wrap=True)
        with Screen(console, shop) as screen:
            story = Story(file, script, upstream, shop, screen.say)
            painting = asyncio.ensure_future(_paint(screen))
            try:
                await story.run()
            finally:
                painting.cancel()
                await asyncio.gather(painting, return_exceptions=True)
        promises = check(shop, story.record)
        console.print(policies(shop), "", verdict(promises))
        held = kept(promises)
        seconds = time.monotonic() - started
        console.print("All promises held" if held else "Not every promise held", f"in {seconds:.0f} s.")
        if afterwards is not None:
            await afterwards(shop, console)
    return 0 if held else 1


async def _paint(screen: Screen) -> None:
    while True:
        screen.refresh()
        await asyncio.sleep(FRAME)
