"""The one swap: changed policies are built aside, then put in place; an error puts everything back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from aioresilience.config import ConfigError, Document, PolicySpec, diagnose
from aioresilience.registry.building import Rebuilt
from aioresilience.registry.loading import pace

if TYPE_CHECKING:
    from aioresilience.registry.registry import Registry


def swap(registry: Registry, document: Document) -> None:
    """Put every policy in use under `document`, or none of them: ConfigError if a pattern raises.

    The registry's lock is held only for policies that were first used meanwhile.
    """
    breathe = pace()
    swapping = Swapping(registry, document, registry.ledger.generation + 1)
    known = dict(registry.specs)
    try:
        swapping.put(known, breathe)
        with registry.lock:
            swapping.put({name: registry.specs[name] for name in registry.specs.keys() - known.keys()}, lambda: None)
            swapping.finish()
    except Exception as error:
        swapping.undo()
        what = f"{type(error).__name__}: {error}"
        raise ConfigError([diagnose("AR321", None, f"a pattern refused its new config: {what}")]) from error


class Swapping:
    """The policies that are in place already, so that all of them can be put back."""

    def __init__(self, registry: Registry, document: Document, generation: int) -> None:
        self._registry = registry
        self._document = document
        self._generation = generation
        self._done: list[Rebuilt] = []

    def put(self, specs: Mapping[str, PolicySpec], breathe: Callable[[], None]) -> None:
        """Build all that changes, then put it in place."""
        built = list(self._build(specs, breathe))
        for one in built:
            breathe()
            self._done.append(one)
            one.put(self._generation)

    def _build(self, specs: Mapping[str, PolicySpec], breathe: Callable[[], None]) -> Iterable[Rebuilt]:
        registry = self._registry
        for name, old in specs.items():
            breathe()
            new = self._wanted(name, old)
            if new is not old and new != old:
                yield registry.builder.rebuild(registry.policies[name], old, new)

    def _wanted(self, name: str, old: PolicySpec) -> PolicySpec:
        """Return what a policy in use is to become; it goes on as it is where its name is gone."""
        new = self._document.policies.get(name)
        if new is not None:
            return new
        by_default = old.name == self._document.default.name and self._document.settings.on_unknown_policy == "default"
        return self._document.default if by_default else old

    def finish(self) -> None:
        """Make the document the one in effect; the caller holds the registry's lock."""
        registry = self._registry
        registry.ledger.accept(self._document, registry.clock.wall())
        for one in self._done:
            registry.specs[one.policy.name] = one.spec

    def undo(self) -> None:
        """Put back what was put in place, the last one first."""
        for one in reversed(self._done):
            one.undo()
