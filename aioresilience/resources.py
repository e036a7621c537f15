"""The files that come with the library: the ready-made policies, the JSON Schema, what the demo runs under."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["policies", "schemas", "demo"]

_PACKAGE = Path(__file__).resolve().parent
_STANDS_AT = {"demo": "examples/demo"}


def folder(kind: Kind) -> Path:
    """Return the folder that holds all files of a kind.

    Raises:
        FileNotFoundError: neither the package carries it (a wheel) nor does it stand beside it (a source tree).
    """
    carried, beside = _places(kind)
    if carried.is_dir():
        return carried
    if beside.is_dir():
        return beside
    raise FileNotFoundError(f"the library's folder {kind!r} is missing: looked for {carried} and {beside}")


def resource(kind: Kind, name: str) -> Path:
    """Return the path of a file that comes with the library, such as `("policies", "http-client.yaml")`.

    Raises:
        FileNotFoundError: no such file, neither in the package nor beside it.
        ValueError: the name is not that of a file directly in the folder.
    """
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise ValueError(f"not the name of a file in {kind}: {name!r}")
    carried, beside = _places(kind)
    path = (carried if carried.is_dir() else beside) / name
    if path.is_file():
        return path
    raise FileNotFoundError(f"no {name!r} among the library's {kind}: looked for {carried / name} and {beside / name}")


def _places(kind: Kind) -> tuple[Path, Path]:
    # A wheel's own copy first: beside an installed package, `policies` may be somebody else's.
    return _PACKAGE / "_data" / kind, _PACKAGE.parent / _STANDS_AT.get(kind, kind)
