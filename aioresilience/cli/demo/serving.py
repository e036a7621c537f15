"""The demo left running: the shop goes on, its file can be edited, and its status page shows what that does.

`python -m aioresilience.cli.demo.serving [PORT]`; needs the extra `fastapi` and uvicorn.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import Final

import uvicorn
from rich.console import Console

from aioresilience.cli.demo import run
from aioresilience.cli.demo.service import PER_SECOND, Shop
from aioresilience.integrations.status import status_app

HOST: Final = "127.0.0.1"
PORT: Final = 8765


async def serve(shop: Shop, console: Console, port: int = PORT) -> None:
    """Call the shop and serve its status page on loopback until interrupted."""
    app = status_app(shop.registry, public=True, title="the demo's shop")
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_level="error"))
    console.print(f"Status page: http://{HOST}:{port}/resilience", soft_wrap=True)
    console.print(f"Edit {shop.registry.source_names()[0]} and watch; Ctrl-C ends it.", soft_wrap=True)
    load = [asyncio.ensure_future(shop.open(name)) for name in PER_SECOND]
    try:
        async with shop.registry.watching():
            await server.serve()
    finally:
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
        await shop.close()


def main() -> int:
    """Run the demo, then serve on the port that the first argument names."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else PORT
    return run(afterwards=functools.partial(serve, port=port))


if __name__ == "__main__":
    raise SystemExit(main())
