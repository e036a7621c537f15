"""Files of other programs, which people hand in by mistake: one finding says so, instead of one for each key."""

from __future__ import annotations

from typing import Final, NamedTuple

from aioresilience.config.places import Block
from aioresilience.config.vocabulary import SECTIONS


class Kind(NamedTuple):
    """What a file is, and what to do about it."""

    name: str
    hint: str


_OURS: Final = frozenset((*SECTIONS, "backends", "routes", "include"))
_OWN_FILE: Final = "take the text below 'data' into a file of its own"
_REWRITE: Final = "write a policy for each instance; the hints of 'check' know the names of its fields"
_OTHER: Final = "give the path of a resilience.yaml, which begins with 'version: 1'"
_MARKS: Final = (
    (("apiVersion", "kind"), Kind("a Kubernetes manifest", _OTHER)),
    (("on", "jobs"), Kind("a GitHub workflow", _OTHER)),
    (("openapi", "paths"), Kind("an OpenAPI document", _OTHER)),
    (("static_resources",), Kind("a configuration of Envoy", _OTHER)),
)
_MANIFESTS: Final = {
    "ConfigMap": Kind("a Kubernetes ConfigMap", _OWN_FILE),
    "Secret": Kind("a Kubernetes Secret", _OWN_FILE),
    "Resiliency": Kind("a resiliency spec of Dapr", _REWRITE),
}


def foreign(document: Block) -> Kind | None:
    """Recognise the file of another program, unless it has a section of ours."""
    if _OURS.intersection(document):
        return None
    if _is_compose(document):
        return Kind("a Compose file", _OTHER)
    if any(key.startswith("resilience4j") for key in document):
        return Kind("a configuration of resilience4j", _REWRITE)
    kind = next((kind for keys, kind in _MARKS if all(key in document for key in keys)), None)
    manifest = document.get("kind")
    return _MANIFESTS.get(manifest, kind) if kind and isinstance(manifest, str) else kind


def _is_compose(document: Block) -> bool:
    services = document.get("services")
    held = services.values() if isinstance(services, Block) else ()
    return any(isinstance(one, Block) and ("image" in one or "build" in one) for one in held)
