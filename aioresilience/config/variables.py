"""Environment variables as a layer: `AIORESILIENCE_POLICIES__PAYMENTS__RETRY__MAX_ATTEMPTS=5`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from aioresilience.config.diagnostics import Severity, suggest
from aioresilience.config.interpolate import Untyped
from aioresilience.config.places import Block, Node, Place
from aioresilience.config.process import PREFIX, ProcessSettings
from aioresilience.config.reading import read_tree
from aioresilience.config.report import Report, either
from aioresilience.config.tree import from_plain, nest
from aioresilience.config.vocabulary import POLICY_MAPS

INCLUDE: Final = "include"
_NAMED: Final = (*POLICY_MAPS, "backends")
_PLAIN: Final = ("defaults", "settings")
_KNOWN: Final = (*_NAMED, *_PLAIN, INCLUDE, *ProcessSettings.model_fields)


class Variables:
    """Turns the variables that patch a document into blocks to lay over it; an empty variable counts as unset."""

    __slots__ = ("_alone", "_environ", "_report", "_stale")

    def __init__(self, environ: Mapping[str, str], report: Report, *, alone: bool, stale: Severity) -> None:
        """Read `environ`; `alone` where no file names the policies, `stale` is how bad a variable that fits none is."""
        self._environ = {name: text for name, text in environ.items() if name.startswith(PREFIX) and text}
        self._report = report
        self._alone = alone
        self._stale = stale

    def includes(self) -> Block | None:
        """Return a document that includes what AIORESILIENCE_INCLUDE lists, where no file does."""
        variable = PREFIX + INCLUDE.upper()
        if not self._alone or variable not in self._environ:
            return None
        place = Place("environment", variable)
        value = self._value(variable, place)
        entries = [one.strip() for one in value.split(",")] if isinstance(value, str) else value
        document = nest((INCLUDE,), from_plain(entries, place) if isinstance(entries, list) else entries, place)
        document.put("version", 1, (place, place))
        return document

    def patches(self, document: Block) -> list[Block]:
        """Return the blocks for each variable, in the order of their names."""
        return [patch for name in sorted(self._environ) for patch in self._patches(name, document)]

    def _patches(self, variable: str, document: Block) -> Iterator[Block]:
        section, *steps = [step.lower() for step in variable.removeprefix(PREFIX).split("__")]
        place = Place("environment", variable)
        if section in ProcessSettings.model_fields and not steps:
            return
        if section == INCLUDE and not steps:
            if not self._alone:
                self._unfit("AR315", place, "it counts only where no file names the policies", "include it in the file")
        elif section in _PLAIN and steps:
            yield nest((section, *steps), self._value(variable, place), place)
        elif section in _NAMED and steps:
            name = self._name(section, steps[0], document, place)
            if name is not None:
                yield nest((section, name, *steps[1:]), self._value(variable, place), place)
        elif section in (*_PLAIN, *_NAMED):
            yield from self._whole(section, variable, document, place)
        else:
            near = suggest(section, _KNOWN)
            hint = f"did you mean {PREFIX}{near.upper()}?" if near else "unset it"
            self._unfit("AR324", place, "no variable of this name means anything", hint)

    def _whole(self, section: str, variable: str, document: Block, place: Place) -> Iterator[Block]:
        """Yield what a variable says about a whole section, such as `AIORESILIENCE_DEFAULTS={deadline: 5s}`."""
        value = self._value(variable, place)
        if isinstance(value, Block) and section in _NAMED and not self._alone:
            known = document.get(section)
            for name in [name for name in value if not (isinstance(known, Block) and name in known)]:
                self._unfit("AR315", place, f"no {_kind(section)} '{name}' is in the document", "rename it or unset it")
                del value[name], value.places[name]
        yield nest((section,), value, place)

    def _name(self, section: str, spelled: str, document: Block, place: Place) -> str | None:
        known = document.get(section)
        names = [name for name in known if _spelled(name) == spelled] if isinstance(known, Block) else []
        if len(names) == 1:
            return names[0]
        if self._alone and not names:
            return spelled.replace("_", "-")
        message = f"no {_kind(section)} of that name is in the document"
        if names:
            message = f"it fits several: {either(names)}"
        near = suggest(spelled, [_spelled(name) for name in known]) if isinstance(known, Block) and not names else None
        hint = f"did you mean {PREFIX}{section.upper()}__{near.upper()}?" if near else "rename it or unset it"
        self._unfit("AR315", place, message, hint)
        return None

    def _unfit(self, code: str, place: Place, message: str, hint: str) -> None:
        self._report.add(code, place, message, hint=hint, severity=self._stale)

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


def _kind(section: str) -> str:
    return {"policies": "policy", "shared": "shared block"}.get(section, section.removesuffix("s"))


def _bare(node: Node) -> object:
    if isinstance(node, dict):
        return {key: _bare(value) for key, value in node.items()}
    return [_bare(value) for value in node] if isinstance(node, list) else node


def _spelled(name: str) -> str:
    return name.replace("-", "_").replace(".", "_")
