"""The words for what is wrong with a value, and the id under which it is known."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from math import floor
from typing import Final, NamedTuple

from pydantic_core import ErrorDetails

from aioresilience.config.diagnostics import Severity, suggest
from aioresilience.config.document import NAME_PATTERN, NotADate
from aioresilience.config.names import NameProblem
from aioresilience.config.report import either, shown
from aioresilience.config.slips import meant
from aioresilience.units import format_duration, format_percentage

EXPECTED: Final[Mapping[str, str]] = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of a sensible size",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "a text",
    "string_sub_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a block",
    "model_type": "a block",
    "model_attributes_type": "a block",
    "mapping_type": "a block",
    "callable_type": "the name of a callable",
    "none_required": "null",
    "is_subclass_of": "the name of an exception",
    "is_instance_of": "the name of an exception",
}
_LIMITS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than": ("gt", "must be above"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be below"),
    "less_than_equal": ("le", "must be at most"),
}
_EXAMPLES: Final[Mapping[str, str]] = {
    "a whole number": "write a whole number, such as 3",
    "a number": "write a number, such as 2",
    "the name of a callable": "write the name under which the service registered it",
    "the name of an exception": "write a name, such as ConnectionError",
}
MAX_WHOLE: Final = 1e15
_SIDES: Final[Mapping[str, str]] = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
_UNITS: Final = (
    ("AR205", "duration"),
    ("AR206", "rate"),
    ("AR207", "percentage"),
    ("AR208", "status"),
)
MAX_NAME: Final = 200
_QUOTED: Final = re.compile(r"'([^']*)'")


class Complaint(NamedTuple):
    """What is wrong with one value."""

    code: str
    message: str
    hint: str = ""
    severity: Severity | None = None


def describe(group: Sequence[ErrorDetails], value: object, *, whole: bool = False) -> Complaint:
    """Put into words what all branches of a field say about a value, with the fix where it is plain.

    `whole` says that the value is the short form of a pattern.
    """
    what = _described(group, value)
    expected = what.message.partition("expected ")[2].partition(", got")[0]
    if what.code == "AR204" and any(error.get("ctx", {}).get("le") == 1 for error in group):
        expected = "a percentage"
    hint = meant(what.code, expected, value, whole=whole) or what.hint
    if whole and what.code == "AR204" and hint:
        hint += ", or null to leave it out"
    return what._replace(hint=hint)


def _described(group: Sequence[ErrorDetails], value: object) -> Complaint:
    for error in group:
        if error["type"] in ("literal_error", "enum"):
            return _choice(error, value)
    for error in group:
        if error["type"] in ("value_error", "assertion_error"):
            return _stated(error, value)
    for error in group:
        if error["type"] not in EXPECTED:
            return _limited(error, value)
    expected = dict.fromkeys(EXPECTED[error["type"]] for error in group)
    return Complaint("AR203", f"expected {either(expected)}, got {shown(value)}", _type_hint(expected, value))


def _type_hint(expected: Mapping[str, None], value: object) -> str:
    if value is None:
        return "write a value, or leave the key out"
    if isinstance(value, str) and value in ("on", "off", "yes", "no") and "true or false" in expected:
        return f"write {'true' if value in ('on', 'yes') else 'false'}"
    if "a list" in expected and isinstance(value, dict):
        return "begin each entry with '- '"
    if "a list" in expected:
        return f"write [{value}]"
    if "a text" in expected and isinstance(value, (int, float)):
        return "put it in quotes"
    return _example(expected, value)


def _example(expected: Mapping[str, None], value: object) -> str:
    """Show what would do, where the value itself gives no clue."""
    if isinstance(value, (dict, list)) and "a block" not in expected:
        return f"write one value here, not {shown(value)}"
    if isinstance(value, float) and "a whole number" in expected and abs(value) < MAX_WHOLE:
        return f"write {floor(value)} or {floor(value) + 1}"
    return next((_EXAMPLES[kind] for kind in expected if kind in _EXAMPLES), "")


def _choice(error: ErrorDetails, value: object) -> Complaint:
    expected = str(error.get("ctx", {}).get("expected", ""))
    words = _QUOTED.findall(expected)
    return choice(value, words) if words else _only(expected, value)


def _only(expected: str, value: object) -> Complaint:
    if expected == "True":
        return Complaint("AR218", f"'end' must be true, got {shown(value)}", "write end: true as the last line")
    return Complaint("AR211", f"version {shown(value)} is not supported", f"write version: {expected}")


def choice(value: object, words: Sequence[str]) -> Complaint:
    """Refuse a value that is none of the choices."""
    near = suggest(value, words) if isinstance(value, str) else None
    hint = f"did you mean '{near}'?" if near else f"write {either(words)}"
    return Complaint("AR210", f"expected {either(words)}, got {shown(value)}", hint)


def _stated(error: ErrorDetails, value: object) -> Complaint:
    problem = error.get("ctx", {}).get("error")
    text = str(problem) if isinstance(problem, Exception) else error["msg"]
    if isinstance(problem, NameProblem):
        return Complaint(problem.code, text, problem.hint, problem.severity)
    message, _, hint = text.partition("; ")
    if isinstance(problem, NotADate):
        return Complaint("AR216", message, hint)
    _, one_of, words = message.partition("expected one of ")
    if one_of:
        return choice(value, words.split(", "))
    return Complaint(_code(message, whole_block=not error["loc"]), message, hint or _mend(message))


def _mend(message: str) -> str:
    """Say the fix that a message of one of the patterns implies."""
    if " < " in message or " <= " in message:
        return "change these fields until they are in that order"
    if "set both" in message:
        return "add the other, or delete this one"
    if "from 1, got 0" in message:
        return "write a number from 1"
    if "or one of" in message:
        return "write one of these"
    return "write for example redis://HOST:6379/0" if "redis://" in message else ""


def _code(message: str, *, whole_block: bool) -> str:
    for code, unit in _UNITS:
        if f" is not a {unit}" in message or f" range of {unit}" in message or f"expected a {unit}" in message:
            return code
    if whole_block:
        return "AR214"
    return "AR204" if "must be" in message or "larger" in message or "longer" in message else "AR203"


def _limited(error: ErrorDetails, value: object) -> Complaint:
    context = error.get("ctx", {})
    kind = error["type"]
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        limit = _limit(context[name], value)
        return Complaint("AR204", f"{words} {limit}, got {shown(value)}", f"write {_SIDES[name]} {limit}")
    if kind == "finite_number":
        return Complaint("AR204", f"must be a finite number, got {shown(value)}", "write a plain number")
    if kind in ("too_short", "string_too_short"):
        return Complaint("AR204", "must not be empty", "write something, or leave the key out")
    if kind == "string_pattern_mismatch":
        return _malformed(context["pattern"], value)
    return Complaint("AR203", error["msg"][:1].lower() + error["msg"][1:])


def _limit(limit: float, value: object) -> str:
    if isinstance(value, str) and value.endswith("%"):
        return format_percentage(limit)
    return format_duration(limit) if isinstance(value, str) and value[:1].isdigit() else f"{limit:g}"


def _malformed(pattern: str, value: object) -> Complaint:
    if NAME_PATTERN not in pattern:
        return Complaint("AR209", f"{shown(value)} is not a dotted name", "write for example httpx")
    return malformed_name(str(value))


def malformed_name(name: str) -> Complaint:
    """Refuse a name that is not lower-case words joined by `-` or `.`."""
    return Complaint("AR209", f"{shown(name)} is not a well-formed name", _better_name(name[:MAX_NAME]))


def _better_name(name: str) -> str:
    if "${" in name:
        return "variables are filled in in values only; write the name itself"
    if re.fullmatch(r"[a-z0-9.-]+(\s*,\s*[a-z0-9.-]+)+", name):
        return f"write a list: [{name}]"
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", plain).lower()
    better = re.sub(r"[^a-z0-9.]+", "-", words).strip("-.")
    if plain.isascii() and re.fullmatch(NAME_PATTERN, better):
        return f"write {better}"
    return "write a name such as card-payments: letters first, and no signs but - and ."
