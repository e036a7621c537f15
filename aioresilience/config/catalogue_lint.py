"""The diagnostics of lint, AR4xx: what works and is probably not what was meant; never refuses a file."""

from __future__ import annotations

from collections.abc import Mapping

from aioresilience.config.entry import Entry

LINT: Mapping[str, Entry] = {
    "AR402": Entry(
        "The attempts do not fit into the deadline.",
        "Attempts times timeout, plus the delays between them, exceed the deadline, so the last attempts never run.",
        "Lower `max_attempts` or `timeout`, or raise `deadline`.",
        "{deadline: 5s, timeout: 3s, retry: 4}",
        "warning",
    ),
}
