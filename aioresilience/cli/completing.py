"""What a shell completes from the file that is named on the line: policies, their values, environments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from typer import Context

from aioresilience.cli import reading
from aioresilience.cli.reading import STDIN
from aioresilience.config import ConfigError, Document


def targets(ctx: Context, incomplete: str) -> list[str]:
    """Return the policies of the file, and the values of one that is spelled out."""
    document = _document(ctx)
    if document is None:
        return []
    names = list(document.policies)
    for name, spec in document.policies.items():
        if incomplete.startswith(f"{name}."):
            names += [f"{name}.{key}.{field}" for key, one in spec.patterns for field in type(one).model_fields]
    return _fitting(names, incomplete)


def environments(ctx: Context, incomplete: str) -> list[str]:
    """Return the environments of the file."""
    document = _document(ctx)
    return [] if document is None else _fitting(reading.environments(document), incomplete)


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def _document(ctx: Context) -> Document | None:
    """Read the file on the line; nobody wants to see an error while typing."""
    given = ctx.params.get("file") or ctx.params.get("files") or ctx.params.get("new")
    # behind an option that still lacks its value, the words before it are not sorted into parameters yet
    files: Sequence[str] = reading.split(given) if isinstance(given, str) else given or ctx.args[:1]
    if not files or STDIN in files:
        return None
    try:
        return reading.read(files)
    except (ConfigError, OSError):
        return None
