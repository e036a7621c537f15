"""Optional libraries: one that is missing is an error that names what to install."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def extra(name: str, library: str | None = None) -> Iterator[None]:
    """Import inside the block what the extra of that name brings; `library` is said where it is called otherwise."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{library or name} is not installed: pip install 'aioresilience[{name}]'", name=error.name
        ) from error
