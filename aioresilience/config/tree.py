"""The document tree: plain dicts, lists and scalars that remember where each of them was written.

A tree is never changed once it is built; `merge` makes a new one and shares what it did not touch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from aioresilience.config.places import (
    MAX_DEPTH,
    NOWHERE,
    Block,
    Items,
    Node,
    Origin,
    Pair,
    Path,
    Place,
    Scalar,
    Source,
)

__all__ = [
    "MAX_DEPTH",
    "NOWHERE",
    "Block",
    "Items",
    "Node",
    "Pair",
    "Path",
    "Place",
    "Scalar",
    "Source",
    "child",
    "format_path",
    "from_plain",
    "leaves",
    "locate",
    "merge",
    "nest",
    "resolve",
    "walk",
    "with_origin",
]


def merge(low: Block, high: Block, *, null_removes: bool = False) -> Block:
    """Lay `high` over `low`: blocks deep, scalars and lists replace, every leaf keeps its place and what it shadows.

    A null in `high` replaces and stays; with `null_removes` it takes away what it would have replaced.
    """
    merged = _copy(low, low.source if len(low) >= len(high) else high.source)
    for key, value in high.items():
        below = low.get(key)
        if key not in low:
            merged.put(key, value, _entry(high, key, merged.source))
        elif isinstance(below, Block) and isinstance(value, Block):
            merged.put(key, merge(below, value, null_removes=null_removes), high.pair(key))
        elif value is None and null_removes:
            del merged[key], merged.places[key]
        else:
            key_place, value_place = high.pair(key)
            merged.put(key, value, (key_place, value_place.over(low.value_place(key))))
    return merged


def _copy(block: Block, source: Source | None) -> Block:
    copied = Block(source)
    copied.update(block)
    same = source is block.source
    copied.places = dict(block.places) if same else {key: block.pair(key) for key in block}
    return copied


def _entry(block: Block, key: str, source: Source | None) -> int | Pair:
    return block.places[key] if block.source is source else block.pair(key)


def from_plain(value: object, place: Place) -> Node:
    """Build a tree from Python values, everything at one place.

    Raises ValueError for a key that is not a string, nesting past 32 levels, or a value that YAML could not hold.
    """
    return _plain(value, place, 0)


def _plain(value: object, place: Place, depth: int) -> Node:
    if isinstance(value, (Mapping, list, tuple)) and depth >= MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, Mapping):
        return _plain_block(value, place, depth)
    if isinstance(value, (list, tuple)):
        items = Items()
        items.extend(_plain(item, place, depth + 1) for item in value)
        items.places = [place] * len(items)
        return items
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise ValueError(f"cannot hold a {type(value).__name__}; use strings, numbers, booleans, None, lists and dicts")


def _plain_block(value: Mapping[object, object], place: Place, depth: int) -> Block:
    block = Block()
    for key, item in value.items():
        if not isinstance(key, str):
            raise ValueError(f"the key {key!r} is not a string")
        block.put(key, _plain(item, place, depth + 1), (place, place))
    return block


def nest(path: Sequence[str], value: Node, place: Place) -> Block:
    """Return blocks that hold nothing but `value` at `path`, all at one place: a patch, ready to `merge`."""
    for key in reversed(path):
        block = Block()
        block.put(key, value, (place, place))
        value = block
    if not isinstance(value, Block):
        raise ValueError("a patch needs a path, or a block")
    return value


def with_origin(block: Block, origin: Origin) -> Block:
    """Return a block whose every place is of that origin; lists keep the places of their items."""
    marked = Block(block.source)
    for key, value in block.items():
        key_place, value_place = block.pair(key)
        places = (replace(key_place, origin=origin), replace(value_place, origin=origin))
        marked.put(key, with_origin(value, origin) if isinstance(value, Block) else value, places)
    return marked


def child(node: Node, step: str | int) -> Node:
    """Return what stands one step below; raises KeyError where nothing does."""
    if isinstance(node, Block) and isinstance(step, str):
        return node[step]
    if isinstance(node, Items) and isinstance(step, int) and 0 <= step < len(node):
        return node[step]
    raise KeyError(step)


def walk(root: Node, path: Path) -> Node:
    """Return the node at `path`; raises KeyError where nothing is."""
    for step in path:
        root = child(root, step)
    return root


def locate(root: Block, path: Path, *, key: bool = False) -> Place:
    """Return the place of the value at `path`, or of its key; of the nearest key above where nothing is there."""
    node: Node = root
    place = NOWHERE
    for depth, step in enumerate(path):
        try:
            below = child(node, step)
        except KeyError:
            return place
        last = depth == len(path) - 1
        place = _step_place(node, step, key=key or not last)
        node = below
    return place


def _step_place(node: Node, step: str | int, *, key: bool) -> Place:
    if isinstance(node, Block) and isinstance(step, str):
        return node.key_place(step) if key else node.value_place(step)
    if isinstance(node, Items) and isinstance(step, int):
        return node.value_place(step)
    return NOWHERE


def leaves(root: Node, path: Path = ()) -> Iterator[tuple[Path, Scalar]]:
    """Yield every scalar below `root` with its path, in the order of the file."""
    if isinstance(root, Block):
        for key, value in root.items():
            yield from leaves(value, (*path, key))
    elif isinstance(root, Items):
        for index, value in enumerate(root):
            yield from leaves(value, (*path, index))
    else:
        yield path, root


def resolve(root: Node, dotted: str) -> Path | None:
    """Return the path that a dotted text means in `root`, the longest key that fits first; None where nothing fits.

    Names may contain dots themselves; list items are written `list[0]` or `list.0`.
    """
    return _resolve(root, re.sub(r"\[(\d+)\]", r".\1", dotted))


def _resolve(node: Node, dotted: str) -> Path | None:
    if not dotted:
        return ()
    for end in range(len(dotted), 0, -1):
        if end < len(dotted) and dotted[end] != ".":
            continue
        found = _resolve_step(node, dotted[:end], dotted[end + 1 :])
        if found is not None:
            return found
    return None


def _resolve_step(node: Node, head: str, rest: str) -> Path | None:
    step: str | int = int(head) if isinstance(node, Items) and re.fullmatch(r"[0-9]{1,9}", head) else head
    try:
        below = _resolve(child(node, step), rest)
    except KeyError:
        return None
    return None if below is None else (step, *below)


def format_path(path: Path) -> str:
    """Return a path as messages show it: `policies.payments.classify.failure.status[1]`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")
