"""From a specification to live patterns: built aside first, put in place by plain calls that cannot fail."""

from __future__ import annotations

import threading
from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass

from aioresilience.backends import BackendConfig
from aioresilience.clock import Clock
from aioresilience.config import PolicySpec
from aioresilience.events import EventType, ResilienceEvent
from aioresilience.pattern import NO_MODES, AnyPattern, Context, PatternConfig
from aioresilience.policy import BUILTIN, Policy, Snapshot, attempt_timeout
from aioresilience.rate_limiting import FleetRateLimit, RateLimit, RateLimiterConfig
from aioresilience.registry.backends import Backends

Shared = dict[tuple[str, str], AnyPattern]


@dataclass(frozen=True, slots=True)
class Heir:
    """A pattern in the place of another one, because `use` or `backend` changed; `fresh`: nobody has used it yet."""

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
            kind, name, facts = self.pattern.pattern_type, self.pattern.name, self._what() | {"kept": kept}
            self.pattern.events.publish(ResilienceEvent(kind, EventType.STATE_RESTARTED, name, metadata=facts))

    def _what(self) -> dict[str, str]:
        old, new = (str(pattern.policy or pattern.name) for pattern in (self.before, self.pattern))
        if old != new:
            return {"use": f"{old} -> {new}"}
        old, new = (str(getattr(pattern.config, "backend", None)) for pattern in (self.before, self.pattern))
        return {"backend": f"{old} -> {new}"}


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
    newcomers: tuple[tuple[AnyPattern, AnyPattern | None], ...] = ()

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
        for pattern, before in self.newcomers:
            pattern.brought_in(before)
        self.policy.set(self.patterns, context_of(self.spec), generation, self.spec.partition)


class Unused:
    """The patterns of a policy that nobody has used yet; `spec` is what the document in effect says of it.

    `made` are the instances from the first use on, which may be under a snapshot that a reload has just replaced.
    """

    __slots__ = ("_builder", "_name", "made", "spec")

    def __init__(self, builder: Builder, name: str, spec: PolicySpec) -> None:
        self._builder = builder
        self._name = name
        self.spec = spec
        self.made: tuple[AnyPattern, ...] | None = None

    @property
    def lock(self) -> threading.RLock:
        """The lock of the registry."""
        return self._builder.lock

    def make(self) -> tuple[AnyPattern, ...]:
        """Make the instances, once; the caller holds the lock."""
        if self.made is None:
            self.made = self._builder.patterns(self._name, self.spec)
        return self.made


@dataclass(frozen=True, slots=True)
class Respecified:
    """One policy that nobody has used, as it will be: it goes on without patterns, unless it is used meanwhile."""

    builder: Builder
    policy: Policy
    unused: Unused
    old: PolicySpec
    spec: PolicySpec
    snapshot: Snapshot

    def undo(self) -> None:
        """Put everything back as it was before `put`; patterns that are in use by now keep their state."""
        self._become(self.old, self.spec, self.snapshot)

    def put(self, generation: int) -> None:
        """Let the first use find the new spec."""
        snapshot = Snapshot(self.unused, context_of(self.spec), self.policy.clock, generation)
        self._become(self.spec, self.old, snapshot)

    def _become(self, spec: PolicySpec, before: PolicySpec, snapshot: Snapshot) -> None:
        with self.unused.lock:
            if self.unused.made is None:
                self.unused.spec = spec
                self.policy.restore(snapshot)
                return
        self.builder.rebuild(self.policy, before, spec).put(snapshot.generation)


class Builder:
    """Makes pattern instances, the shared ones once.

    `lock` is the registry's: what is made at a first use and what a refused document takes back wait for each other.
    """

    def __init__(self, patterns: tuple[type[AnyPattern], ...], clock: Clock, lock: threading.RLock) -> None:
        self._kinds = {kind.key: kind for kind in patterns}
        self._clock = clock
        self.lock = lock
        self.shared: Shared = {}
        self.ahead: Collection[AnyPattern] = ()
        """What a swap under way puts under its document, and no first use under the one before puts back."""
        self.backends = Backends()

    def policy(self, spec: PolicySpec, name: str, generation: int) -> Policy:
        """Build a policy of that name; its patterns are made at its first use."""
        for _, config in spec.patterns:
            if isinstance(config, RateLimiterConfig) and config.backend is not None:
                self.backends.get(config.backend)  # which a later document may not know any more
        policy = Policy(name, clock=self._clock)
        unused = Unused(self, name, spec)
        policy.put(Snapshot(unused, context_of(spec), self._clock, generation), spec.partition)
        return policy

    def patterns(self, name: str, spec: PolicySpec) -> tuple[AnyPattern, ...]:
        """Make the patterns of a policy that has none; a shared one is retuned to what the document now says of it."""
        made = [(self._make(name, key, bare, spec.shared), bare) for key, bare in bare_configs(spec)]
        for pattern, bare in made:
            if pattern.config != bare and pattern not in self.ahead:
                pattern.retune(bare)
            if pattern.policy is None:
                pattern.policy = name
        return tuple(pattern for pattern, _ in made)

    def prepare(self, policy: Policy, old: PolicySpec, new: PolicySpec) -> Rebuilt | Respecified:
        """Prepare the policy under `new`; one that nobody has used stays without patterns where it can."""
        unused = policy.settled.unmade
        if isinstance(unused, Unused) and self.can_wait(old) and self.can_wait(new):
            return Respecified(self, policy, unused, old, new, policy.settled)
        return self.rebuild(policy, old, new)

    def can_wait(self, spec: PolicySpec) -> bool:
        """Tell whether the patterns can be made at any time: they are nobody else's, and no reload would refuse them.

        A limit by key cannot, which remembers that a reload brought keys in.
        """
        if spec.shared or spec.partition is not None:
            return False
        limits = [config for _, config in spec.patterns if isinstance(config, RateLimiterConfig)]
        elsewhere = any(limit.backend is not None or limit.scope == "key" for limit in limits)
        return not elsewhere and all(self._kinds[key] in BUILTIN for key, _ in spec.patterns)

    @staticmethod
    def present(policy: Policy) -> tuple[AnyPattern, ...]:
        """Return the patterns of a policy, made now if nobody has used it; none where they cannot be made."""
        try:
            return policy.patterns
        except Exception:  # of somebody else's class, and the document to come may be the cure
            return ()

    def rebuild(self, policy: Policy, old: PolicySpec, new: PolicySpec) -> Rebuilt:
        """Prepare the policy under `new`: what stays keeps its instance, the rest is built here and used later."""
        kept = {pattern.key: pattern for pattern in self.present(policy)}
        patterns: list[AnyPattern] = []
        retuned: list[tuple[AnyPattern, PatternConfig]] = []
        heirs: list[Heir] = []
        newcomers: list[tuple[AnyPattern, AnyPattern | None]] = []
        for key, bare in bare_configs(new):
            same = old.shared.get(key) == new.shared.get(key)
            before = kept.get(key)
            pattern = before if same and before is not None and goes_on(before, bare) else None
            if pattern is None:
                fresh = (key, new.shared.get(key)) not in self.shared
                pattern = self._make(policy.name, key, bare, new.shared)
                heirs.extend([] if before is None else [Heir(pattern, before, fresh)])
                newcomers.append((pattern, before))
            retuned.append((pattern, bare))
            patterns.append(pattern)
        configs = tuple((pattern, pattern.config) for pattern in patterns)
        return Rebuilt(
            policy, new, tuple(patterns), tuple(retuned), configs, policy.settled, tuple(heirs), tuple(newcomers)
        )

    def _make(self, policy: str, key: str, config: PatternConfig, shared: Mapping[str, str]) -> AnyPattern:
        if key not in shared:
            return self._new(key, policy, config)
        with self.lock:
            return self._one_for_all(key, shared[key], config)

    def _one_for_all(self, key: str, name: str, config: PatternConfig) -> AnyPattern:
        before = self.shared.get((key, name))
        if before is not None and (before in self.ahead or goes_on(before, config)):
            return before
        pattern = self.shared[key, name] = self._new(key, name, config, f"shared:{name}")
        pattern.policy = f"shared:{name}"
        inherit(pattern, before)
        return pattern

    def _new(self, key: str, name: str, config: PatternConfig, known_as: str | None = None) -> AnyPattern:
        kind = self._kinds[key]
        if kind is RateLimit and isinstance(config, RateLimiterConfig) and config.backend is not None:
            backend = self.backends.get(config.backend)
            return FleetRateLimit(name, config, backend=backend, clock=self._clock, known_as=known_as)
        return kind(name=name, config=config, clock=self._clock)

    def expect(self, backends: Mapping[str, BackendConfig]) -> Shared:
        """Get ready to build for another document; return what `forget` needs should it be refused."""
        self.backends.expect(backends)
        with self.lock:
            return dict(self.shared)

    def forget(self, before: Shared, backends: Mapping[str, BackendConfig], used: Container[AnyPattern]) -> None:
        """Be as before a document that was refused; shared instances that were first used meanwhile stay.

        The caller holds the lock.
        """
        self.backends.follow(backends)
        self.shared = {place: one for place, one in self.shared.items() if one in used} | before


def goes_on(pattern: AnyPattern, config: PatternConfig) -> bool:
    """Tell whether an instance can be retuned; one that counts elsewhere from now on is a new one."""
    return not isinstance(pattern, RateLimit) or not isinstance(config, RateLimiterConfig) or pattern.takes(config)


def inherit(pattern: AnyPattern, before: AnyPattern | None) -> None:
    """Charge a new limiter with what the one in its place had spent in this process."""
    if isinstance(pattern, RateLimit) and isinstance(before, RateLimit):
        pattern.succeed(before)


def bare_configs(spec: PolicySpec) -> Iterator[tuple[str, PatternConfig]]:
    """Return the configs as the instances get them; the mode is the policy's own, since instances may be shared."""
    for key, config in spec.patterns:
        yield key, config if config.mode is None else config.model_copy(update={"mode": None})


def context_of(spec: PolicySpec) -> Context:
    """Return what the policy's layers know of it."""
    modes = {key: config.mode for key, config in spec.patterns if config.mode is not None} or NO_MODES
    timeout = attempt_timeout([config for _, config in spec.patterns])
    return Context(spec.name, spec.classify, spec.mode, timeout, spec.idempotent, modes)
