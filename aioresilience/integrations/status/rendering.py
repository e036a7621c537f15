"""The page as HTML: one template, with everything escaped that the template does not say itself."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aioresilience.integrations.extras import extra
from aioresilience.integrations.status.view import Page

with extra("fastapi", "Jinja2"):
    import jinja2
    from markupsafe import Markup

_HERE: Final = Path(__file__).parent
_STEPS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def ago(seconds: float) -> str:
    """Say how long that is, in the one unit that matters."""
    for size, unit in _STEPS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def instant(at: float) -> str:
    """Write seconds since the epoch as RFC 3339 does."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def plainly(value: object) -> str:
    """Write a fact of a pattern."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) or "none" if isinstance(value, (list, tuple)) else str(value)


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    made.filters |= {"ago": ago, "instant": instant, "plainly": plainly}
    # Ours, and without anything of a user's: the only text that goes in as it is.
    made.globals |= {
        "style": Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        "script": Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        "process": f"{os.getpid()} on {socket.gethostname()}",
    }
    return made


class Renderer:
    """Renders the page that refreshes itself every `every` seconds."""

    def __init__(self, title: str, every: float) -> None:
        self._template = _environment().get_template("page.html")
        self._title = title
        self._every = every

    def html(self, page: Page, nonce: str) -> Iterator[str]:
        """Write the page, bit by bit; only style and script that bear the nonce may act."""
        every, whole = f"{self._every:g}", math.ceil(self._every)
        values = {"page": page, "title": self._title, "nonce": nonce, "now": time.time()}
        return self._template.generate(values, every=every, whole=whole)
