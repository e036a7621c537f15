"""The Lua scripts, each beside this module in a file of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ANSWERS: Final = 6
"""Values that a script of an algorithm answers for each key."""


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """A text for the server, and the hash by which the server knows it."""

    name: str
    text: str
    sha: str


def script(name: str) -> Script:
    """Read the script of that name."""
    text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text(encoding="utf-8")
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


GCRA: Final = script("gcra")
SLIDING_WINDOW: Final = script("sliding_window")
FLEET: Final = script("fleet")
ALGORITHMS: Final = {"gcra": GCRA, "sliding_window": SLIDING_WINDOW}
