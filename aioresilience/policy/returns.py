"""Methods without their returns: each becomes an assignment, and what follows one moves into the other branch."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Final

from aioresilience.policy.trees import Statements, assigned, nodes

RAISED: Final = "raise"
"""The target of a method whose result is raised: no local may keep an error, which has the frame in its traceback."""


def without_returns(body: Sequence[ast.stmt], target: str | None) -> Statements:
    """Return the body with assignments in place of returns: what follows one moves into the other branch."""
    for index, statement in enumerate(body):
        done, rest = list(body[:index]), list(body[index + 1 :])
        if isinstance(statement, ast.Return):
            return done + _answer(statement.value, target)
        if isinstance(statement, ast.Raise):
            return [*done, statement]
        if isinstance(statement, ast.If) and may_return(statement):
            return [*done, _split(statement, rest, target)]
    return [*body, *_answer(None, target)]


def _split(statement: ast.If, rest: Statements, target: str | None) -> ast.If:
    yes, no = statement.body, statement.orelse
    if not _ends(yes):
        yes = [*yes, *rest]
    if not _ends(no):
        no = [*no, *rest]
    return ast.If(statement.test, without_returns(yes, target), without_returns(no, target))


def may_return(statement: ast.stmt) -> bool:
    """Tell whether there is a way out of the method in it."""
    return any(isinstance(node, (ast.Return, ast.Raise)) for node in nodes([statement]))


def _ends(body: Sequence[ast.stmt]) -> bool:
    """Tell whether nothing after the body is reached."""
    if not body:
        return False
    last = body[-1]
    return isinstance(last, (ast.Return, ast.Raise)) or (
        isinstance(last, ast.If) and _ends(last.body) and _ends(last.orelse)
    )


def _answer(value: ast.expr | None, target: str | None) -> Statements:
    if target is RAISED:
        return [ast.Raise(value)]
    if isinstance(value, ast.Name) and value.id == target:
        return []
    if target is not None:
        return [assigned(target, ast.Constant(None) if value is None else value)]
    if isinstance(value, ast.IfExp):
        return [ast.If(value.test, _answer(value.body, None), _answer(value.orelse, None))]
    return [] if value is None or isinstance(value, (ast.Name, ast.Constant)) else [ast.Expr(value)]
