"""The language of resilience.yaml: text to document, with every error at its place; and every config class."""

from aioresilience.adaptive_concurrency import AdaptiveConcurrencyConfig
from aioresilience.backends import BackendConfig, SecretFile
from aioresilience.backpressure import BackpressureConfig
from aioresilience.bulkhead import BulkheadConfig
from aioresilience.circuit_breaker import CircuitConfig
from aioresilience.config.diagnostics import CATALOGUE, ConfigError, Diagnostic, diagnose
from aioresilience.config.document import About, Settings
from aioresilience.config.load import load
from aioresilience.config.routes import find as find_route
from aioresilience.config.schema import json_schema, schema_text, write_schema
from aioresilience.config.sources import AnySource, FileSource, MappingSource, TextSource
from aioresilience.config.spec import Document, OverrideSpec, PolicySpec, SharedSpec
from aioresilience.fallback import FallbackConfig
from aioresilience.load_shedding import LoadSheddingConfig
from aioresilience.rate_limiting import RateLimitConfig, RateLimiterConfig
from aioresilience.retry import RetryConfig
from aioresilience.timeout import DeadlineConfig, TimeoutConfig

__all__ = [
    "CATALOGUE",
    "About",
    "AdaptiveConcurrencyConfig",
    "AnySource",
    "BackendConfig",
    "BackpressureConfig",
    "BulkheadConfig",
    "CircuitConfig",
    "ConfigError",
    "DeadlineConfig",
    "Diagnostic",
    "Document",
    "FallbackConfig",
    "FileSource",
    "LoadSheddingConfig",
    "MappingSource",
    "OverrideSpec",
    "PolicySpec",
    "RateLimitConfig",
    "RateLimiterConfig",
    "RetryConfig",
    "SecretFile",
    "Settings",
    "SharedSpec",
    "TextSource",
    "TimeoutConfig",
    "diagnose",
    "find_route",
    "json_schema",
    "load",
    "schema_text",
    "write_schema",
]
