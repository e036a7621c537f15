"""Whether the secret files that backends name can be read; what is in them is read when a connection is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from aioresilience.backends import BackendConfig, SecretFile
from aioresilience.config.diagnostics import Severity
from aioresilience.config.places import Block
from aioresilience.config.report import Report, shown
from aioresilience.config.tree import locate

FIELDS: Final = ("url", "password")


def check_secret_files(tree: Block, backends: Mapping[str, BackendConfig], report: Report, *, in_service: bool) -> None:
    """Report the files that cannot be read: an error in a service, a note elsewhere."""
    severity: Severity = "error" if in_service else "note"
    for name, backend in backends.items():
        for field in FIELDS:
            value = getattr(backend, field)
            if isinstance(value, SecretFile) and not os.access(value.file, os.R_OK):
                path = ("backends", name, field, "file")
                message = f"the secret file {shown(value.file)} cannot be read"
                hint = "mount it, or correct the path"
                report.add("AR317", locate(tree, path), message, hint=hint, path=path, severity=severity)
