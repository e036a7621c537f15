"""Every diagnostic that exists, by id: AR1xx YAML, AR2xx schema, AR3xx reference, AR4xx lint. Ids are never reused."""

from __future__ import annotations

from collections.abc import Mapping

from aioresilience.config.catalogue_document import DOCUMENT
from aioresilience.config.catalogue_lint import LINT
from aioresilience.config.catalogue_reading import READING
from aioresilience.config.entry import Entry, Severity

__all__ = ["CATALOGUE", "Entry", "Severity"]

CATALOGUE: Mapping[str, Entry] = {**READING, **DOCUMENT, **LINT}
