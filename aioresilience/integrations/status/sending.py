"""Answers in parts: what ten thousand policies make at once would hold the interpreter, and with it every loop."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Final, cast

from aioresilience.integrations.extras import extra
from aioresilience.integrations.status.view import Page, PolicyRow

with extra("fastapi", "FastAPI"):
    from fastapi.responses import Response, StreamingResponse

PART: Final = 1 << 16
"""Characters of one part, at least."""


def json_texts(shown: Page) -> Iterator[str]:
    """Write the registry's status with what the page adds to it: signs, rates, the last rejections."""
    policies = cast("Mapping[str, Mapping[str, object]]", shown.report["policies"])
    head: dict[str, object] = {name: value for name, value in shown.report.items() if name != "policies"}
    yield _json(head | {"signs": [sign.text for sign in shown.signs]})[:-1] + ',"policies":{'
    for number, row in enumerate(shown.policies):
        yield f"{',' if number else ''}{_json(row.name)}:{_json({**policies[row.name], **_added(row)})}"
    yield "}}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _added(row: PolicyRow) -> dict[str, object]:
    return {
        "level": row.level,
        "signs": [sign.text for sign in row.signs],
        "calls_per_second": row.calls_rate,
        "rejected_per_second": row.rejected_rate,
        "last_rejections": [asdict(rejection) for rejection in row.rejections],
    }


def in_parts(texts: Iterable[str], breathe: Callable[[], None]) -> list[bytes]:
    """Encode texts, several to a part."""
    parts: list[bytes] = []
    gathered: list[str] = []
    size = 0
    for text in texts:
        breathe()
        gathered.append(text)
        size += len(text)
        if size >= PART:
            parts.append("".join(gathered).encode())
            gathered, size = [], 0
    return [*parts, "".join(gathered).encode()]


def response(parts: list[bytes], media_type: str, headers: Mapping[str, str]) -> Response:
    """Return the answer of these parts, of known length."""
    length = {"Content-Length": str(sum(map(len, parts)))}
    return StreamingResponse(_each(parts), media_type=media_type, headers={**headers, **length})


async def _each(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def let_go(shown: Page, breathe: Callable[[], None]) -> None:
    """Take the page apart, policy by policy."""
    policies = cast("dict[str, object]", shown.report["policies"])
    for held in (shown.policies, policies):
        while held:
            held.pop() if isinstance(held, list) else held.popitem()
            breathe()
