"""The servers of a registry: one live object for each name, kept across reloads."""

from __future__ import annotations

from collections.abc import Mapping

from aioresilience.backends import Backend, BackendConfig


class Backends:
    """Makes a backend when the first policy needs it, and follows the document."""

    def __init__(self, configs: Mapping[str, BackendConfig]) -> None:
        self._configs = configs
        self._live: dict[str, Backend] = {}

    def get(self, name: str, configs: Mapping[str, BackendConfig] | None = None) -> Backend:
        """Return the backend of that name; `configs` are those of a document that is not in effect yet."""
        backend = self._live.get(name)
        if backend is None:
            known = self._configs if configs is None else configs
            backend = self._live[name] = Backend(name, known[name])
        return backend

    def follow(self, configs: Mapping[str, BackendConfig]) -> None:
        """Let every backend go on under its new config; one that is gone goes on as it was, for retired policies."""
        self._configs = configs
        for name, backend in self._live.items():
            if name in configs:
                backend.retune(configs[name])

    def close(self) -> None:
        """Give back all leases and close all connections; the next check opens them again."""
        for backend in list(self._live.values()):
            backend.close()

    def status(self) -> dict[str, object]:
        """Return how every server in use is, fit for JSON."""
        return {name: backend.status() for name, backend in self._live.items()}
