"""From a model to JSON Schema: without titles, with the file's defaults, `null` and `${…}` as the reader has them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

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
_KEPT: Final = ("type", "properties", "required", "additionalProperties", "items", "enum", "const", "pattern")


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
        schema = nullable(_written(_simple(inlined)))
        default = (defaults or {}).get(name, None if field.is_required() else field.default)
        described[name] = describe(schema, field.description or "", _default_text(default, field, inlined))
    return described


def describe(schema: Schema, text: str, default: str = "") -> Schema:
    """Add what an editor shows on hover."""
    closed = text if not text or text.endswith(".") else f"{text}."
    plain = f"{closed} Default: {default}." if default else closed
    rich = f"{closed}\n\nDefault: `{default}`" if default else closed
    return {"description": plain, "markdownDescription": rich, **schema}


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
        return _inlined(definitions[node["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in node.items()}


def _simple(node: Schema) -> Schema:
    """Drop titles and defaults; turn unions into one schema, since most keywords concern one type only."""
    if "anyOf" in node:
        return _union([_simple(one) for one in node["anyOf"]])
    simple = {key: value for key, value in node.items() if key not in ("title", "default", "description")}
    if "const" in simple:
        simple["enum"] = [simple.pop("const")]
    if "properties" in simple:
        simple["properties"] = {
            key: describe(nullable(_written(_simple(value))), value.get("description", ""))
            for key, value in simple["properties"].items()
        }
        for key in simple.get("required", ()):
            simple["properties"][key] = _not_null(simple["properties"][key])
        simple.setdefault("additionalProperties", False)
    if isinstance(simple.get("additionalProperties"), dict):
        simple["additionalProperties"] = _written(_simple(simple["additionalProperties"]))
    if "items" in simple:
        simple["items"] = _written(_simple(simple["items"]))
    return simple


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
        return {"if": {"type": "string", "pattern": FILLED_IN}, "else": schema}
    types = _types(schema)
    if "string" in types and "pattern" in schema:
        return {**schema, "pattern": f"(?:{schema['pattern']})|{FILLED_IN}"}
    if "string" not in types and any(kind in types for kind in ("integer", "number", "boolean")):
        return {**schema, "type": [*types, "string"], "pattern": FILLED_IN}
    return schema


def nullable(schema: Schema) -> Schema:
    """Accept null, which removes what is inherited."""
    if "if" in schema:
        return {**schema, "else": nullable(schema["else"])}
    if "enum" in schema:
        return {**{key: value for key, value in schema.items() if key != "type"}, "enum": [*schema["enum"], None]}
    types = _types(schema)
    return {**schema, "type": [*types, "null"]} if types and "null" not in types else schema


def _not_null(schema: Schema) -> Schema:
    if "if" in schema:
        return {**schema, "else": _not_null(schema["else"])}
    if "enum" in schema:
        return {**schema, "enum": [one for one in schema["enum"] if one is not None]}
    return {**schema, "type": [one for one in _types(schema) if one != "null"]} if "type" in schema else schema


def _default_text(value: object, field: FieldInfo, schema: Schema) -> str:
    """Write a default as a file would; empty where there is none worth a word."""
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, Rate):
        return format_rate(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return _number(value, _pattern(schema))
    return value if isinstance(value, str) else ""


def _pattern(schema: Schema) -> str:
    branches = [schema, *cast("list[Schema]", schema.get("anyOf", []))]
    return next((str(one["pattern"]) for one in branches if "pattern" in one), "")


def _number(value: float, pattern: str) -> str:
    if pattern == DURATION_PATTERN and isinstance(value, float):
        return format_duration(value)
    if pattern == PERCENTAGE_PATTERN:
        return format_percentage(value)
    return f"{value:g}"
