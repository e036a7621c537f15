"""Lint, AR4xx: what works and is probably not what was meant. It never refuses a document."""

from aioresilience.config.lint.code import Use, compare_code, uses_in
from aioresilience.config.lint.run import lint
from aioresilience.config.lint.subject import Subject

__all__ = ["Subject", "Use", "compare_code", "lint", "uses_in"]
