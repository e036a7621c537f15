"""Inputs for the reader: files of the corpus with accidents, texts of YAML's own signs, and what must hold of each."""

from __future__ import annotations

import random
from pathlib import Path

from aioresilience.config import ConfigError, Diagnostic, Document, TextSource, load
from aioresilience.config.reading import read_tree
from aioresilience.policy import BUILTIN

CORPUS = Path(__file__).parents[1] / "config"
FILES = tuple(path.read_bytes() for path in sorted(CORPUS.glob("*/*.yaml")) if path.is_file())
SIGNS = (
    *": ,[]{}#&*!|>'\"%@`-?\\\n\t\r~=<",
    *("\n  ", "\n    ", ": ", "- ", "? ", "&a ", "*a", "!!str ", "<<: ", "---\n", "...\n", "|-\n", ">2\n"),
    *("''", '"\\x41"', "${X}", "${", "${X:-1}", "$$", "{{ a }}", "{% if %}"),
    *("\u00a0", "\ufeff", "\u2028", "支", "\U0001f525", "e\u0301"),
    *("null", "true", ".nan", "1e309", "0x1F", "-1", "2s", "50%", "5/second", "502-504", "9" * 120, "1_000"),
)
WORDS = (
    *("version", "policies", "templates", "shared", "defaults", "environments", "overrides", "settings", "backends"),
    *("routes", "metadata", "service", "include", "requires", "end", "extends", "use", "mode", "order", "classify"),
    *("timeout", "retry", "circuit_breaker", "bulkhead", "rate_limiter", "fallback", "deadline", "load_shedder"),
    *("max_attempts", "window", "partition", "expires", "reason", "by", "set", "policy", "a", "t", "pack:http-client"),
)


def accident(rng: random.Random) -> bytes:
    """Return a file of the corpus to which a few accidents happened."""
    data = rng.choice(FILES)
    for _ in range(rng.randrange(1, 6)):
        data = rng.choice((_cut, _doubled, _inserted, _replaced, _shifted, _joined))(rng, data)
    return data[:20_000]


def _span(rng: random.Random, data: bytes, most: int = 40) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.randrange(1, most))


def _cut(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _doubled(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data, 200)
    return data[:end] + data[start:end] * rng.randrange(1, 4) + data[end:]


def _inserted(rng: random.Random, data: bytes) -> bytes:
    start, _ = _span(rng, data)
    return data[:start] + rng.choice(SIGNS + WORDS).encode() + data[start:]


def _replaced(rng: random.Random, data: bytes) -> bytes:
    start, _ = _span(rng, data)
    return data[:start] + bytes([rng.randrange(256)]) + data[start + 1 :]


def _shifted(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = rng.choice((b" ", b"  ", b"\t", b"- ")) + lines[at] if rng.random() < 0.7 else lines[at].strip()
    return b"\n".join(lines)


def _joined(rng: random.Random, data: bytes) -> bytes:
    return data + rng.choice((b"\n", b"---\n", b"")) + rng.choice(FILES)[: rng.randrange(1, 300)]


def signs(rng: random.Random) -> bytes:
    """Return a text of signs and words in any order, as the cases of YAML's test suite look."""
    text = "".join(rng.choice(SIGNS if rng.random() < 0.6 else WORDS) for _ in range(rng.randrange(1, 40)))
    return (rng.choice(("version: 1\n", "", "version: 1\npolicies:\n  a: ")) + text).encode()


def check(data: bytes, *, in_service: bool = True) -> None:
    """Load a text both ways; whatever it is, the answer is a document or a ConfigError that people can read."""
    diagnostics = _load(data, in_service=in_service)
    for one in diagnostics:
        _check_shown(one, data)
    _check_parsers(data)


def _load(data: bytes, *, in_service: bool) -> tuple[Diagnostic, ...]:
    found, document = _read(data, in_service=in_service)
    if document is None:
        assert any(one.severity == "error" for one in found)
    else:
        again = _read(data, in_service=in_service)[1]
        assert again is not None
        assert again.revision == document.revision
    return found


def _read(data: bytes, *, in_service: bool) -> tuple[tuple[Diagnostic, ...], Document | None]:
    source, environ = TextSource(data, "f.yaml"), {"X": "5"}
    try:
        document = load(source, patterns=BUILTIN, environ=environ, environment="production", in_service=in_service)
    except ConfigError as error:
        return error.diagnostics, None
    return document.findings, document


def _check_shown(one: Diagnostic, data: bytes) -> None:
    shown = str(one)
    assert one.message
    assert all(char.isprintable() or char == "\n" for char in shown), shown
    assert len(shown) < 4000, shown
    assert one.line <= data.count(b"\n") + data.count(b"\r") + 1


def _check_parsers(data: bytes) -> None:
    """Both parsers refuse a text, or give the same tree: what broke the syntax first they may call by other names."""
    fast, slow = (read_tree(data, "f.yaml", parser=parser) for parser in ("libyaml", "pure"))
    assert bool(fast.diagnostics) == bool(slow.diagnostics)
    if not fast.diagnostics:
        assert repr(fast.root) == repr(slow.root)
