"""Bytes to text: size, encoding and characters are checked before anything is parsed."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterator

from aioresilience.config.diagnostics import Diagnostic, diagnose
from aioresilience.config.places import Place, Source

MAX_BYTES = 8 * 1024 * 1024
_CHUNK = 1 << 15
_MAX_REPORTED = 20
_BOM = "\ufeff"
_BINARY = {
    "a picture": (b"\x89PNG", b"\xff\xd8\xff", b"GIF8"),
    "a PDF": (b"%PDF",),
    "a program": (b"\x7fELF", b"MZ"),
    "an archive": (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"),
    "a database": (b"SQLite format 3\0",),
}
"""How files begin that hold no text at all."""
_REFUSED = re.compile("[^\t\n\r -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_SIGNATURES = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ZEROS: dict[tuple[int, ...], str] = {
    (0, 1, 1, 1): "utf-32-le",
    (1, 1, 1, 0): "utf-32-be",
    (0, 1, 0, 1): "utf-16-le",
    (1, 0, 1, 0): "utf-16-be",
}


def decode(
    data: str | bytes, name: str, max_bytes: int, breathe: Callable[[], None]
) -> tuple[Source, list[Diagnostic]]:
    """Return the text with what is wrong with it; a text with findings must not be parsed."""
    if _size(data) > max_bytes:
        return Source(name, ""), [_too_large(name, max_bytes)]
    source, findings = _as_text(data, name)
    return source, findings or list(_refused_characters(source, breathe))


def _size(data: str | bytes) -> int:
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode("utf-8", "surrogatepass"))


def _too_large(name: str, max_bytes: int) -> Diagnostic:
    shown = f"{max_bytes / 2**20:.4g} MiB" if max_bytes >= 2**20 else f"{max_bytes} bytes"
    return diagnose(
        "AR102",
        Place("file", name, 1, 1),
        f"the file is larger than {shown}",
        hint="split it with include, or raise AIORESILIENCE_MAX_BYTES",
    )


def _as_text(data: str | bytes, name: str) -> tuple[Source, list[Diagnostic]]:
    if isinstance(data, str):
        return Source(name, data.removeprefix(_BOM)), []
    binary = next((kind for kind, begins in _BINARY.items() if data.startswith(begins)), None)
    if binary and _holds_no_text(data):
        return Source(name, ""), [_not_text(name, binary)]
    wide = _wide_encoding(data)
    if wide:
        return _wide_text(data, name, wide)
    try:
        return Source(name, data.decode("utf-8").removeprefix(_BOM)), []
    except UnicodeDecodeError as error:
        return _undecodable(data, name, error)


def _holds_no_text(data: bytes) -> bool:
    return any(byte < 9 for byte in data[:512])


def _not_text(name: str, kind: str) -> Diagnostic:
    return diagnose("AR103", Place("file", name, 1, 1), f"this is {kind}, no text", hint="give the path of a YAML file")


def _wide_encoding(data: bytes) -> str | None:
    for signature, encoding in _SIGNATURES:
        if data.startswith(signature):
            return encoding
    return _ZEROS.get(tuple(int(byte == 0) for byte in data[:4]))


def _wide_text(data: bytes, name: str, encoding: str) -> tuple[Source, list[Diagnostic]]:
    source = Source(name, data.decode(encoding, "replace").removeprefix(_BOM))
    label = encoding[:6].upper()
    return source, [
        diagnose("AR103", source.place(0), f"the text is {label}, not UTF-8", hint="save the file as UTF-8")
    ]


def _undecodable(data: bytes, name: str, error: UnicodeDecodeError) -> tuple[Source, list[Diagnostic]]:
    index = len(data[: error.start].decode("utf-8").removeprefix(_BOM))
    source = Source(name, data.decode("utf-8", "replace").removeprefix(_BOM))
    if error.reason == "unexpected end of data":
        message, hint = "the file ends inside a character", "the file was cut off; write it again, as UTF-8"
        return source, [diagnose("AR103", source.place(index), message, hint=hint)]
    latin = data[error.start : error.start + 1].decode("cp1252", "replace")
    guess = f"; in Windows-1252 it would be '{latin}'" if latin.isalpha() else ""
    message = f"the byte 0x{data[error.start]:02X} is not UTF-8{guess}"
    return source, [diagnose("AR103", source.place(index), message, hint="save the file as UTF-8")]


def _refused_characters(source: Source, breathe: Callable[[], None]) -> Iterator[Diagnostic]:
    reported = 0
    for start in range(0, len(source.text), _CHUNK):
        breathe()
        for found in _REFUSED.finditer(source.text, start, start + _CHUNK):
            yield _refused(source, found.start())
            reported += 1
            if reported == _MAX_REPORTED:
                return


def _refused(source: Source, index: int) -> Diagnostic:
    char = source.text[index]
    name = "NUL" if char == "\0" else unicodedata.name(char, "a control character").lower()
    if "\ud800" <= char <= "\udfff":
        name = "half a surrogate pair"
    message = f"the character U+{ord(char):04X} ({name}) is not allowed"
    return diagnose("AR104", source.place(index), message, hint="delete it, or write it as an escape in double quotes")
