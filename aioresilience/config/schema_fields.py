"""From a model to JSON Schema: without titles, with the file's defaults, `null` and `${…}` as the reader has them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from aioresilience.config.schema_words import MEANINGS, OF_PATTERNS, UNSAID, Kind, kind_of, with_meanings
from aioresilience.fields import written
from aioresilience.units import (
    DURATION_PATTERN,
    PERCENTAGE_PATTERN,
    Rate,
    format_duration,
    format_percentage,
    format_rate,
)

Schema = dict[str, Any]

FILLED_IN: Final = r"\$\{"
UP_TO_100: Final = r"^0*(?:100(?:\.0+)?|[0-9]{1,2}(?:\.[0-9]+)?)%$"


class _Generate(GenerateJsonSchema):
    """Passes over defaults that JSON cannot hold; they are described in words."""

    ignored_warning_kinds = frozenset(("skipped-choice", "non-serializable-default"))  # type: ignore[assignment]


def fields_of(model: type[BaseModel], defaults: Mapping[str, object] | None = None) -> dict[str, Schema]:
    """Return the schema of each field of a model; `defaults` are what a file means where it is silent."""
    raw = model.model_json_schema(schema_generator=_Generate)
    definitions = raw.get("$defs", {})
    described = {}
    for name, field in model.model_fields.items():
        inlined = _inlined(raw["properties"][name], definitions)
        default = (defaults or {}).get(name, None if field.is_required() else field.default)
        text = "required" if field.is_required() else f"default: {default_text(default, field, inlined)}"
        schema = nullable(_written(_simple(inlined)))
        described[name] = describe(schema, field.description or "", kind_of(name, inlined), text)
    return described


def describe(schema: Schema, text: str, kind: Kind = UNSAID, default: str = "") -> Schema:
    """Add what an editor shows on hover, offers, and says of what does not fit."""
    sentences = [_sentence(one) for one in (text, kind.words, default) if one]
    rich = [_sentence(one) for one in (text, kind.words) if one] + ([_marked(default)] if default else [])
    shown: Schema = {"description": " ".join(sentences), "markdownDescription": "\n\n".join(rich), **schema}
    if kind.choices:
        return {**shown, "defaultSnippets": kind.snippets()}
    if kind.examples:
        shown["examples"] = list(kind.examples)
    if "pattern" in schema and kind.words:
        shown["patternErrorMessage"] = f"expected {kind.words}"
    return shown


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _marked(default: str) -> str:
    word, _, value = default.partition(": ")
    return f"{word.capitalize()}: `{value}`" if value not in ("", "none") else _sentence(default)


def block_of(model: type[BaseModel], *, required: bool = True) -> Schema:
    """Return the schema of a block that a model describes."""
    names = [name for name, field in model.model_fields.items() if field.is_required()]
    block: Schema = {"type": "object", "properties": fields_of(model), "additionalProperties": False}
    if required and names:
        block["required"] = names
        for name in names:
            block["properties"][name] = _not_null(block["properties"][name])
    return block


def _inlined(node: object, definitions: Mapping[str, Any]) -> Any:  # noqa: ANN401  # JSON
    if isinstance(node, list):
        return [_inlined(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return {**_inlined(definitions[node["$ref"].rpartition("/")[2]], definitions), **beside}
    return {key: _inlined(value, definitions) for key, value in node.items()}


def _simple(node: Schema) -> Schema:
    """Drop titles and defaults; turn unions into one schema, since most keywords concern one type only."""
    if "anyOf" in node:
        return _union([_simple(one) for one in node["anyOf"]])
    simple = {key: value for key, value in node.items() if key not in ("title", "default", "description")}
    if "const" in simple:
        simple["enum"] = [simple.pop("const")]
    if "properties" in simple:
        required = simple.get("required", ())
        simple["properties"] = {key: _inner(key, one, key in required) for key, one in node["properties"].items()}
        simple.setdefault("additionalProperties", False)
    if isinstance(simple.get("additionalProperties"), dict):
        simple["additionalProperties"] = _written(_simple(simple["additionalProperties"]))
    if "items" in simple:
        simple["items"] = _written(_simple(simple["items"]))
    return simple


def _inner(name: str, node: Schema, required: bool) -> Schema:
    """Describe a field of a block within a block."""
    schema = nullable(_written(_simple(node)))
    text = "required" if required else f"default: {_plain(node.get('default'), _pattern(node))}"
    described = describe(schema, node.get("description", ""), kind_of(name, node), text)
    return _not_null(described) if required else described


def _union(branches: list[Schema]) -> Schema:
    kept = [one for one in branches if one.get("type") != "null"]
    if len(kept) == 1:
        return kept[0]
    blocks = [one for one in kept if one.get("type") == "object"]
    others = [one for one in kept if one.get("type") != "object"]
    if blocks and any("enum" in one for one in others):
        return {"if": {"type": "object"}, "then": blocks[0], "else": _union(others)}
    merged: Schema = {}
    types: list[str] = []
    for one in kept:
        types += [kind for kind in _types(one) if kind not in types]
        merged.update({key: value for key, value in one.items() if key != "type"})
    return {"type": types, **merged} if types else {}


def _types(schema: Schema) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _written(schema: Schema) -> Schema:
    """Accept `${…}` wherever a scalar may stand."""
    if "if" in schema:
        return {**schema, "else": _written(schema["else"])}
    if "enum" in schema:
        return {"if": {"type": "string", "pattern": FILLED_IN}, "else": with_meanings(schema)}
    types = _types(schema)
    if "string" in types and "pattern" in schema:
        words = OF_PATTERNS.get(schema["pattern"])
        told = {"patternErrorMessage": f"expected {words}"} if words else {}
        return {**schema, "pattern": f"(?:{_bounded(schema)})|{FILLED_IN}", **told}
    if "string" not in types and any(kind in types for kind in ("integer", "number", "boolean")):
        return {**schema, "type": [*types, "string"], "pattern": FILLED_IN}
    return schema


def _bounded(schema: Schema) -> str:
    """Return the pattern of a text, which itself holds to the bounds that the schema sets for numbers."""
    pattern = str(schema["pattern"])
    if pattern == DURATION_PATTERN and schema.get("exclusiveMinimum") == 0:
        return pattern.replace("^", "^(?=.*[1-9])", 1)
    if pattern == PERCENTAGE_PATTERN and (schema.get("maximum") or schema.get("exclusiveMaximum")) in (1, 100):
        return UP_TO_100
    return pattern


def nullable(schema: Schema) -> Schema:
    """Accept null, which removes what is inherited."""
    if "if" in schema:
        return {**schema, "else": nullable(schema["else"])}
    if "enum" in schema:
        untyped = {key: value for key, value in schema.items() if key != "type"}
        meanings = {key: [*schema[key], ""] for key in MEANINGS if key in schema}
        return {**untyped, **meanings, "enum": [*schema["enum"], None]}
    types = _types(schema)
    return {**schema, "type": [*types, "null"]} if types and "null" not in types else schema


def _not_null(schema: Schema) -> Schema:
    if "if" in schema:
        return {**schema, "else": _not_null(schema["else"])}
    if "enum" in schema:
        kept = [index for index, one in enumerate(schema["enum"]) if one is not None]
        listed: Schema = {key: [schema[key][one] for one in kept] for key in ("enum", *MEANINGS) if key in schema}
        return {**schema, **listed}
    return {**schema, "type": [one for one in _types(schema) if one != "null"]} if "type" in schema else schema


def default_text(value: object, field: FieldInfo, schema: Schema) -> str:
    """Write a default as a file would."""
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, Rate):
        return format_rate(value)
    if isinstance(value, BaseModel):
        return written(type(value), "", value) if _says_something(value) else "none"
    return _plain(value, _pattern(schema))


def _says_something(value: object) -> bool:
    if isinstance(value, BaseModel):
        return any(_says_something(one) for _, one in value)
    return value not in (None, ())


def _plain(value: object, pattern: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return _number(value, pattern)
    return value if isinstance(value, str) else "none"


def _pattern(schema: Schema) -> str:
    branches = [schema, *cast("list[Schema]", schema.get("anyOf", []))]
    return next((str(one["pattern"]) for one in branches if "pattern" in one), "")


def _number(value: float, pattern: str) -> str:
    if pattern == DURATION_PATTERN and isinstance(value, float):
        return format_duration(value)
    if pattern == PERCENTAGE_PATTERN:
        return format_percentage(value)
    return f"{value:g}"
