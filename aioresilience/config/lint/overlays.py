"""Rules about environments."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from aioresilience.config.diagnostics import Diagnostic, diagnose
from aioresilience.config.lint.subject import Subject
from aioresilience.config.places import Block
from aioresilience.config.spelling import suggest

MOST_NAMES, MOST_POLICIES = 10, 1000
"""New names that are looked at, and policies that they are compared with: a large file must not take long."""


def near_miss(subject: Subject) -> Iterator[Diagnostic]:
    """AR419: a policy that only an environment has, with nearly the name of one that is there without it."""
    policies = _policies(subject.tree)
    if len(policies) > MOST_POLICIES:
        return
    for environment, overlay, name in islice(_added(subject.tree, policies), MOST_NAMES):
        subject.breathe()
        near = suggest(name, [one for one in policies if policies[one] is not overlay.get(one)])
        if near:
            message = f"only the environment '{environment}' has the policy '{name}'"
            path = ("environments", environment, "policies", name)
            yield diagnose("AR419", overlay.key_place(name), message, hint=f"did you mean '{near}'?", path=path)


def _added(tree: Block, policies: Block) -> Iterator[tuple[str, Block, str]]:
    """Yield the policies that only an environment has; where it is the one in effect, its very block is the policy."""
    environments = tree.get("environments")
    for environment, overlay in environments.items() if isinstance(environments, Block) else ():
        added = _policies(overlay)
        for name, policy in added.items():
            if name not in policies or policies[name] is policy:
                yield environment, added, name


def _policies(tree: object) -> Block:
    """Return the policies of a document or an overlay."""
    held = tree.get("policies") if isinstance(tree, Block) else None
    return held if isinstance(held, Block) else Block()
