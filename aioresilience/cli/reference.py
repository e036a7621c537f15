"""docs/reference.md: every key of the file, from the models themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import BaseModel

from aioresilience.cli.yaml_text import flow
from aioresilience.config.complaints import model_in
from aioresilience.config.document import Extending, FileFrame, Frame, Override
from aioresilience.config.schema_fields import Schema, default_text, fields_of
from aioresilience.config.vocabulary import LIBRARY_ORDER, SECTIONS, Vocabulary
from aioresilience.pattern import PatternConfig
from aioresilience.policy import BUILTIN
from aioresilience.registry.diff import effect_of

IN_SECTIONS: Final[Mapping[str, str]] = {
    "policies": "the policies, by the names that the code asks for",
    "templates": "blocks to build policies on; never handed out themselves",
    "shared": "pattern instances that several policies use, by name",
    "defaults": "what lies under every policy",
    "environments": "overlays of this file, by name: anything but what concerns the file alone",
    "overrides": "changes for the length of an incident",
}
INTRODUCTION: Final = """# Reference

Every key of `resilience.yaml`, from the models that read it. [Configuration](configuration.md) explains the language,
[Patterns](patterns.md) what each pattern promises, [Reloading](reloading.md) what a change does to live state.

A duration in a file has a unit, as in `500ms`, `2s`, `1m30s`, `1h`; in Python a number is seconds. A percentage is
`50%`; in Python a fraction, 0.5. `${NAME}` may stand for any value, and `null` removes what was inherited. What a file
means where it is silent is what we would run ourselves; the defaults of the Python classes are those of 0.2.
"""


def reference_page(_: str = "") -> str:
    """Return docs/reference.md."""
    return "\n".join([INTRODUCTION, *_document(), *_policy(), *_patterns()])


def _document() -> Iterator[str]:
    yield "## The file\n"
    yield from _table({**fields_of(FileFrame), **fields_of(Frame)}, FileFrame, Frame)
    yield "Beside these the sections:\n"
    yield "| section | what it holds |\n|---|---|"
    yield from (f"| `{name}` | {IN_SECTIONS[name]} |" for name in SECTIONS)
    yield ""
    yield from _below("", Frame, {})
    yield from _block("`overrides[]`", Override)
    yield "An override also has `set`, a block as in a policy: what changes.\n"


def _policy() -> Iterator[str]:
    yield "## A policy or a template\n"
    yield f"The patterns, {', '.join(f'[`{key}`](#{key})' for key in LIBRARY_ORDER)}, and:\n"
    yield from _table(fields_of(Extending), Extending)
    yield from _below("", Extending, {})


def _patterns() -> Iterator[str]:
    vocabulary = Vocabulary(BUILTIN)
    for key in vocabulary.order:
        model = vocabulary.types[key]
        yield f"## {key}\n"
        yield (inspect.getdoc(model) or "") + "\n"
        short = f"Short form: `{key}: …` is its `{model.short}`. " if model.short else "It has no short form. "
        yield f"{short}`{key}: {{use: NAME}}` takes the instance under `shared`.\n"
        yield from _pattern_table(key, model)
        yield from _below(f"{key}.", model, {})


def _pattern_table(key: str, model: type[PatternConfig]) -> Iterator[str]:
    defaults = model.file_defaults({})
    described = fields_of(model, defaults)
    yield "| key | what it is | written as | example | default in a file | in Python | on reload |"
    yield "|---|---|---|---|---|---|---|"
    for name, field in model.model_fields.items():
        in_file = _default(model, name, defaults.get(name, field.default))
        in_python = _default(model, name, field.default)
        shown = [*_cells(name, described[name]), in_file, "the same" if in_python == in_file else in_python]
        yield f"| {' | '.join([*shown, effect_of(key, name)])} |"
    yield ""


def _below(path: str, model: type[BaseModel], seen: dict[type[BaseModel], str]) -> Iterator[str]:
    """Yield the blocks within a block, each kind once."""
    described = fields_of(model)
    for name, field in model.model_fields.items():
        inner = model_in(field.annotation)
        if inner is None or inner in seen or (name == "mode" and path):
            continue
        seen[inner] = name
        here = f"{path}{name}{_many(described[name])}"
        yield from _block(f"`{here}`", inner)
        yield from _below(f"{here}.", inner, seen)


def _many(schema: Schema) -> str:
    """Say that a field holds several blocks: a list of them, or one for each name."""
    if "array" in _kinds(schema):
        return "[]"
    by_name = "patternProperties" in schema or isinstance(schema.get("additionalProperties"), dict)
    return ".<name>" if by_name else ""


def _block(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"### {title}\n"
    yield from _table(fields_of(model), model)


def _table(described: Mapping[str, Schema], *models: type[BaseModel]) -> Iterator[str]:
    yield "| key | what it is | written as | example | default |"
    yield "|---|---|---|---|---|"
    for model in models:
        for name, field in model.model_fields.items():
            default = "required" if field.is_required() else _default(model, name, field.default)
            yield f"| {' | '.join([*_cells(name, described[name]), default])} |"
    yield ""


def _cells(name: str, schema: Schema) -> list[str]:
    said = str(schema["markdownDescription"]).split("\n\n")
    kinds = [one for one in said[1:] if not one.startswith(("Default", "Required"))]
    written = kinds[0].removesuffix(".") if kinds else _shape(schema)
    return [f"`{name}`", _cell(said[0].removesuffix(".")), _cell(written[:1].lower() + written[1:]), _example(schema)]


def _kinds(schema: Schema) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _shape(schema: Schema) -> str:
    kinds = _kinds(schema)
    if "if" in schema or "object" in kinds:
        return "text, or a block" if "string" in kinds else "a block"
    return "a list" if "array" in kinds else "text" if kinds else "any value"


def _example(schema: Schema) -> str:
    examples = schema.get("examples") or [one["body"] for one in schema.get("defaultSnippets", ())]
    return f"`{flow(examples[0])}`" if examples else ""


def _default(model: type[BaseModel], name: str, value: object) -> str:
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    raw = model.model_json_schema()["properties"][name]
    text = value if isinstance(value, str) else default_text(value, field, raw)
    return "none" if text == "none" else f"`{text}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
