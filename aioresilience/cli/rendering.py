"""`aioresilience render`: all layers of a document in one flat file that means the same."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from aioresilience.cli.console import say
from aioresilience.cli.reading import FINE, read
from aioresilience.cli.yaml_text import block
from aioresilience.config.vocabulary import POLICY_MAPS, TOP_LEVEL, Vocabulary
from aioresilience.policy import BUILTIN

LAST: Final = ("defaults", "templates", "shared", "policies", "environments", "overrides")
OF_ONE_FILE: Final = ("version", "requires", "include", "end")
ORDER: Final = (*(key for key in TOP_LEVEL if key not in (*LAST, *OF_ONE_FILE)), *LAST)
"""What a flat file may hold below its version, in the order in which it is read best."""
_IN_URL: Final = re.compile(r"://[^/\s]*:[^@/\s$]+@")


def render(files: Sequence[str], environment: str | None) -> int:
    """Print the flat file and return the exit code; raises ConfigError.

    Packs and includes are inlined, the environment is laid over; without one all of them stay. `${…}` stays as it was
    written, and variables that patch policies are left to whoever reads the file.
    """
    document = read(files, environment, variables=False)
    backends = document.layers.get("backends")
    for name, backend in backends.items() if isinstance(backends, dict) else ():
        if has_password(backend):
            say(f"note: the backend {name} holds a password in plain text, and so does this output", err=True)
    say(text_of(document.layers, environment).rstrip("\n"))
    return FINE


def has_password(backend: object) -> bool:
    """Tell whether a backend's password stands in it as such: not in a file, not in a variable."""
    if not isinstance(backend, Mapping):
        return False
    password, url = backend.get("password"), backend.get("url")
    plain = isinstance(password, str) and "${" not in password
    return plain or (isinstance(url, str) and _IN_URL.search(url) is not None)


def text_of(tree: Mapping[str, object], environment: str | None = None) -> str:
    """Return a document of all layers as the text of a file."""
    short = Shortening()
    kept = {key: short.section(key, tree[key]) for key in ORDER if key in tree}
    if environment is not None:
        kept.pop("environments", None)
    return block({"version": 1, **kept})


class Shortening:
    """Writes short forms where a pattern's block says only what its short form says."""

    def __init__(self) -> None:
        self._shorts = {key: one.short for key, one in Vocabulary(BUILTIN).types.items()}

    def section(self, key: str, value: object) -> object:
        """Return a section of a document with short forms."""
        if key in POLICY_MAPS and isinstance(value, Mapping):
            return {name: self._policy(one) for name, one in value.items()}
        if key == "defaults":
            return self._policy(value)
        if key == "environments" and isinstance(value, Mapping):
            return {name: self._overlay(one) for name, one in value.items()}
        if key == "overrides" and isinstance(value, list):
            return [
                {name: self._policy(item) if name == "set" else item for name, item in one.items()} for one in value
            ]
        return value

    def _overlay(self, overlay: object) -> object:
        if not isinstance(overlay, Mapping):
            return overlay
        return {key: self.section(key, value) for key, value in overlay.items()}

    def _policy(self, policy: object) -> object:
        if not isinstance(policy, Mapping):
            return policy
        return {key: self._pattern(key, value) for key, value in policy.items()}

    def _pattern(self, key: str, value: object) -> object:
        short = self._shorts.get(key)
        if short is None or not isinstance(value, Mapping) or list(value) != [short]:
            return value
        bare = value[short]
        return value if bare is None or isinstance(bare, Mapping) else bare
