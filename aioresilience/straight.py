"""The mark of a straight section: a method that no other thread of an interpreter with a GIL can interrupt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

STRAIGHT: Final[list[Callable[..., Any]]] = []
"""Every marked function; a test disassembles them."""


def straight(method: F) -> F:
    """Mark a method that reads and changes its object in one straight line of bytecode.

    It has no loop, makes no call and builds nothing that the garbage collector tracks, save as its last act on a path
    that has changed nothing: CPython switches threads at calls and backward jumps only, which a test tries on the one
    that runs, so the method needs no lock.
    Being that plain, it may also be written out where it is called.
    """
    STRAIGHT.append(method)
    return method
