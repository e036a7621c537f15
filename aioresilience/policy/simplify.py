"""Tests that are certain before a call: what writing methods out leaves of them is taken out."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from aioresilience.policy.trees import Statements


def settled(test: ast.expr, objects: Mapping[str, object]) -> ast.expr:
    """Return a test without what is certain before the call; `objects` are what names mean that never change."""
    match test:
        case ast.UnaryOp(ast.Not(), operand):
            operand = settled(operand, objects)
            return (
                ast.Constant(not operand.value)
                if isinstance(operand, ast.Constant)
                else ast.UnaryOp(ast.Not(), operand)
            )
        case ast.BoolOp(op, values):
            return _settled_bool(op, [settled(value, objects) for value in values])
        case ast.Compare(ast.Name(left), [ast.Is() | ast.IsNot() as op], [ast.Name(right)]) if left == right:
            return ast.Constant(isinstance(op, ast.Is))
        case ast.Compare(ast.Name(left), [ast.Is() | ast.IsNot() as op], [ast.Name(right)]) if (
            left in objects and right in objects
        ):
            return ast.Constant((objects[left] is objects[right]) == isinstance(op, ast.Is))
        case ast.Compare(ast.Constant(left), [ast.Is() | ast.IsNot() as op], [ast.Constant(None)]):
            return ast.Constant((left is None) == isinstance(op, ast.Is))
    return test


def _settled_bool(op: ast.boolop, values: list[ast.expr]) -> ast.expr:
    ending = isinstance(op, ast.Or)
    left: list[ast.expr] = []
    for value in values:
        if not isinstance(value, ast.Constant):
            left.append(value)
        elif bool(value.value) is ending:
            left.append(value)
            break
    if not left:
        return ast.Constant(not ending)
    return left[0] if len(left) == 1 else ast.BoolOp(op, left)


def threaded(statements: Statements, objects: Mapping[str, object]) -> Statements:
    """Return the statements with a test moved into the branches before it that set what it looks at.

    There the answer is mostly certain; `objects` are what names mean that never change.
    """
    done: Statements = []
    for statement in statements:
        before = done[-1] if done else None
        name = looked_at(statement.test) if isinstance(statement, ast.If) else None
        if name is not None and isinstance(before, ast.If) and _all_set(before, name):
            assert isinstance(statement, ast.If)
            done[-1] = _moved(before, name, statement, objects)
        else:
            done.append(statement)
    return done


def looked_at(test: ast.expr) -> str | None:
    """Return the one name that a plain test looks at."""
    match test:
        case ast.Name(name) | ast.UnaryOp(ast.Not(), ast.Name(name)):
            return name
        case ast.Compare(ast.Name(name), [ast.Is() | ast.IsNot()], [ast.Constant(None)]):
            return name
    return None


def _all_set(statement: ast.If, name: str) -> bool:
    return all(_sets(branch, name) for branch in (statement.body, statement.orelse))


def _sets(branch: Sequence[ast.stmt], name: str) -> bool:
    match branch[-1:]:
        case [ast.Assign([ast.Name(target)], _)]:
            return target == name
        case [ast.If() as inner]:
            return _all_set(inner, name)
    return False


def _moved(before: ast.If, name: str, test: ast.If, objects: Mapping[str, object]) -> ast.If:
    something, known = _set_where(before.test)
    body = _followed(before.body, name, test, objects, something if known else None)
    return ast.If(before.test, body, _followed(before.orelse, name, test, objects, None if known else something))


def _set_where(test: ast.expr) -> tuple[str | None, bool]:
    """Return the name that a test finds to be None or not, and whether it is something where the test holds."""
    match test:
        case ast.Compare(ast.Name(name), [ast.Is() | ast.IsNot() as op], [ast.Constant(None)]):
            return name, isinstance(op, ast.IsNot)
    return None, False


def _followed(
    branch: Statements, name: str, test: ast.If, objects: Mapping[str, object], something: str | None
) -> Statements:
    last = branch[-1]
    if isinstance(last, ast.If):
        return [*branch[:-1], _moved(last, name, test, objects)]
    assert isinstance(last, ast.Assign)
    known = objects if something is None or len(branch) > 1 else {**objects, something: ...}  # surely not None
    answer = settled(_with_value(test.test, last.value, known), objects)
    kept = branch[:-1] if name.startswith("answer_") else branch
    if not isinstance(answer, ast.Constant):
        return [*branch, test]
    return [*kept, *(test.body if answer.value else test.orelse)] or [ast.Pass()]


def _with_value(test: ast.expr, value: ast.expr, objects: Mapping[str, object]) -> ast.expr:
    """Return a plain test with the value that its name has been given."""
    none = _is_none(value, objects)
    match test:
        case ast.Compare(_, [op], _) if none is not None:
            return ast.Constant(none == isinstance(op, ast.Is))
        case ast.UnaryOp(ast.Not(), _) if isinstance(value, ast.Constant):
            return ast.Constant(not value.value)
        case ast.Name() if isinstance(value, ast.Constant):
            return value
    return test


def _is_none(value: ast.expr, objects: Mapping[str, object]) -> bool | None:
    """Tell whether a value is None; None itself where that is not certain."""
    match value:
        case ast.Constant(known):
            return known is None
        case ast.Tuple():
            return False
        case ast.Name(name) if name in objects:
            return objects[name] is None
    return None
