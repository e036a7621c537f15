"""Environment variables as a layer: `AIORESILIENCE_POLICIES__PAYMENTS__RETRY__MAX_ATTEMPTS=5`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aioresilience.config.diagnostics import Severity
from aioresilience.config.interpolate import Untyped
from aioresilience.config.places import Block, Node, Place
from aioresilience.config.reading import read_tree
from aioresilience.config.report import Report, either
from aioresilience.config.tree import from_plain, nest
from aioresilience.config.vocabulary import POLICY_MAPS

PREFIX: Final = "AIORESILIENCE_"
_NAMED: Final = (*POLICY_MAPS, "backends")
_PLAIN: Final = ("defaults", "settings")


class Variables:
    """Turns the variables that patch a document into blocks to lay over it."""

    __slots__ = ("_alone", "_environ", "_report", "_stale")

    def __init__(self, environ: Mapping[str, str], report: Report, *, alone: bool, stale: Severity) -> None:
        """Read `environ`; `alone` where no file names the policies, `stale` is how bad a variable that fits none is."""
        self._environ = environ
        self._report = report
        self._alone = alone
        self._stale = stale

    def patches(self, document: Block) -> list[Block]:
        """Return one block for each variable, in the order of their names."""
        found = (self._patch(name, document) for name in sorted(self._environ) if name.startswith(PREFIX))
        return [patch for patch in found if patch is not None]

    def _patch(self, variable: str, document: Block) -> Block | None:
        section, *steps = [step.lower() for step in variable.removeprefix(PREFIX).split("__")]
        if section not in (*_NAMED, *_PLAIN) or not steps:
            return None
        place = Place("environment", variable)
        value = self._value(variable, place)
        if section in _PLAIN:
            return nest((section, *steps), value, place)
        name = self._name(section, steps[0], document, place)
        return None if name is None else nest((section, name, *steps[1:]), value, place)

    def _name(self, section: str, spelled: str, document: Block, place: Place) -> str | None:
        known = document.get(section)
        names = [name for name in known if _spelled(name) == spelled] if isinstance(known, Block) else []
        if len(names) == 1:
            return names[0]
        if self._alone and not names:
            return spelled.replace("_", "-")
        kind = section if section != "policies" else "policy"
        message = f"it fits several: {either(names)}" if names else f"no {kind} of that name is in the document"
        self._report.add("AR315", place, message, hint="rename it or unset it", severity=self._stale)
        return None

    def _value(self, variable: str, place: Place) -> Node:
        text = self._environ[variable]
        if text == "null":
            return None
        if text[:1] not in ("{", "["):
            return Untyped(text)
        reading = read_tree(f"value: {text}", variable)
        if reading.root is None or reading.diagnostics:
            for one in reading.diagnostics:
                self._report.add(one.id, place, one.message, hint=one.hint)
            return Untyped(text)
        return from_plain(_bare(reading.root["value"]), place)


def _bare(node: Node) -> object:
    if isinstance(node, dict):
        return {key: _bare(value) for key, value in node.items()}
    return [_bare(value) for value in node] if isinstance(node, list) else node


def _spelled(name: str) -> str:
    return name.replace("-", "_").replace(".", "_")
