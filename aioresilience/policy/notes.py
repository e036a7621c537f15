"""What annotations promise: of which class the attributes of an object are."""

from __future__ import annotations

import functools
import inspect
import sys
from types import UnionType
from typing import Final, get_args, get_origin


@functools.cache
def declared(owner: type, name: str) -> type | None:
    """Return the class that an annotation promises for an attribute, None where it promises no single one."""
    for cls in owner.__mro__:
        if name in inspect.get_annotations(cls):
            return _class_of(_note(cls, name))
    return None


@functools.cache
def finals(owner: type) -> dict[str, type]:
    """Return the attributes that a class declares as Final with their classes: those that stay the same object."""
    final = {
        name: _class_of(_note(cls, name))
        for cls in owner.__mro__
        for name, note in inspect.get_annotations(cls).items()
        if _is_final(note)
    }
    return {name: kind for name, kind in final.items() if kind is not None}


def _is_final(note: object) -> bool:
    return note.startswith("Final[") if isinstance(note, str) else get_origin(note) is Final


def _note(cls: type, name: str) -> object:
    note = inspect.get_annotations(cls)[name]
    if not isinstance(note, str):
        return note
    try:
        return eval(note, vars(sys.modules[cls.__module__]))
    except Exception:  # a name that only type checkers import
        return None


def _class_of(note: object) -> type | None:
    if get_origin(note) is Final:
        (note,) = get_args(note)
    if isinstance(note, UnionType):
        kinds = [kind for kind in note.__args__ if kind is not type(None)]
        note = kinds[0] if len(kinds) == 1 else None
    return note if isinstance(note, type) else None
