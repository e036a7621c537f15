"""The living thing: policies of one document, kept current."""

from aioresilience.registry.default import configure, get_registry
from aioresilience.registry.registry import Registry
from aioresilience.registry.results import Change, Plan, ReloadResult

__all__ = ["Change", "Plan", "Registry", "ReloadResult", "configure", "get_registry"]
