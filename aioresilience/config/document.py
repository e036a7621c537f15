"""The model of the document: all of a file but the pattern blocks, which their patterns' own configs describe."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from aioresilience import units
from aioresilience.backends.config import BackendConfig
from aioresilience.fields import ExceptionTypes
from aioresilience.modes import Mode
from aioresilience.policy.partition import Partition

NAME_PATTERN: Final = r"^[a-z][a-z0-9]*([-.][a-z0-9]+)*$"
"""What names of policies, templates, shared blocks, backends and environments look like."""


HOST_PATTERN: Final = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.*-]+)(:[0-9]+)?$"
PATH_PATTERN: Final = "^/[^?#*]*$"
DOTTED_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
POLICY_OR_ALL: Final = rf"^\*$|{NAME_PATTERN}"
METHOD_PATTERN: Final = r"^[A-Z]+(-[A-Z]+)*$"
_HOST, _METHOD, _URL_PATH = re.compile(HOST_PATTERN), re.compile(METHOD_PATTERN), re.compile(r"/[^?#*]*")


class NotADate(ValueError):
    """The text is no point in time."""


class Part(BaseModel):
    """A part of the document: frozen, strict, no unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )


def _date(value: object) -> object:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is not None and moment.tzinfo is None and len(str(value)) > len("2026-12-01"):
        raise NotADate(f"{value!r} has no time zone; write for example {moment.isoformat()}Z")
    if moment is None or moment.tzinfo is None:
        raise NotADate(f"{value!r} is not a point in time; write for example 2026-12-01T00:00:00Z")
    return moment.astimezone(UTC)


def _codes(value: object) -> object:
    if isinstance(value, (int, str)):
        return units.parse_status(value)
    raise ValueError("expected a status such as 502 or 502-504; write a code or a range")


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Moment = Annotated[
    datetime, BeforeValidator(_date), WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:"})
]
"""A point in time as RFC 3339 writes it, with a time zone."""
Codes = Annotated[
    range,
    BeforeValidator(_codes),
    WithJsonSchema({"type": ["integer", "string"], "pattern": units.STATUS_PATTERN, "minimum": 100, "maximum": 599}),
]
"""A status code or a range of them."""
Text = Annotated[str, Field(min_length=1)]
Dotted = Annotated[str, Field(pattern=DOTTED_PATTERN)]
_NAMES = {"type": ["string", "array"], "pattern": NAME_PATTERN, "items": {"type": "string", "pattern": NAME_PATTERN}}
_TEXTS = {"type": ["string", "array"], "minLength": 1, "items": {"type": "string", "minLength": 1}}
Names = Annotated[tuple[Name, ...], BeforeValidator(_listed), Field(strict=False), WithJsonSchema(_NAMES)]
"""One name or a list of them."""
Paths = Annotated[tuple[Text, ...], BeforeValidator(_listed), Field(strict=False), WithJsonSchema(_TEXTS)]


Methods = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: _methods(value)),
    Field(strict=False),
    WithJsonSchema(
        {"type": ["string", "array"], "pattern": METHOD_PATTERN, "items": {"type": "string", "pattern": METHOD_PATTERN}}
    ),
]
"""One HTTP method or a list of them."""


class About(Part):
    """What people should know of a policy; changes nothing."""

    description: str | None = Field(default=None, description="What the policy protects.")
    owner: str | None = Field(default=None, description="Who answers for it.")
    runbook: str | None = Field(default=None, description="Where to read what to do when it fires, usually a URL.")
    depends_on: Annotated[tuple[Name, ...], Field(strict=False)] = Field(
        default=(), description="Policies that a call under this one leads to; lint multiplies their attempts."
    )


class ClassRule(Part):
    """What belongs to one class of outcomes."""

    exceptions: ExceptionTypes = Field(
        default=(), description="Exceptions by builtin name or dotted path, such as ConnectionError."
    )
    status: Annotated[tuple[Codes, ...], Field(strict=False)] = Field(
        default=(), description="Status codes of a response or of an error's response, such as 502 or 502-504."
    )


class Classify(Part):
    """Which outcomes count as what, for retry, breaker and adaptive limiter alike; neutral wins."""

    failure: ClassRule = Field(
        default=ClassRule(),
        description="Counts as a failure; with exceptions listed, unlisted ones are neutral and not retried.",
    )
    throttle: ClassRule = Field(
        default=ClassRule(),
        description="The server asked for less: retried, shrinks the adaptive limit, no failure for the breaker.",
    )
    neutral: ClassRule = Field(default=ClassRule(), description="Says nothing about the dependency.")


class PolicyFrame(Part):
    """A policy without its patterns."""

    about: About | None = Field(default=None, description="What people should know of the policy; changes nothing.")
    idempotent: bool | None = Field(
        default=None, description="Whether a call may safely run twice; false: only what never started is retried."
    )
    classify: Classify = Field(default=Classify(), description="Which outcomes count as what.")
    mode: Mode = Field(
        default="enforce",
        description="How the rejecting patterns act: enforce, observe (decide and report only), off, or a share.",
    )
    partition: Partition | None = Field(
        default=None, description="What the policy learns is kept apart for each host or key, in a bounded number."
    )
    order: Annotated[tuple[str, ...], Field(strict=False)] | None = Field(
        default=None, description="Patterns from the outermost in; every pattern that the policy has must be named."
    )


class Extending(PolicyFrame):
    """A policy or template without its patterns."""

    extends: Names | None = Field(
        default=(), description="Templates to build on, left to right; null in a policy: not even the defaults."
    )


class Settings(Part):
    """How the registry treats this document."""

    on_removed: Literal["keep", "reject"] = Field(
        default="keep",
        description="What happens to a policy in use that a reload removes: it goes on, or the reload is refused.",
    )
    on_unknown_policy: Literal["error", "default"] = Field(
        default="error", description="What a name that no policy has gets: an error, or the defaults."
    )
    shrink: Literal["guard", "allow"] = Field(
        default="guard", description="Whether a reload may drop more than half of the policies at once."
    )
    import_from: Annotated[tuple[Dotted, ...], Field(strict=False)] = Field(
        default=(), description="Packages that may be imported to look up exceptions."
    )


class Override(Part):
    """A change for the length of an incident, without the patch itself."""

    policy: Annotated[str, Field(pattern=POLICY_OR_ALL)] = Field(
        description="The policy that changes; * for all of them."
    )
    expires: Moment = Field(description="When the change ends by itself, such as 2026-12-01T00:00:00Z.")
    reason: Text = Field(description="Why, such as the incident's number.")
    by: Text = Field(description="Who made it.")


class FileFrame(Part):
    """What concerns one file alone."""

    version: Literal[1] = Field(description="Version of this language.")
    requires: str | None = Field(default=None, description="Releases of aioresilience that fit, such as >=0.3,<1.")
    include: Paths | None = Field(
        default=(),
        description="Files below this one's folder, and packs such as pack:http-client; they lie under this file.",
    )
    end: Literal[True] = Field(default=True, description="Optional last key: proves that the file is whole.")


def _host(value: object) -> object:
    if isinstance(value, str) and not _HOST.fullmatch(value):
        raise ValueError(f"{value!r} is not a host; write for example api.example.invalid, *.example.invalid or [::1]")
    return value


def _path(value: object) -> object:
    if isinstance(value, str) and not _URL_PATH.fullmatch(value):
        raise ValueError(f"{value!r} is not the beginning of a path; write for example /v1/")
    return value


def _methods(value: object) -> object:
    methods = _listed(value)
    for method in methods if isinstance(methods, list) else ():
        if isinstance(method, str) and not _METHOD.fullmatch(method):
            raise ValueError(f"{method!r} is not a method; write for example {method.strip().upper() or 'GET'}")
    return methods


class Route(Part):
    """Which outgoing HTTP requests a policy is for; what is not said fits every request."""

    host: Annotated[str, BeforeValidator(_host), WithJsonSchema({"type": "string", "pattern": HOST_PATTERN})] | None = (
        Field(default=None, description="Host, with * for any characters; with :port where only that port is meant.")
    )
    method: Methods = Field(default=(), description="One method, such as GET, or a list of them.")
    path: Annotated[str, BeforeValidator(_path), WithJsonSchema({"type": "string", "pattern": PATH_PATTERN})] | None = (
        Field(default=None, description="Beginning of the path, up to a /.")
    )
    policy: Name = Field(description="The policy under which such requests are made.")


class Frame(Part):
    """The document without the parts that hold pattern blocks."""

    service: Text | None = Field(default=None, description="The service that this document is for.")
    metadata: dict[str, object] | None = Field(default=None, description="Free facts about the document.")
    settings: Settings | None = Field(default=None, description="How the registry treats this document.")
    backends: dict[Name, BackendConfig | None] | None = Field(
        default=None, description="Servers that limits are shared through, by name."
    )
    routes: Annotated[tuple[Route, ...], Field(strict=False)] | None = Field(
        default=None, description="Which policy the HTTP clients use for a request; the first route that fits counts."
    )
