"""docs/diagnostics.md: every diagnostic with its cause, its fix, and what it looks like in the corpus of the tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aioresilience.config import CATALOGUE

CORPUS: Final = Path(__file__).parents[2] / "tests" / "config" / "bad"
_ID: Final = re.compile(r"(?:error|warning|note) (AR\d+)")
_FIX: Final = re.compile(r"\^ \S|= \S")
_FAMILIES: Final = {
    "AR1": "AR1xx: reading the text",
    "AR2": "AR2xx: the fields of the document",
    "AR3": "AR3xx: what the document refers to",
    "AR4": "AR4xx: lint",
}
_START: Final = """\
# Diagnostics

What `aioresilience check`, and a service that starts or reloads, say about a file. An id never changes its meaning:

```text
resilience.yaml:14:7: error AR201 policies.payments.retry: unknown field 'max_atempts'
   14 |       max_atempts: 3
      |       ^^^^^^^^^^^ did you mean 'max_attempts'?
```

File, line and column; how bad it is; the id; the place in the document; the cause. Below, the line with a caret under
the very token, and the fix. Where a value came through several layers, `= lies over …` names each place that it covers.

Errors refuse a file: a service goes on with what it had, or does not start. Warnings and notes never do. Lint never
refuses a file either, not even its errors: at run time it is an event and a line in the status, and `check` exits with
3. A comment silences it on one line: `# aioresilience: ignore[AR402] why`.
"""


def diagnostics_page(_: str = "") -> str:
    """Return the page."""
    pictures = dict(_pictures())
    lines = [_START, *_contents()]
    for code, entry in CATALOGUE.items():
        lines.append(f"## {code}\n\n**{entry.title}** {entry.severity.capitalize()}.\n\n{entry.cause}\n")
        if code in pictures:
            lines.append(f"```text\n{pictures[code]}\n```\n")
        elif entry.example:
            lines.append("\n".join(f"    {line}" for line in entry.example.splitlines()) + "\n")
        lines.append(f"Fix: {entry.fix[:1].lower()}{entry.fix[1:]}\n")
    return "\n".join(lines)


def _contents() -> Iterator[str]:
    for family, title in _FAMILIES.items():
        yield f"**{title}**\n"
        found = ((code, entry) for code, entry in CATALOGUE.items() if code.startswith(family))
        yield "\n".join(f"- [{code}](#{code.lower()}) {entry.title}" for code, entry in found) + "\n"


def _pictures() -> Iterator[tuple[str, str]]:
    """Yield how each id is shown: in a file named after it if there is one, with a fix, and short."""
    found: dict[str, list[tuple[bool, bool, int, str]]] = {}
    for path in sorted(CORPUS.glob("*.txt")):
        for shown in re.split(r"\n(?=\S)", path.read_text(encoding="utf-8").rstrip()):
            code = _ID.search(shown)
            if code is not None:
                text = shown.replace(f"{path.stem}.yaml", "resilience.yaml").replace(f"{path.stem}.py", "service.py")
                named = path.stem.startswith(code[1].lower())
                rank = (not named, not _FIX.search(text), len(text), text)
                found.setdefault(code[1], []).append(rank)
    for each, ranked in found.items():
        yield each, min(ranked)[-1]
