"""`aioresilience explain`: policies as they are in effect, and where each value comes from."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from aioresilience.cli.console import faint, say, strong
from aioresilience.cli.on_backend import on_backend
from aioresilience.cli.reading import FINE, Trouble, read
from aioresilience.cli.worst_case import acts, worst_case
from aioresilience.cli.yaml_text import flow
from aioresilience.clock import SYSTEM_CLOCK
from aioresilience.config import Document, PolicySpec
from aioresilience.config.diagnostics import mask, printable, suggest
from aioresilience.config.interpolate import Absent
from aioresilience.config.places import Block, Items, Path, Place
from aioresilience.config.process import process_settings
from aioresilience.fields import written
from aioresilience.pattern import PatternConfig
from aioresilience.policy import BUILTIN
from aioresilience.rate_limiting import RateLimiterConfig
from aioresilience.registry.building import Builder

MISSING: Final = object()
BESIDE: Final = ("extends", "idempotent", "mode", "order", "classify")
"""What a policy says beside its patterns and `about`."""


def explain(files: Sequence[str], target: str | None, environment: str | None) -> int:
    """Print all policies, one policy, or one value, and return the exit code; raises ConfigError and Trouble."""
    document = _read(files, environment)
    lines = _overview(document) if target is None else _explained(document, target)
    for line in lines:
        say(mask(line, document.secrets))
    return FINE


def _read(files: Sequence[str], environment: str | None) -> Document:
    """Read files as a service would here: without `environment`, under that of the process."""
    return read(files, environment or process_settings(os.environ).environment)


def code(files: Sequence[str], target: str | None, environment: str | None) -> int:
    """Print the Python that runs around a function under a policy; raises ConfigError and Trouble."""
    if target is None:
        raise Trouble("--code shows one policy: name it after the file")
    document = _read(files, environment)
    spec, path = find(document, target)
    if path:
        raise Trouble(f"--code shows a whole policy: leave out {'.'.join(map(str, path))!r}")
    builder = Builder(BUILTIN, SYSTEM_CLOCK, threading.RLock())
    builder.backends.expect(document.backends)
    policy = builder.policy(spec, spec.name, 1)
    text = policy.settled.code()
    say(text.rstrip() if text is not None else "a pattern of this policy has a path of its own: its layers are folded")
    return FINE


def find(document: Document, target: str) -> tuple[PolicySpec, Path]:
    """Return the policy of the longest name that fits, and what is left of the target as a path."""
    fitting = [name for name in document.policies if target == name or target.startswith(f"{name}.")]
    if not fitting:
        near = suggest(target.partition(".")[0], document.policies)
        known = f"did you mean {near!r}?" if near else f"there are: {', '.join(sorted(document.policies)) or 'none'}"
        raise Trouble(f"no policy fits {target!r}; {known}")
    name = max(fitting, key=len)
    return document.policies[name], tuple(filter(None, target[len(name) + 1 :].split(".")))


def _overview(document: Document) -> Iterator[str]:
    width = max(map(len, document.policies), default=0)
    for name, spec in sorted(document.policies.items()):
        owner = f"  {spec.about.owner}" if spec.about and spec.about.owner else ""
        yield f"{strong(name.ljust(width))}  {worst_case(spec)}{owner}"
    if not document.policies:
        yield "no policies"


def _explained(document: Document, target: str) -> Iterator[str]:
    spec, path = find(document, target)
    return _value(spec, path) if path else _policy(spec)


def _policy(spec: PolicySpec) -> Iterator[str]:
    yield strong(f"policy {spec.name}")
    for name, text in _facts(spec):
        yield f"  {name:<11}  {text}"
    for key, config in spec.patterns:
        shared = f"  shared: {spec.shared[key]}" if key in spec.shared else ""
        idle = "" if acts(spec, config) == "always" else f"  mode: {_mode(config.mode or spec.mode)}"
        yield ""
        yield f"  {strong(key)}{shared}{idle}"
        yield from _fields(spec, key, config)
        if isinstance(config, RateLimiterConfig) and config.backend is not None:
            yield from (f"    {line}" for line in on_backend(config))


def _facts(spec: PolicySpec) -> Iterator[tuple[str, str]]:
    if spec.about is not None:
        about = spec.about.model_dump(exclude_defaults=True).items()
        yield from (
            (name.replace("_", " "), flow(value) if isinstance(value, tuple) else value) for name, value in about
        )
    yield "order", " → ".join([*(key for key, _ in spec.patterns), "call"])
    yield "worst case", worst_case(spec)
    if spec.idempotent is not None:
        yield "idempotent", str(spec.idempotent).lower()
    if spec.mode != "enforce":
        yield "mode", _mode(spec.mode)
    if classify := spec.tree.get("classify"):
        yield "classify", flow(classify).removeprefix("{").removesuffix("}")


def _mode(mode: object) -> str:
    return str(written(type(mode), "", mode)) if not isinstance(mode, str) else mode  # type: ignore[arg-type]


def _fields(spec: PolicySpec, key: str, config: PatternConfig) -> Iterator[str]:
    names = [
        name for name in type(config).model_fields if getattr(config, name) is not None or name in _said(spec, key)
    ]
    shown = [(name, _shown(spec, key, name, config)) for name in names]
    wide = max((len(name) for name in names), default=0)
    deep = min(16, max((len(text) for _, text in shown), default=0))
    for name, text in shown:
        place = str(spec.place((key, name))) if name in _said(spec, key) else faint("default")
        yield f"    {name:<{wide}}  {text:<{deep}}  {place}"


def _said(spec: PolicySpec, key: str) -> Block:
    block = spec.tree.get(key)
    return block if isinstance(block, Block) else Block()


def _shown(spec: PolicySpec, key: str, name: str, config: PatternConfig) -> str:
    """Return a value as a file would write it; a name that only the service knows as it was written."""
    raw, value = _said(spec, key).get(name), getattr(config, name)
    if isinstance(raw, Absent):
        return f"{raw} (not set here)"
    if name in ("value", "fallback") or (callable(value) and not isinstance(value, type)):
        return printable(flow(raw if raw is not None else value))
    return printable(written(type(config), name, value))


def _value(spec: PolicySpec, path: Path) -> Iterator[str]:
    key, *rest = map(str, path)
    configs = dict(spec.patterns)
    if key in configs:
        yield from _of_pattern(spec, key, configs[key], rest)
    elif key in spec.tree or key in BESIDE:
        yield from _beside(spec, tuple(path))
    else:
        known = ", ".join([*configs, *(one for one in spec.tree if one not in configs)])
        raise Trouble(f"the policy {spec.name} has no {key}; it has {known}")


def _of_pattern(spec: PolicySpec, key: str, config: PatternConfig, rest: list[str]) -> Iterator[str]:
    if len(rest) > 1:
        yield from _beside(spec, (key, *rest))
        return
    known = type(config).model_fields
    names = rest or [name for name in known if name in _said(spec, key)]
    for name in names:
        if name not in known:
            near = suggest(name, known)
            raise Trouble(
                f"{key} has no {name}; " + (f"did you mean {near!r}?" if near else f"it has {', '.join(known)}")
            )
        yield f"{spec.name}.{key}.{name} = {strong(_shown(spec, key, name, config))}"
        yield from _chain(spec, (key, name), _default(config, key, name))
    if not names:
        yield f"{spec.name}.{key} has its defaults alone"


def _default(config: PatternConfig, key: str, name: str) -> str:
    """Return what the library would do without a word from anybody."""
    field = type(config).model_fields[name]
    value = type(config).file_defaults({}).get(name, field.get_default())
    return "" if field.is_required() else value if isinstance(value, str) else written(type(config), name, value)


def _beside(spec: PolicySpec, path: Path) -> Iterator[str]:
    found = _node(spec, path)
    if found is MISSING:
        raise Trouble(f"the policy {spec.name} says nothing about {'.'.join(map(str, path))}")
    yield f"{spec.name}.{'.'.join(map(str, path))} = {strong(printable(flow(found)))}"
    yield from _chain(spec, path, "")


def _chain(spec: PolicySpec, path: Path, default: str) -> Iterator[str]:
    node = _node(spec, path)
    said = () if node is MISSING else spec.place(path).chain()
    for rank, place in enumerate(said):
        yield f"  {'over' if rank else 'from'} {_told(place, not isinstance(node, (Block, Items)))}"
    if default:
        yield f"  {'over' if said else 'from'} {faint(f'the default: {default}')}"


def _node(spec: PolicySpec, path: Path) -> object:
    """Return what was said at a path, MISSING where nothing was."""
    found: object = spec.tree
    for step in path:
        if not isinstance(found, Block) or step not in found:
            return MISSING
        found = found[str(step)]
    return found


def _told(place: Place, is_scalar: bool) -> str:
    text = printable(place.text()) if is_scalar else ""
    return f"{place}: {text}" if text not in ("", "{", "[") else str(place)
