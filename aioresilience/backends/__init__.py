"""Servers that limits are shared through: Redis and Valkey, alone, behind sentinels or as a cluster."""

from aioresilience.backends.backend import Backend
from aioresilience.backends.checks import Answer, Place
from aioresilience.backends.client import MissingExtraError
from aioresilience.backends.config import BackendConfig, SecretFile, Sentinels, Tls

__all__ = ["Answer", "Backend", "BackendConfig", "MissingExtraError", "Place", "SecretFile", "Sentinels", "Tls"]
