"""`aioresilience explain`: a policy as it is in effect, and where each value comes from."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

import typer

from aioresilience.cli.checking import ERRORS, FINE, TROUBLE, load_files
from aioresilience.cli.on_backend import on_backend
from aioresilience.cli.worst_case import worst_case
from aioresilience.config import ConfigError, Document, PolicySpec
from aioresilience.pattern import PatternConfig
from aioresilience.rate_limiting import RateLimiterConfig


def explain(file: Path, target: str, environment: str | None) -> int:
    """Print a policy or one value of it, and return the exit code."""
    if not file.is_file():
        typer.echo(f"{file}: no such file", err=True)
        return TROUBLE
    try:
        document = load_files([file], environment)
    except ConfigError as error:
        typer.echo(str(error))
        return ERRORS
    found = _find(document, target)
    if found is None:
        typer.echo(f"no policy in {file} fits {target!r}; there are: {', '.join(sorted(document.policies))}", err=True)
        return TROUBLE
    spec, path = found
    lines = _value(spec, path) if path else _policy(spec)
    return _print(lines, target)


def _print(lines: Iterator[str], target: str) -> int:
    try:
        for line in lines:
            typer.echo(line)
    except KeyError as error:
        typer.echo(f"{target!r}: {error.args[0]}", err=True)
        return TROUBLE
    return FINE


def _find(document: Document, target: str) -> tuple[PolicySpec, str] | None:
    """Return the longest policy name that fits, and what is left of the target."""
    fitting = [name for name in document.policies if target == name or target.startswith(name + ".")]
    if not fitting:
        return None
    name = max(fitting, key=len)
    return document.policies[name], target[len(name) + 1 :]


def _policy(spec: PolicySpec) -> Iterator[str]:
    yield f"policy {spec.name}" + ("" if spec.mode == "enforce" else f"   mode: {_text(spec.mode)}")
    if spec.about is not None:
        for name, value in spec.about.model_dump(exclude_none=True).items():
            yield f"  {name}: {value}"
    yield f"  order: {' → '.join([*(key for key, _ in spec.patterns), 'call'])}"
    yield from (f"  {line}" for line in worst_case(spec))
    for key, config in spec.patterns:
        shared = f" (shared: {spec.shared[key]})" if key in spec.shared else ""
        yield f"  {key}{shared}"
        yield from _fields(spec, key, config)
        if isinstance(config, RateLimiterConfig) and config.backend is not None:
            yield from (f"    {line}" for line in on_backend(config))


def _fields(spec: PolicySpec, key: str, config: PatternConfig) -> Iterator[str]:
    names = [name for name in type(config).model_fields if getattr(config, name) is not None]
    width = max((len(name) for name in names), default=0)
    for name in names:
        yield f"    {name:<{width}}  {_text(getattr(config, name)):<12}  {_origin(spec, key, name)}".rstrip()


def _origin(spec: PolicySpec, key: str, name: str) -> str:
    path = (key, name)
    return str(spec.place(path)) if name in _given(spec, key) else "default"


def _given(spec: PolicySpec, key: str) -> Container[object]:
    block = spec.tree.get(key)
    return block if isinstance(block, dict) else ()


def _value(spec: PolicySpec, path: str) -> Iterator[str]:
    key, _, name = path.partition(".")
    configs = dict(spec.patterns)
    if key not in configs:
        raise KeyError(f"policy {spec.name!r} has no {key}; it has {', '.join(configs)}")
    config = configs[key]
    if not name:
        yield from _fields(spec, key, config)
        return
    if name not in type(config).model_fields:
        raise KeyError(f"{key} has no field {name!r}; it has {', '.join(type(config).model_fields)}")
    yield f"{spec.name}.{path} = {_text(getattr(config, name))}"
    if name not in _given(spec, key):
        yield "  default"
        return
    for rank, place in enumerate(spec.place((key, name)).chain()):
        yield f"  {'from' if rank == 0 else 'over'} {place}: {place.text()}".rstrip(": ")


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, type):
        return value.__name__
    return str(getattr(value, "name", value)).lower() if hasattr(value, "name") else str(value)
