"""The servers of a registry: one live object for each name, kept across reloads."""

from __future__ import annotations

from collections.abc import Mapping

from aioresilience.backends import Backend, BackendConfig


class Backends:
    """Makes a backend when the first policy needs it, and follows the document."""

    def __init__(self) -> None:
        self._configs: Mapping[str, BackendConfig] = {}
        self._live: dict[str, Backend] = {}

    def get(self, name: str) -> Backend:
        """Return the backend of that name, which starts nothing before its first check."""
        backend = self._live.get(name)
        if backend is None:
            backend = self._live[name] = Backend(name, self._configs[name])
        return backend

    def expect(self, configs: Mapping[str, BackendConfig]) -> None:
        """Know the backends of a document for which policies are built, besides those of the one in effect."""
        self._configs = {**self._configs, **configs}

    def follow(self, configs: Mapping[str, BackendConfig]) -> None:
        """Go on as the document in effect says; one that it leaves out rests until a retired policy asks it."""
        self._configs = configs
        for name, backend in self._live.items():
            if name in configs:
                backend.retune(configs[name])
            else:
                backend.rest()

    def close(self) -> None:
        """Give back all leases and close all connections; the next check opens them again."""
        for backend in list(self._live.values()):
            backend.close()

    def status(self) -> dict[str, object]:
        """Return how every server in use is, fit for JSON."""
        return {name: backend.status() for name, backend in self._live.items()}
