"""From the merged document to what takes effect: inheritance, shared instances, order, and the revision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from aioresilience.config.checking import Checker
from aioresilience.config.complaints import Spot, complain
from aioresilience.config.diagnostics import suggest
from aioresilience.config.document import Classify, ClassRule, PolicyFrame
from aioresilience.config.inherit import Inheritance, patch_of
from aioresilience.config.interpolate import Absent
from aioresilience.config.layers import Layers, lay_pattern
from aioresilience.config.places import Block, Path, Place
from aioresilience.config.report import Report, shown
from aioresilience.config.spec import PolicySpec, Rules, SharedSpec
from aioresilience.config.tree import locate
from aioresilience.config.vocabulary import Vocabulary
from aioresilience.config.written import without
from aioresilience.failures import Classifier, Rule
from aioresilience.pattern import PatternConfig

NO_FRAME = PolicyFrame()
FRAME_KEYS = frozenset(PolicyFrame.model_fields)


class Assembly:
    """Builds the specs of one document; `everywhere` is a patch for all policies, laid after inheritance."""

    def __init__(
        self, document: Block, vocabulary: Vocabulary, checker: Checker, inheritance: Inheritance, report: Report, *,
        everywhere: Block, refused: set[int], breathe: Callable[[], None],
    ) -> None:  # fmt: skip
        self._document = document
        self._vocabulary = vocabulary
        self._patterns = frozenset(vocabulary.types)
        self._checker = checker
        self._inheritance = inheritance
        self._layers = Layers(self._patterns)
        self._report = report
        self._everywhere = everywhere
        self._refused = refused
        self._breathe = breathe
        self._rules: dict[int, tuple[Rules, Classifier]] = {}
        self._shared_blocks: dict[tuple[str, str], Block] = dict(self._blocks_shared())

    def _blocks_shared(self) -> Iterator[tuple[tuple[str, str], Block]]:
        for name, held in _blocks(self._document.get("shared")):
            patched = self._patched(held)
            for key, block in _blocks(patched):
                if key in self._patterns:
                    yield (name, key), without(block, ("use",)) if "use" in block else block

    def _patched(self, block: Block) -> Block:
        patch = self._everywhere
        return self._layers.policy(block, patch_of(patch, block, self._patterns)) if patch else block

    def shared(self) -> dict[tuple[str, str], SharedSpec]:
        """Return every shared instance."""
        found = {}
        for (name, key), block in self._shared_blocks.items():
            path = ("shared", name, key)
            config = self._config(key, block, path, partial(locate, self._document, path, key=True))
            if config is not None:
                found[name, key] = SharedSpec(name, key, config)
        return found

    def policies(self) -> dict[str, PolicySpec]:
        """Return every policy by its name."""
        blocks = _blocks(self._document.get("policies"))
        return {name: self._spec(name, block, ("policies", name)) for name, block in blocks}

    def default(self) -> PolicySpec:
        """Return what the defaults alone give."""
        return self._spec("default", Block(), ("defaults",))

    def _spec(self, name: str, policy: Block, path: Path) -> PolicySpec:
        self._breathe()
        tree = self._inheritance.effective(policy)
        tree = self._patched(tree)
        frame = self._frame(tree, path)
        configs: dict[str, PatternConfig] = {}
        used: dict[str, str] = {}
        for key, block in tree.items():
            if key in self._patterns and isinstance(block, Block):
                config = self._effective(key, block, policy, tree, path, used)
                if config is not None:
                    configs[key] = config
        rules, classifier = self._classify(frame.classify)
        keys = [key for key in tree if key in self._patterns and tree[key] is not None]
        order = self._order(frame.order, keys, policy, tree, path)
        patterns = tuple((key, configs[key]) for key in order if key in configs)
        return PolicySpec(
            name, patterns, frame.mode, rules, frame.idempotent, used, frame.partition, frame.about, classifier, tree
        )

    def _frame(self, tree: Block, path: Path) -> PolicyFrame:
        part = {key: value for key, value in tree.items() if key in FRAME_KEYS and value is not None}
        if not part:
            return NO_FRAME
        checked = self._checker.part(PolicyFrame, part)
        if checked.errors:
            spot = Spot(tree, path, locate(self._document, path, key=True), PolicyFrame, self._patterns)
            complain(self._report, spot, checked.errors)
        return checked.value or NO_FRAME

    def _effective(
        self, key: str, block: Block, policy: Block, tree: Block, path: Path, used: dict[str, str]
    ) -> PatternConfig | None:
        here = (*path, key)
        name = block.get("use")
        if isinstance(name, str) and not isinstance(name, Absent):
            used[key] = name
            return self._used(key, name, block, tree, here)
        if self._refused and self._is_refused(key, policy):
            return None
        own = without(block, ("use",)) if "use" in block else block
        return self._config(key, own, here, lambda: tree.key_place(key))

    def _used(self, key: str, name: str, block: Block, tree: Block, path: Path) -> PatternConfig | None:
        shared = self._shared_blocks.get((name, key))
        if shared is None:
            return None
        for other in block:
            if other in ("use", "mode") or block[other] is None:
                continue
            place = block.key_place(other)
            if not self._report.has("AR215", place):  # told already where both stand in one block
                message = f"{shown(other)} is laid over 'use': only 'mode' may be"
                hint = "write use: null beside it, or change the block under shared"
                self._report.add("AR215", place, message, hint=hint, path=(*path, other))
        mode = without(block, [other for other in block if other != "mode"])
        return self._config(key, lay_pattern(shared, mode) if mode else shared, path, lambda: tree.key_place(key))

    def _is_refused(self, key: str, policy: Block) -> bool:
        return any(id(layer.get(key)) in self._refused for _, layer in self._inheritance.layers(policy))

    def _config(self, key: str, block: Block, path: Path, place_of: Callable[[], Place]) -> PatternConfig | None:
        if id(block) in self._refused:
            return None
        checked = self._checker.pattern(key, block)
        if checked.errors:
            spot = Spot(block, path, place_of(), self._vocabulary.types[key])
            complain(self._report, spot, checked.errors)
        if block.get("backend") is not None:
            self._backend(block, path)
        return checked.value

    def _backend(self, block: Block, path: Path) -> None:
        name, known = block["backend"], self._document.get("backends")
        known = known if isinstance(known, Block) else Block()
        if isinstance(name, str) and not isinstance(name, Absent) and known.get(name) is None:
            near = suggest(name, known)
            hint = f"did you mean '{near}'?" if near else "add it under backends"
            place = block.value_place("backend")
            self._report.add("AR304", place, f"unknown backend {shown(name)}", hint=hint, path=(*path, "backend"))

    def _classify(self, classify: Classify) -> tuple[Rules, Classifier]:
        known = self._rules.get(id(classify))
        if known is None:
            rules = (_rule(classify.failure), _rule(classify.throttle), _rule(classify.neutral))
            known = self._rules[id(classify)] = (rules, Classifier(*rules))
        return known

    def _order(
        self, wanted: Sequence[str] | None, keys: Sequence[str], policy: Block, tree: Block, path: Path
    ) -> Sequence[str]:
        order = self._vocabulary.order if wanted is None else wanted
        if not self._patterns.issuperset(order):
            return order
        missing = [key for key in keys if key not in order]
        for key in missing:
            if wanted is None:
                message = f"{shown(key)} has no place in the default order; this policy needs an order that names it"
                self._report.add("AR316", tree.key_place(key), message, path=path)
            else:
                message = f"'order' leaves out {shown(key)}, which {self._bringer(key, policy)} brings in"
                hint = f"add {key} to it, or write {key}: null"
                self._report.add("AR316", tree.value_place("order"), message, hint=hint, path=(*path, "order"))
        return order

    def _bringer(self, key: str, policy: Block) -> str:
        """Name who brought a pattern in, with the place."""
        for who, layer in reversed(self._inheritance.layers(policy)):
            if layer.get(key) is not None:
                return f"{who} ({layer.key_place(key)})"
        return "an override"


def _rule(given: ClassRule) -> Rule:
    return Rule(given.exceptions, frozenset(code for codes in given.status for code in codes))


def _blocks(section: object) -> Iterator[tuple[str, Block]]:
    if isinstance(section, Block):
        for name, block in section.items():
            if isinstance(block, Block):
                yield name, block


def revision(
    document: Block, policies: Mapping[str, PolicySpec], default: PolicySpec, breathe: Callable[[], None]
) -> str:
    """Return the hash of what takes effect: no comments, no metadata, no `about`, no names of templates."""
    digest = hashlib.sha256()
    for section in ("settings", "service", "backends", "shared", "routes"):
        digest.update(f"{section}:{_canonical(document.get(section))}\n".encode())
    for name in sorted(policies):
        breathe()
        digest.update(f"{name}:{_canonical(_behaviour(policies[name].tree))}\n".encode())
    digest.update(f"*:{_canonical(_behaviour(default.tree))}".encode())
    return digest.hexdigest()[:16]


def _behaviour(tree: Block) -> dict[str, object]:
    return {key: value for key, value in tree.items() if key != "about" and value is not None}


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
