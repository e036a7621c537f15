"""What reading a document gives: plain frozen values, comparable, with the place of every leaf."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aioresilience.backends import BackendConfig
from aioresilience.config.diagnostics import Diagnostic
from aioresilience.config.document import About, Route, Settings
from aioresilience.config.places import Block, Path, Place
from aioresilience.config.tree import locate
from aioresilience.failures import Classifier, ExceptionName, Rule
from aioresilience.modes import Mode
from aioresilience.pattern import PatternConfig
from aioresilience.policy.partition import Partition

Rules = tuple[Rule, Rule, Rule]
"""What `classify` lists as failure, throttle and neutral."""


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """One policy as it takes effect; equal specs behave alike, whatever `about` and the places say."""

    name: str
    patterns: tuple[tuple[str, PatternConfig], ...] = ()
    """Key and config of each pattern, the outermost first."""
    mode: Mode = "enforce"
    rules: Rules = (Rule(), Rule(), Rule())
    idempotent: bool | None = None
    shared: Mapping[str, str] = field(default_factory=dict)
    """Pattern key to the name of the shared block that it uses."""
    partition: Partition | None = None
    about: About | None = field(default=None, compare=False)
    classify: Classifier = field(default_factory=Classifier, compare=False, repr=False)
    tree: Block = field(default_factory=Block, compare=False, repr=False)
    """The policy with all that it inherits; null where something inherited was removed. Empty in a registry."""

    def place(self, path: Path) -> Place:
        """Return where a value was said, such as `("retry", "max_attempts")`, with the chain of what it shadows."""
        return locate(self.tree, path)


@dataclass(frozen=True, slots=True)
class SharedSpec:
    """One instance that several policies use: one per shared block and pattern."""

    name: str
    key: str
    config: PatternConfig


@dataclass(frozen=True, slots=True)
class OverrideSpec:
    """One override; inactive once it has expired. `expires` is in seconds since the epoch."""

    policy: str
    expires: float
    reason: str
    by: str
    active: bool
    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class Document:
    """The validated content of all sources."""

    policies: Mapping[str, PolicySpec]
    default: PolicySpec
    """What the defaults alone give."""
    settings: Settings
    service: str | None
    metadata: Mapping[str, object]
    backends: Mapping[str, BackendConfig]
    routes: tuple[Route, ...]
    """Which policy the HTTP clients use; the first that fits counts."""
    shared: Mapping[tuple[str, str], SharedSpec]
    """By the shared block's name and the pattern's key."""
    overrides: tuple[OverrideSpec, ...]
    revision: str
    """Hash of what takes effect: the same after reformatting, and whatever comments and metadata say."""
    findings: tuple[Diagnostic, ...]
    files: tuple[tuple[str, str], ...]
    """Path and SHA-256 of every file that was read, packs aside."""
    ended: frozenset[str]
    """Paths of the files that carried `end: true`."""
    whole: bool
    """Whether every source carried `end: true`."""
    secrets: frozenset[str] = field(repr=False)
    """Strings that no text may show."""
    tree: Block = field(compare=False, repr=False)
    """All layers in one, before inheritance, as written but for `${…}`; empty in a registry."""
    layers: Block = field(default_factory=Block, compare=False, repr=False)
    """All layers in one as they were written: `${…}` not filled in, overrides not laid; empty in a registry."""
    exception_names: tuple[ExceptionName, ...] = field(default=(), compare=False, repr=False)
    """The exceptions that are looked up when an error is first matched."""

    later: Callable[[float], Document] | None = field(default=None, compare=False, repr=False)
    """Gives the document at another time, in seconds since the epoch; only where an override is active."""

    @property
    def pending(self) -> tuple[str, ...]:
        """The paths of those that are not found yet."""
        return tuple(name.path for name in self.exception_names if name.resolve() is None)
