"""Optional libraries: whether one is installed here, and which extra brings it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from typing import Final

LIBRARIES: Final[Mapping[str, str]] = {"redis": "redis", "system": "psutil"}
"""What each extra that patterns need installs."""


def is_installed(package: str) -> bool:
    """Tell whether a package can be imported; imports nothing. One put into sys.modules by hand counts."""
    if sys.modules.get(package) is not None:
        return True
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # no name of a package
        return False


def needs(what: str, extra: str) -> str:
    """Say that something needs the library of an extra."""
    return f"{what} needs {LIBRARIES[extra]}, which is not installed here"


def install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'aioresilience[{extra}]'"
