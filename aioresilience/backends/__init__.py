"""Servers that limits are shared through: Redis and Valkey, alone, behind sentinels or as a cluster."""

from aioresilience.backends.backend import Backend
from aioresilience.backends.checks import NOTHING, Answer, Charge, Place
from aioresilience.backends.client import MissingExtraError, config_of
from aioresilience.backends.config import BackendConfig, SecretFile, Sentinels, Tls

__all__ = [
    "NOTHING",
    "Answer",
    "Backend",
    "BackendConfig",
    "Charge",
    "MissingExtraError",
    "Place",
    "SecretFile",
    "Sentinels",
    "Tls",
    "config_of",
]
