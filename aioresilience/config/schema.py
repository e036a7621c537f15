"""The JSON Schema of a file, for editors: draft-07, the same every time, strict where the reader is."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aioresilience import __version__
from aioresilience.backends import BackendConfig
from aioresilience.config.document import NAME_PATTERN, Extending, FileFrame, Frame, Override, PolicyFrame
from aioresilience.config.schema_fields import Schema, block_of, describe, fields_of, nullable
from aioresilience.config.schema_words import OF_PATTERNS, offers
from aioresilience.config.vocabulary import IN_OVERLAY, Vocabulary
from aioresilience.pattern import AnyPattern

ID: Final = f"urn:aioresilience:resilience.yaml:{'.'.join(__version__.split('.')[:2])}"
NAMED: Final = {
    "pattern": NAME_PATTERN,
    "patternErrorMessage": f"expected {OF_PATTERNS[NAME_PATTERN]}",
}
_MODES: Final = "enforce: act. observe: decide and report, never act. off: as if the pattern were not there."


def json_schema(patterns: Iterable[type[AnyPattern]]) -> dict[str, object]:
    """Return the JSON Schema of a file that may use these patterns."""
    vocabulary = Vocabulary(patterns)
    definitions: dict[str, Schema] = {key: _pattern(key, vocabulary) for key in sorted(vocabulary.types)}
    definitions["policy"] = _policy(vocabulary, fields_of(Extending))
    definitions["defaults"] = _policy(vocabulary, fields_of(PolicyFrame))
    definitions["shared"] = _shared(vocabulary)
    definitions["overlay"] = _document({key: one for key, one in _sections().items() if key in IN_OVERLAY})
    root = _document({**_of_a_file(), **_sections()})
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": ID,
        "description": "Resilience policies for aioresilience.",
        **root,
        "required": ["version"],
        "defaultSnippets": [
            {"label": "resilience.yaml", "body": {"version": 1, "policies": {"${1:name}": {"timeout": "${2:2s}"}}}}
        ],
        "definitions": definitions,
    }


def schema_text(patterns: Iterable[type[AnyPattern]]) -> str:
    """Return the JSON Schema as text, as `schemas/resilience.schema.json` holds it."""
    return json.dumps(json_schema(patterns), indent=2, ensure_ascii=False) + "\n"


def write_schema(path: Path, patterns: Iterable[type[AnyPattern]]) -> None:
    """Write the JSON Schema to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(schema_text(patterns), encoding="utf-8")


def _document(properties: dict[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "patternProperties": {"^x-": {"description": "Ignored: a home for notes and anchors."}},
        "additionalProperties": False,
    }


def _of_a_file() -> dict[str, Schema]:
    fields = fields_of(FileFrame)
    version = describe({"enum": [1]}, "Version of this language, required")
    end = describe({"enum": [True]}, "Optional last key: proves that the file is whole")
    return {**fields, "version": version, "end": end}


def _sections() -> dict[str, Schema]:
    snippet = {"label": "policy", "body": {"${1:name}": {"extends": "${2:http-client}", "timeout": "${3:2s}"}}}
    return {
        **fields_of(Frame),
        "backends": describe(
            _named(nullable(block_of(BackendConfig))), "Servers that limits are shared through, by name"
        ),
        "defaults": describe(_or_null("defaults"), "What lies under every policy"),
        "templates": describe(_named(_or_null("policy")), "Blocks to build policies on; never handed out themselves"),
        "shared": describe(_named(_or_null("shared")), "Pattern instances that several policies use, by name"),
        "policies": {
            **describe(_named(_or_null("policy")), "The policies, by the names that the code asks for"),
            "defaultSnippets": [snippet],
        },
        "environments": describe(
            _named({"$ref": "#/definitions/overlay"}), "Overlays of this file, chosen by AIORESILIENCE_ENVIRONMENT"
        ),
        "overrides": describe(
            {"type": ["array", "null"], "items": _override()}, "Changes for the length of an incident"
        ),
    }


def _override() -> Schema:
    block = block_of(Override)
    block["properties"]["set"] = describe({"$ref": "#/definitions/policy"}, "What changes, as in a policy")
    block["required"] = [*block["required"], "set"]
    body = {"policy": "$1", "set": {}, "expires": "${2:2026-12-01T00:00:00Z}", "reason": "$3", "by": "$4"}
    return {**block, "defaultSnippets": [{"label": "override", "body": body}]}


def _named(block: Schema) -> Schema:
    return {"type": ["object", "null"], "propertyNames": NAMED, "additionalProperties": block}


def _or_null(definition: str) -> Schema:
    return {"if": {"type": "null"}, "else": {"$ref": f"#/definitions/{definition}"}}


def _policy(vocabulary: Vocabulary, frame: dict[str, Schema]) -> Schema:
    if "order" in frame:
        items = {"items": {"if": {"type": "string", "pattern": r"\$\{"}, "else": {"enum": list(vocabulary.order)}}}
        frame["order"] = {**frame["order"], **items, "uniqueItems": True}
    if "mode" in frame:
        frame["mode"] = {**frame["mode"], "markdownDescription": f"{frame['mode']['markdownDescription']}\n\n{_MODES}"}
    patterns = {key: _written_pattern(key, vocabulary) for key in vocabulary.types}
    return {"type": "object", "properties": {**frame, **patterns}, "additionalProperties": False}


def _shared(vocabulary: Vocabulary) -> Schema:
    """Return what a shared block may hold: patterns that use no other."""
    block = _policy(vocabulary, {})
    own = {"properties": {"use": {"type": "null"}}}
    for pattern in block["properties"].values():
        pattern["then"] = {"allOf": [pattern["then"], own]}
    return block


def _written_pattern(key: str, vocabulary: Vocabulary) -> Schema:
    """Return what may stand at a pattern's key in a policy: its block, null, or the short form."""
    model, short = vocabulary.types[key], vocabulary.short(key)
    text = inspect.getdoc(model) or key
    bare: Schema = {"type": "null"}
    if short is not None:
        bare = fields_of(model)[short]
        text = f"{text}\n\nA bare value is its `{short}`."
    what = describe({}, text.replace("\n", " "))
    what["markdownDescription"] = text
    if snippets := offers(key, bare):
        what["defaultSnippets"] = snippets
    return {**what, "if": {"type": "object"}, "then": {"$ref": f"#/definitions/{key}"}, "else": bare}


def _pattern(key: str, vocabulary: Vocabulary) -> Schema:
    model = vocabulary.types[key]
    use = describe(
        {"type": ["string", "null"], **NAMED, "pattern": rf"(?:{NAME_PATTERN})|\$\{{"},
        "A block under shared to use",
        default="default: none",
    )
    beside = {"properties": {"use": {}, "mode": {}}, "additionalProperties": {"type": "null"}}
    return {
        "type": "object",
        "properties": {**fields_of(model, model.file_defaults({})), "use": use},
        "additionalProperties": False,
        "if": {"required": ["use"], "properties": {"use": {"type": "string"}}},
        "then": beside,
    }
