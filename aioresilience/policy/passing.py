"""How a frame takes the arguments of a call and hands them on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Final


@dataclass(frozen=True, slots=True)
class Passing:
    """Four pieces of text: parameters, the same handed on, and both as a tuple and a mapping to be kept."""

    parameters: str
    handed: str
    args: str
    kwargs: str
    names: frozenset[str] = frozenset()


ANYHOW: Final = Passing("*args, **kwargs", "*args, **kwargs", "args", "kwargs")


def passing_of(func: Callable[..., object]) -> Passing:
    """Take just the parameters that a plain async function has: packing and unpacking any others costs 50 ns a call."""
    if type(func) is not FunctionType:
        return ANYHOW
    code = func.__code__
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        return ANYHOW
    by_place = list(code.co_varnames[: code.co_argcount])
    by_name = list(code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount])
    only = code.co_posonlyargcount
    parameters = [*by_place[:only], *(["/"] if only else []), *by_place[only:], *(["*", *by_name] if by_name else [])]
    return Passing(
        ", ".join(parameters),
        ", ".join([*by_place, *(f"{name}={name}" for name in by_name)]),
        f"({''.join(f'{name}, ' for name in by_place)})",
        f"{{{', '.join(f'{name!r}: {name}' for name in by_name)}}}",
        frozenset(by_place + by_name),
    )
