"""Secrets of a document: what must never show in a text, and the files that hold it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aioresilience.config.diagnostics import Severity
from aioresilience.config.interpolate import Absent
from aioresilience.config.places import Block, Node
from aioresilience.config.report import Report, hide

MAX_BYTES: Final = 64 * 1024
_PASSWORDS: Final = ("password", "secret", "token")


def keep_secrets(document: Block, report: Report, *, in_service: bool, looked: Callable[[str], None]) -> None:
    """Hide every password under `backends`, and what secret files hold; report files that cannot be read.

    `looked` is told every secret file, there or not.
    """
    backends = document.get("backends")
    for name, backend in backends.items() if isinstance(backends, Block) else ():
        if not isinstance(backend, Block):
            continue
        for key, value in backend.items():
            if isinstance(value, Block) and set(value) == {"file"}:
                path = ("backends", name, key)
                if isinstance(value["file"], str):
                    looked(value["file"])
                hide(report, _content(value, report, path, "error" if in_service else "note"))
            else:
                hide(report, _secret(key, value))


def _secret(key: str, value: Node) -> str:
    if isinstance(value, (Block, list)) or value is None:
        return ""
    if key in _PASSWORDS:
        return str(value)
    try:
        return urlsplit(str(value)).password or ""
    except ValueError:
        return ""


def _content(block: Block, report: Report, path: tuple[str, ...], severity: Severity) -> str:
    """Return what a secret file holds, without its last line break; empty where it cannot be read."""
    name = block["file"]
    if not isinstance(name, str) or isinstance(name, Absent) or not name:
        return ""
    try:
        with Path(name).open("rb") as file:
            return _text(file.read(MAX_BYTES + 1))
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "").lower() or str(error)
        message = f"the secret file cannot be read: {reason}"
        hint = "mount it, or correct the path"
        report.add("AR317", block.value_place("file"), message, hint=hint, path=(*path, "file"), severity=severity)
        return ""


def _text(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 10} KiB")
    try:
        text = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not text:
        raise ValueError("it is empty")
    return text
