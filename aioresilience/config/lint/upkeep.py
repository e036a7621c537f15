"""Rules about the file itself: what is left over in it, and what is hard to read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Final

from pydantic import BaseModel

from aioresilience.config.complaints import model_in
from aioresilience.config.diagnostics import Diagnostic, diagnose
from aioresilience.config.lint.subject import Subject
from aioresilience.config.places import Block, Items, Path
from aioresilience.fields import PositiveSeconds
from aioresilience.units import DURATION_PATTERN, format_duration

LONG_PAST: Final = 7 * 86400
"""Seconds after which an expired override should be gone."""


def stale_override(subject: Subject) -> Iterator[Diagnostic]:
    """AR404: an override that ended more than a week ago."""
    for index, one in enumerate(subject.overrides):
        past = subject.now - one.expires
        if past > LONG_PAST:
            message = f"the override ({one.reason}) expired {int(past // 86400)} days ago"
            yield diagnose("AR404", one.place, message, hint="delete it", path=("overrides", index))


LONG: Final = 100
"""Seconds from which a bare number is more likely to be one of milliseconds."""


def bare_number(subject: Subject) -> Iterator[Diagnostic]:
    """AR412: a duration without its unit."""
    for path, block in _policies(subject.tree):
        subject.breathe()
        for key, config_type in subject.vocabulary.types.items():
            fields = block.get(key)
            if isinstance(fields, Block):
                yield from _bare(fields, config_type, (*path, key))


def _policies(tree: Block) -> Iterator[tuple[Path, Block]]:
    """Yield every block that holds patterns."""
    defaults = tree.get("defaults")
    if isinstance(defaults, Block):
        yield ("defaults",), defaults
    for section in ("templates", "shared", "policies"):
        held = tree.get(section)
        for name, block in held.items() if isinstance(held, Block) else ():
            if isinstance(block, Block):
                yield (section, name), block


def _bare(block: Block, model: type[BaseModel], path: Path) -> Iterator[Diagnostic]:
    for name, value in block.items():
        if isinstance(value, Block):
            yield from _bare_below(value, model, name, (*path, name))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or name not in _durations(model):
            continue
        place = block.value_place(name)
        if place.line:
            message = f"{value} without a unit means seconds"
            yield diagnose("AR412", place, message, hint=_with_unit(value), path=(*path, name))


def _with_unit(value: float) -> str:
    """Say how to write a number of seconds, which may have been meant as milliseconds."""
    seconds = format_duration(value)
    return f"write {value:g}ms, or {seconds} if seconds are meant" if value >= LONG else f"write {seconds}"


def _bare_below(block: Block, model: type[BaseModel], name: str, path: Path) -> Iterator[Diagnostic]:
    """Look into a block within a pattern: a budget, a rate, or what a class of exceptions changes."""
    field = model.model_fields.get(name)
    inner = model_in(field.annotation) if field else None
    if name == "rate":
        yield from _bare(block, Period, path)
    elif inner is not None:
        for key, one in block.items():
            if isinstance(one, Block):
                yield from _bare(one, inner, (*path, key))
        yield from _bare(block, inner, path)


class Period(BaseModel):
    """The part of a rate that is a duration."""

    per: PositiveSeconds


@cache
def _durations(model: type[BaseModel]) -> frozenset[str]:
    """Return the fields that take a duration and nothing else."""
    fields = {name: json.dumps(field) for name, field in model.model_json_schema()["properties"].items()}
    wanted = json.dumps(DURATION_PATTERN)
    return frozenset(name for name, field in fields.items() if wanted in field and '"integer"' not in field)


def unused_template(subject: Subject) -> Iterator[Diagnostic]:
    """AR413: a template of this very file that nothing extends, unless the file is there to be included."""
    if not subject.tree.get("policies"):
        return
    used: set[str] = set()
    for _, block in _policies(subject.tree):
        subject.breathe()
        used.update(_extends(block))
    templates = subject.tree.get("templates")
    for name in templates if isinstance(templates, Block) else ():
        if isinstance(templates, Block) and name not in used:
            place = templates.key_place(name)
            if place.name in subject.roots:
                message = f"nothing extends the template '{name}'"
                yield diagnose("AR413", place, message, hint="delete it", path=("templates", name))


def _extends(block: Block) -> tuple[str, ...]:
    value = block.get("extends")
    listed = value if isinstance(value, Items) else [value]
    return tuple(name for name in listed if isinstance(name, str))


def repeats_template(subject: Subject) -> Iterator[Diagnostic]:
    """AR414: what a policy says is what its template says already."""
    templates, policies = subject.tree.get("templates"), subject.tree.get("policies")
    if not isinstance(templates, Block) or not isinstance(policies, Block):
        return
    for name, policy in policies.items():
        subject.breathe()
        names = _extends(policy) if isinstance(policy, Block) else ()
        own = _said(policy) if isinstance(policy, Block) else {}
        template = templates.get(names[-1]) if names else None
        if own and isinstance(template, Block) and own == _said(template):
            message = f"it says what its template '{names[-1]}' says already"
            hint = f"write {name}: {{extends: {names[-1]}}}"
            yield diagnose("AR414", policies.key_place(name), message, hint=hint, path=("policies", name))


def _said(block: Block) -> dict[str, object]:
    return {key: value for key, value in block.items() if key not in ("extends", "about")}
