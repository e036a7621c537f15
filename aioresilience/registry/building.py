"""From a specification to live patterns: built aside first, put in place by plain calls that cannot fail."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from aioresilience.clock import Clock
from aioresilience.config import PolicySpec
from aioresilience.events import EventType, ResilienceEvent
from aioresilience.pattern import AnyPattern, Context, PatternConfig
from aioresilience.policy import Policy, Snapshot, attempt_timeout
from aioresilience.rate_limiting import RateLimit

Shared = dict[tuple[str, str], AnyPattern]


@dataclass(frozen=True, slots=True)
class Heir:
    """A pattern in the place of another one, because `use` has changed; `fresh`: nobody has used it yet."""

    pattern: AnyPattern
    before: AnyPattern
    fresh: bool

    def take_over(self) -> None:
        """Start with what was spent before, where that means something, and say what becomes of the state."""
        kept = "nothing" if self.fresh else "what the shared one has"
        if self.fresh and isinstance(self.pattern, RateLimit) and isinstance(self.before, RateLimit):
            self.pattern.succeed(self.before)
            kept = "the spent share"
        if self.pattern.listening():
            facts = {"use": f"{_owner(self.before)} -> {_owner(self.pattern)}", "kept": kept}
            kind, name = self.pattern.pattern_type, self.pattern.name
            self.pattern.events.publish(ResilienceEvent(kind, EventType.STATE_RESTARTED, name, metadata=facts))


def _owner(pattern: AnyPattern) -> str:
    return str(pattern.policy or pattern.name)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """One policy as it will be: `put` is all that happens at the swap."""

    policy: Policy
    spec: PolicySpec
    patterns: tuple[AnyPattern, ...]
    retuned: tuple[tuple[AnyPattern, PatternConfig], ...]
    before: tuple[tuple[AnyPattern, PatternConfig], ...]
    snapshot: Snapshot
    heirs: tuple[Heir, ...] = ()

    def undo(self) -> None:
        """Put everything back as it was before `put`."""
        for pattern, config in self.before:
            if pattern.config != config:
                pattern.retune(config)
        self.policy.restore(self.snapshot)

    def put(self, generation: int) -> None:
        """Retune the kept patterns, then let the next call see the new list."""
        for pattern, config in self.retuned:
            if pattern.config != config:
                pattern.retune(config)
        for heir in self.heirs:
            heir.take_over()
        self.policy.set(self.patterns, context_of(self.spec), generation, self.spec.partition)


class Builder:
    """Makes pattern instances, the shared ones once."""

    def __init__(self, patterns: tuple[type[AnyPattern], ...], clock: Clock) -> None:
        self._kinds = {kind.key: kind for kind in patterns}
        self._clock = clock
        self._sharing = threading.Lock()
        self.shared: Shared = {}

    def policy(self, spec: PolicySpec, name: str, generation: int) -> Policy:
        """Build a policy of that name from nothing."""
        policy = Policy(name, clock=self._clock)
        self.rebuild(policy, None, spec).put(generation)
        return policy

    def rebuild(self, policy: Policy, old: PolicySpec | None, new: PolicySpec) -> Rebuilt:
        """Prepare the policy under `new`: what stays keeps its instance, the rest is built here and used later."""
        kept = {p.key: p for p in policy.patterns} if old is not None else {}
        patterns: list[AnyPattern] = []
        retuned: list[tuple[AnyPattern, PatternConfig]] = []
        heirs: list[Heir] = []
        for key, config in new.patterns:
            bare = without_mode(config)
            same = old is not None and old.shared.get(key) == new.shared.get(key)
            before = kept.get(key)
            pattern = before if same else None
            if pattern is None:
                fresh = (key, new.shared.get(key)) not in self.shared
                pattern = self._make(policy.name, key, bare, new.shared)
                heirs.extend([] if before is None else [Heir(pattern, before, fresh)])
            retuned.append((pattern, bare))
            patterns.append(pattern)
        configs = tuple((pattern, pattern.config) for pattern in patterns)
        return Rebuilt(policy, new, tuple(patterns), tuple(retuned), configs, policy.settled, tuple(heirs))

    def _make(self, policy: str, key: str, config: PatternConfig, shared: Mapping[str, str]) -> AnyPattern:
        if key not in shared:
            return self._kinds[key](name=policy, config=config, clock=self._clock)
        with self._sharing:
            return self._one_for_all(key, shared[key], config)

    def _one_for_all(self, key: str, name: str, config: PatternConfig) -> AnyPattern:
        pattern = self.shared.get((key, name))
        if pattern is None:
            pattern = self.shared[key, name] = self._kinds[key](name=name, config=config, clock=self._clock)
            pattern.policy = f"shared:{name}"
        return pattern

    def renew_lock(self) -> None:
        """Take a lock that nobody holds, in a forked child."""
        self._sharing = threading.Lock()


def without_mode(config: PatternConfig) -> PatternConfig:
    """Return the config as the instance gets it; the mode is the policy's own, since instances may be shared."""
    return config if config.mode is None else config.model_copy(update={"mode": None})


def context_of(spec: PolicySpec) -> Context:
    """Return what the policy's layers know of it."""
    modes = {key: config.mode for key, config in spec.patterns if config.mode is not None}
    timeout = attempt_timeout([config for _, config in spec.patterns])
    return Context(spec.name, spec.classify, spec.mode, timeout, spec.idempotent, modes)
