"""Reading files of many policies: CPU seconds of `check`, beside PyYAML's loaders with plain pydantic models."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import yaml
from pydantic import BaseModel, ConfigDict

from aioresilience.config import TextSource, load
from aioresilience.policy import BUILTIN

GOALS = {1_000: 0.5}
"""CPU seconds of a check."""


class Strict(BaseModel):
    """Refuses unknown fields, as ours does."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Retry(Strict):
    """A retry block."""

    max_attempts: int
    initial_delay: str


class Bulkhead(Strict):
    """A bulkhead block."""

    max_concurrent: int
    max_waiting: int


class Policy(Strict):
    """A policy, its durations and rates unread."""

    extends: str
    idempotent: bool
    timeout: str
    rate_limiter: str
    retry: Retry
    bulkhead: Bulkhead


class File(Strict):
    """The file."""

    version: int
    templates: dict[str, dict[str, str]]
    policies: dict[str, Policy]


def text_of(policies: int) -> str:
    """Return a file of so many policies, no two alike."""
    block = (
        "  policy-{n}:\n    extends: base\n    idempotent: true\n    timeout: {ms}ms\n    rate_limiter: {rate}/second\n"
        "    retry: {{max_attempts: {tries}, initial_delay: {n}ms}}\n"
        "    bulkhead: {{max_concurrent: {rate}, max_waiting: {n}}}\n"
    )
    listed = (block.format(n=n, ms=n + 100, rate=n + 1, tries=2 + n % 3) for n in range(policies))
    return "version: 1\ntemplates:\n  base: {deadline: 5m}\npolicies:\n" + "".join(listed)


def ours(text: str) -> object:
    """Check a file as `aioresilience check` does, lint included."""
    return load(TextSource(text), patterns=BUILTIN, environ={}, in_service=False)


def pure(text: str) -> object:
    """Read it with PyYAML's safe loader, and check nothing."""
    return yaml.load(text, yaml.SafeLoader)


def quick(text: str) -> object:
    """Read it with the loader on libyaml, and check it with pydantic."""
    return File.model_validate(yaml.load(text, yaml.CSafeLoader))


SUBJECTS: Mapping[str, Callable[[str], object]] = {
    "aioresilience check": ours, "CSafeLoader + pydantic": quick, "SafeLoader": pure,
}  # fmt: skip


def seconds(subject: Callable[[str], object], text: str, rounds: int) -> float:
    """Return the best CPU seconds of some rounds."""
    taken = []
    for _ in range(rounds):
        begun = time.process_time()
        subject(text)
        taken.append(time.process_time() - begun)
    return min(taken)


def show() -> dict[str, dict[str, float]]:
    """Measure, print the table and return it; the slow one reads the small file only."""
    table: dict[str, dict[str, float]] = {}
    print("\nCPU seconds for a file of so many policies, best of some rounds\n")
    print(f"{'':24}" + "".join(f"{count:>10}" for count in (1_000, 10_000)) + "    goal")
    for name, subject in SUBJECTS.items():
        counts = {1_000: 5, 10_000: 2} if subject is not pure else {1_000: 1}
        row = {str(count): round(seconds(subject, text_of(count), rounds), 3) for count, rounds in counts.items()}
        table[name] = row
        goal = f"{GOALS[1_000]} at 1,000" if subject is ours else ""
        print(f"{name:24}" + "".join(f"{row.get(str(count), '-'):>10}" for count in (1_000, 10_000)) + f"    {goal}")
    return table


if __name__ == "__main__":
    show()
