"""The one swap: changed policies are built aside, then put in place; an error puts everything back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aioresilience.config import ConfigError, Document, PolicySpec, diagnose
from aioresilience.logging import describe
from aioresilience.registry.building import Rebuilt, Respecified
from aioresilience.registry.loading import pace

if TYPE_CHECKING:
    from aioresilience.registry.registry import Registry

Prepared = Rebuilt | Respecified


def swap(registry: Registry, document: Document) -> None:
    """Put every policy in use under `document`, or none of them: ConfigError if a pattern raises.

    The registry's lock is held only for policies that were first used meanwhile.
    """
    breathe = pace()
    known = dict(registry.specs)
    before = registry.builder.expect(document.backends)
    swapping = Swapping(registry, document, registry.ledger.generation + 1)
    try:
        built = list(swapping.build(known, breathe))
        swapping.run(built, known, breathe)
    except Exception as error:
        with registry.lock:
            used = {pattern for policy in registry.policies.values() for pattern in policy.settled.made}
            registry.builder.forget(before, registry.ledger.document.backends, used)
        what, path = describe(error), f"policies.{swapping.at}"
        raise ConfigError([diagnose("AR321", None, f"a pattern refused its new config: {what}", path=path)]) from error


class Swapping:
    """The policies that are in place already, so that all of them can be put back."""

    def __init__(self, registry: Registry, document: Document, generation: int) -> None:
        self._registry = registry
        self._document = document
        self._generation = generation
        self._done: list[Prepared] = []
        self.at = ""
        """The policy that is built or put in place just now."""

    def run(self, built: Sequence[Prepared], known: Mapping[str, PolicySpec], breathe: Callable[[], None]) -> None:
        """Put in place what was built and what was first used meanwhile, or nothing; no fork comes in between."""
        with self._registry.swapping, self._ahead(built):
            try:
                self._put(built, breathe)
                self._complete(known)
            except BaseException:
                for one in reversed(self._done):
                    one.undo()
                raise

    @contextmanager
    def _ahead(self, built: Iterable[Prepared]) -> Iterator[None]:
        """Keep what is first used meanwhile, under the document before, from tuning back what it shares."""
        builder, lock = self._registry.builder, self._registry.lock
        ahead = frozenset(pattern for one in built if isinstance(one, Rebuilt) for pattern in one.patterns)
        with lock:
            builder.ahead = ahead
        try:
            yield
        finally:
            builder.ahead = ()

    def _put(self, built: Iterable[Prepared], breathe: Callable[[], None]) -> None:
        for one in built:
            breathe()
            self._done.append(one)
            self.at = one.policy.name
            one.put(self._generation)

    def _complete(self, known: Mapping[str, PolicySpec]) -> None:
        """Put in place the policies that were first used meanwhile, and make the document the one in effect."""
        specs = self._registry.specs
        with self._registry.lock:
            late = {name: specs[name] for name in specs.keys() - known.keys()}
            self._put(list(self.build(late, lambda: None)), lambda: None)
            self._finish()

    def build(self, specs: Mapping[str, PolicySpec], breathe: Callable[[], None]) -> Iterable[Prepared]:
        """Build aside what changes; what is gone goes on as it is, made before the document that knew it is."""
        builder, policies = self._registry.builder, self._registry.policies
        for name, old in specs.items():
            breathe()
            new = self._wanted(name, old)
            if new is None and not builder.can_wait(old):
                builder.present(policies[name])
            elif new is not None and new is not old and new != old:
                self.at = name
                yield builder.prepare(policies[name], old, new)

    def _wanted(self, name: str, old: PolicySpec) -> PolicySpec | None:
        """Return what a policy in use is to become, None where its name is gone."""
        new = self._document.policies.get(name)
        if new is not None:
            return new
        by_default = old.name == self._document.default.name and self._document.settings.on_unknown_policy == "default"
        return self._document.default if by_default else None

    def _finish(self) -> None:
        registry = self._registry
        registry.ledger.accept(self._document, registry.clock.wall())
        registry.builder.backends.follow(self._document.backends)
        for one in self._done:
            registry.specs[one.policy.name] = one.spec
