"""Applying a document: one at a time, all or nothing, one swap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final, TypeVar

from aioresilience.collector import collector_paused
from aioresilience.config import AnySource, ConfigError, Document, PolicySpec
from aioresilience.exceptions import RevisionConflictError
from aioresilience.logging import describe
from aioresilience.rate_limiting import RateLimiterConfig
from aioresilience.registry import reporting
from aioresilience.registry.diff import differences
from aioresilience.registry.fingerprint import Fingerprint
from aioresilience.registry.guards import check_against, objections
from aioresilience.registry.loading import pace
from aioresilience.registry.outlook import with_live_state
from aioresilience.registry.results import Change, Outcome, Plan, ReloadResult
from aioresilience.registry.sources import touch
from aioresilience.registry.swap import swap
from aioresilience.registry.turn import HeldError, Turn

if TYPE_CHECKING:
    from aioresilience.registry.registry import Registry


T = TypeVar("T")
Load = Callable[[], Document]
"""Gives what was read, once, or raises what was wrong with it."""
TRIES: Final = 3
"""How often a document is read before the turn, when others come first."""


class Transaction:
    """Serialises what changes a registry; nothing that runs is touched before the swap."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._turn = Turn()
        self._reading = Turn()
        """Whose turn it is to read the registry's own sources: it is taken before the other, and by nobody else."""

    def begun(self) -> dict[str, object] | None:
        """Return what is under way: who began it, and how many seconds ago."""
        return self._turn.status() or self._reading.status()

    def reload(self, trigger: str, expected_revision: str | None) -> ReloadResult:
        """Apply the registry's own sources; a pinned document gives way only to changed files or an explicit call."""
        return self._told_of_turn(
            trigger, lambda: self._own_first(trigger, lambda load: self._reload(load, trigger, expected_revision))
        )

    def _own_first(self, trigger: str, work: Callable[[Load], T]) -> T:
        """Read the registry's own sources, then work in the turn; who waits too long for another read is told so.

        Who has the turn already does not wait for those who wait for it.
        """
        with nullcontext() if self._turn.is_mine() else self._reading.taken(trigger):
            self._touch_own(trigger)
            return self._read_first(self._read_own, trigger, work)

    def _touch_own(self, trigger: str) -> None:
        if trigger != "file":  # the watcher has done so
            touch(self._registry.loader.looked)

    def _told_of_turn(self, trigger: str, work: Callable[[], ReloadResult]) -> ReloadResult:
        """Do the work; who never gets the turn is told so by the result."""
        try:
            return work()
        except HeldError as error:
            return self._reject(error, trigger)

    @contextmanager
    def _taken(self, trigger: str) -> Iterator[None]:
        with self._turn.taken(trigger), collector_paused():
            yield

    def _in_turn(self, trigger: str, work: Callable[[], ReloadResult]) -> ReloadResult:
        def taken() -> ReloadResult:
            with self._taken(trigger):
                return work()

        return self._told_of_turn(trigger, taken)

    def _read_first(self, read: Callable[[], Load], trigger: str, work: Callable[[Load], T]) -> T:
        """Read, includes too, and take the turn only then to work with it: a read that hangs holds up nobody else.

        Where another came first meanwhile it is read anew; who is too late again and again reads in the turn.
        """
        for _ in range(TRIES):
            before, load = self._present(), read()
            with self._taken(trigger):
                if self._present() == before:
                    return work(load)
        with self._taken(trigger):
            return work(read())

    def _present(self) -> tuple[object, ...]:
        """Return what changes whenever anybody has had the turn."""
        registry = self._registry
        return registry.ledger.document.revision, sum(registry.ledger.reloads.values()), registry.loader.patches

    def _read_own(self) -> Load:
        looked: dict[str, Fingerprint] = {}
        loader, known = self._registry.loader, self._registry.ledger.document.policies
        given = attempt(lambda: loader.own(known, looked))

        def load() -> Document:
            loader.looked = looked
            return given()

        return load

    def _reload(self, load: Load, trigger: str, expected_revision: str | None) -> ReloadResult:
        self._expect(expected_revision)
        try:
            return self._accept_own(load(), trigger)
        except ConfigError as error:
            return self._reject_own(error, trigger)
        except Exception as error:  # no wrong document, but a fault, ours or that of a pattern or a callable
            self._registry.ledger.fail(describe(error))
            raise

    def apply(self, sources: Sequence[AnySource], expected_revision: str | None) -> ReloadResult:
        """Apply a document from elsewhere and pin it."""
        return self._told_of_turn(
            "apply",
            lambda: self._read_first(
                lambda: attempt(lambda: self._load(sources)),
                "apply",
                lambda load: self._apply(sources, load, expected_revision),
            ),
        )

    def _apply(self, sources: Sequence[AnySource], load: Load, expected_revision: str | None) -> ReloadResult:
        self._expect(expected_revision)
        result = self._accept(load, "apply", guarded=True)
        if result.outcome == "applied":
            ledger = self._registry.ledger
            ledger.pinned, ledger.sources, ledger.on_fallback = True, tuple(sources), False
        return result

    def patch(self, change: Callable[[], None], *, lays: bool) -> ReloadResult:
        """Change the layer of code, and apply the sources that are in effect with it.

        A document that was rolled back to has none any more: nothing is laid over it, RuntimeError, and it stays.
        """
        self._touch_own("code")
        return self._in_turn("code", lambda: self._patch(change, lays=lays))

    def _patch(self, change: Callable[[], None], *, lays: bool) -> ReloadResult:
        ledger = self._registry.ledger
        rolled_back = ledger.pinned and ledger.sources is None
        if rolled_back and lays:
            raise RuntimeError("rolled back to a document whose text is gone: reload or apply one to lay fields over")
        change()
        if rolled_back:
            return self._result("unchanged", "code")
        pinned = ledger.sources if ledger.pinned else None
        return self._accept(lambda: self._read_own()() if pinned is None else self._load(pinned), "code")

    def rollback(self, steps: int) -> ReloadResult:
        """Apply an earlier document and pin it; IndexError where there is none."""
        return self._in_turn("rollback", lambda: self._rollback(steps))

    def _rollback(self, steps: int) -> ReloadResult:
        ledger = self._registry.ledger
        if not 1 <= steps <= len(ledger.history):
            raise IndexError(f"cannot go back {steps}: {len(ledger.history)} earlier documents are kept")
        earlier = ledger.history[-steps]
        result = self._accept(lambda: ledger.as_of(earlier, self._registry.clock.wall()), "rollback")
        if result.outcome != "rejected":
            ledger.pinned, ledger.sources = True, None
        return result

    def expire(self) -> ReloadResult:
        """Take away the overrides whose time is over; whatever is pinned stays pinned."""
        return self._in_turn("override", self._expire)

    def _expire(self) -> ReloadResult:
        ledger, now = self._registry.ledger, self._registry.clock.wall()
        return self._accept(lambda: ledger.as_of(ledger.document, now), "override")

    def plan(self, sources: Sequence[AnySource] | None) -> Plan:
        """Look at what a document would change, with what the guards would say; change nothing."""
        if sources is None:
            return self._own_first("plan", self._plan)
        return self._read_first(lambda: attempt(lambda: self._load(sources)), "plan", self._plan)

    def _plan(self, load: Load) -> Plan:
        registry, ledger = self._registry, self._registry.ledger
        document = load()
        changes = with_live_state(differences(ledger.document, document, pace()), registry.policies)
        refusals = tuple(objections(ledger, document))
        return Plan(changes, document.revision, document.findings, refusals)

    def _expect(self, revision: str | None) -> None:
        present = self._registry.ledger.document.revision
        if revision is not None and revision != present:
            raise RevisionConflictError(
                f"expected revision {revision[:12]}, but {present[:12]} is in effect; look again"
            )

    def _load(self, sources: Sequence[AnySource]) -> Document:
        return self._registry.loader.document(sources, self._registry.ledger.document.policies)

    def _accept_own(self, document: Document, trigger: str) -> ReloadResult:
        ledger = self._registry.ledger
        if ledger.pinned and trigger == "file" and document.files == ledger.seen:
            result = self._result("unchanged", trigger)
        else:
            check_against(ledger, document)
            result = self._put(document, trigger)
            ledger.pinned = ledger.on_fallback = False
            ledger.seen = document.files
            ledger.ended |= document.ended
        reporting.recovered(self._registry, result)
        return result

    def _accept(self, load: Callable[[], Document], trigger: str, *, guarded: bool = False) -> ReloadResult:
        """Apply a document that does not come from the registry's own sources as they are."""
        try:
            document = load()
            if guarded:
                check_against(self._registry.ledger, document)
            result = self._put(document, trigger)
        except ConfigError as error:
            return self._reject(error, trigger)
        return result

    def _put(self, document: Document, trigger: str) -> ReloadResult:
        ledger = self._registry.ledger
        before = ledger.document
        if document.revision == before.revision:
            ledger.document = document
            result = self._result("unchanged", trigger)
        else:
            changes = differences(before, document, pace())
            ledger.keyed.update(self._keyed(before, document, changes))
            swap(self._registry, document)
            result = self._result("applied", trigger, changes=changes, diagnostics=document.findings)
        reporting.accepted(self._registry, result, before)
        self._registry.overrides.follow(ledger.document)
        return result

    def _keyed(self, before: Document, after: Document, changes: Iterable[Change]) -> Iterator[str]:
        """Yield the policies into which a document brings a limit per key, in use or not."""
        spec_of = self._registry.spec_of
        for name in {before.default.name, after.default.name, *(change.policy for change in changes)}:
            old = spec_of(name, before)
            if old is not None and not _by_key(old) and _by_key(spec_of(name, after)):
                yield name

    def _reject_own(self, error: ConfigError, trigger: str) -> ReloadResult:
        news = self._registry.ledger.fail(str(error))
        return self._reject(error, trigger, told=news or trigger != "file")

    def _reject(self, error: ConfigError, trigger: str, *, told: bool = True) -> ReloadResult:
        result = self._result("rejected", trigger, diagnostics=error.diagnostics, message=str(error))
        if told:
            reporting.rejected(self._registry, result)
        return result

    def _result(self, outcome: Outcome, trigger: str, **more: object) -> ReloadResult:
        ledger = self._registry.ledger
        ledger.count(outcome, trigger)
        return ReloadResult(outcome, ledger.generation, ledger.document.revision, trigger=trigger, **more)  # type: ignore[arg-type]


def attempt(read: Callable[[], Document]) -> Load:
    """Read now; return what gives the document later, or raises then what is wrong with it."""
    found: list[Document | Exception] = []
    try:
        found.append(read())
    except Exception as error:
        found.append(error.with_traceback(None) if isinstance(error, ConfigError) else error)  # which has the trees

    def load() -> Document:
        one = found.pop()
        if isinstance(one, Exception):
            raise one
        return one

    return load


def _by_key(spec: PolicySpec | None) -> bool:
    """Tell whether a policy has a limit for each key."""
    limits = () if spec is None else (config for _, config in spec.patterns if isinstance(config, RateLimiterConfig))
    return any(config.scope == "key" for config in limits)
