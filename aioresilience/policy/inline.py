"""Writing methods out where they are called: a call on the path of every call would cost more than what it does.

A method is written out when it was asked for and its text is plain: assignments, branches, returns. Nothing changes in
what the text means: receiver and arguments are evaluated once, locals get names of their own, and a return becomes an
assignment. What cannot be written out, or whose source is not at hand, is called.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType
from typing import Final

from aioresilience.policy.notes import declared
from aioresilience.policy.returns import RAISED, without_returns
from aioresilience.policy.simplify import settled, threaded
from aioresilience.policy.texts import Text, text_of
from aioresilience.policy.trees import Changes, Statements, assigned, nodes, rewritten

_FIXED: Final = (bool, float, str)


class Writer:
    """Writes the `wanted` methods out in one text.

    `types` says of which class the objects of its names are, `fixed` which names stand for an attribute of another.
    """

    def __init__(
        self, types: Mapping[str, type], wanted: Iterable[Callable[..., object]], fixed: Mapping[tuple[str, str], str],
        constants: Mapping[str, object],
    ) -> None:  # fmt: skip
        self.constants = dict(constants)
        """What the text refers to beside its own names."""
        self._types: dict[str, type | None] = dict(types)
        self._wanted = frozenset(wanted)
        self._fixed = fixed
        self._lasting = frozenset(fixed.values())
        self._numbers = itertools.count(1)
        self._renaming = _renaming({}, lambda name: ast.Name(name, ast.Load()), fixed)

    def expand(self, statements: Iterable[ast.stmt]) -> Statements:
        """Return the statements with methods written out."""
        return threaded([new for statement in statements for new in self._expand(statement)], self.constants)

    def _expand(self, statement: ast.stmt) -> Statements:
        match statement:
            case ast.Assign([ast.Name(target)], value):
                return self._assign(target, value, statement)
            case ast.Expr(ast.Call() as call) if (text := self._text(call)) is not None:
                return self._write_out(text, call, None)
            case ast.Raise(ast.Call() as call, None) if (text := self._text(call)) is not None and not text.result:
                return self._write_out(text, call, RAISED)
            case ast.If():
                return self._branch(statement)
            case ast.Try():
                return [self._try(statement)]
        return [statement]

    def _try(self, statement: ast.Try) -> ast.Try:
        body, orelse = self.expand(statement.body), self.expand(statement.orelse)
        handlers = [ast.ExceptHandler(one.type, one.name, self.expand(one.body)) for one in statement.handlers]
        return ast.Try(body, handlers, orelse, statement.finalbody)

    def _assign(self, target: str, value: ast.expr, statement: ast.stmt) -> Statements:
        if isinstance(value, ast.IfExp):
            return self._branch(ast.If(value.test, [assigned(target, value.body)], [assigned(target, value.orelse)]))
        if isinstance(value, ast.Call) and (text := self._text(value)) is not None:
            return self._write_out(text, value, target)
        self._types[target] = self._type(value)
        return [statement]

    def _branch(self, statement: ast.If) -> Statements:
        before, test = self._hoisted(statement.test)
        test = settled(test, self.constants)
        if isinstance(test, ast.Constant):
            return before + self.expand(statement.body if test.value else statement.orelse)
        body, orelse = self.expand(statement.body), self.expand(statement.orelse)
        if not body and not orelse and not any(isinstance(node, ast.Call) for node in nodes([test])):
            return before
        return [*before, ast.If(test, body or [ast.Pass()], orelse)]

    def _hoisted(self, test: ast.expr) -> tuple[Statements, ast.expr]:
        """Write a method out before the test that calls it, where it is what the test does first."""
        match test:
            case ast.Call() if (text := self._text(test)) is not None:
                name = self._new("answer")
                return self._write_out(text, test, name), ast.Name(name, ast.Load())
            case ast.UnaryOp(ast.Not(), operand):
                before, operand = self._hoisted(operand)
                return before, ast.UnaryOp(ast.Not(), operand)
            case ast.Compare(left, ops, comparators):
                before, left = self._hoisted(left)
                return before, ast.Compare(left, ops, comparators)
        return [], test

    def _text(self, call: ast.Call) -> Text | None:
        """Return the text of the method that is called, None where it must be called."""
        if not isinstance(call.func, ast.Attribute) or call.keywords:
            return None
        owner = self._type(call.func.value)
        method = None if owner is None else inspect.getattr_static(owner, call.func.attr, None)
        return text_of(method) if isinstance(method, FunctionType) and method in self._wanted else None

    def _type(self, value: ast.expr) -> type | None:
        match value:
            case ast.Name(name):
                return self._types.get(name)
            case ast.Attribute(inner, name):
                owner = self._type(inner)
                return None if owner is None else declared(owner, name)
            case ast.Call(ast.Name(name)):
                made = self.constants.get(name)
                return made if isinstance(made, type) else None
        return None

    def _write_out(self, text: Text, call: ast.Call, target: str | None) -> Statements:
        assert isinstance(call.func, ast.Attribute)
        before: Statements = []
        meant: dict[str, ast.expr] = {name: ast.Name(self._new(name), ast.Load()) for name in text.stored}
        if target is not None and text.result in text.stored and text.result not in text.parameters:
            meant[text.result] = ast.Name(target, ast.Load())
        given = zip(("self", *text.parameters), (call.func.value, *call.args), strict=True)
        for name, value in given:
            value = rewritten(value, self._renaming)
            if name in text.stored or not isinstance(value, (ast.Name, ast.Constant)):
                new = meant.setdefault(name, ast.Name(self._new(name), ast.Load()))
                assert isinstance(new, ast.Name)
                before += self._assign(new.id, value, assigned(new.id, value))
            else:
                meant[name] = value
        changes = _renaming(meant, functools.partial(self._global, text.names), self._fixed)
        body = list(self._without_other_names(text, meant, changes))
        return before + self.expand(without_returns(body, target))

    def _without_other_names(self, text: Text, meant: dict[str, ast.expr], changes: Changes) -> Iterator[ast.stmt]:
        """Rewrite the body; a local that is but another name for what stays the same goes by that."""
        for statement in text.body:
            written = rewritten(statement, changes)
            match statement, written:
                case ast.Assign([ast.Name(local)]), ast.Assign([_], ast.Name(other)) if (
                    other in self._lasting and local in text.set_once
                ):
                    meant[local] = ast.Name(other, ast.Load())
                case _:
                    yield written

    def _new(self, name: str) -> str:
        return f"{name.strip('_')}_{next(self._numbers)}"

    def _global(self, names: Mapping[str, object], name: str) -> ast.expr:
        """Return what stands for a global name of a method: a plain value itself, else a name of the text."""
        if name not in names:
            return ast.Name(name, ast.Load())
        value = names[name]
        if isinstance(value, _FIXED):
            return ast.Constant(value)
        name = name.strip("_")
        while self.constants.setdefault(name, value) is not value or hasattr(builtins, name):
            name += "_"
        return ast.Name(name, ast.Load())


def _renaming(
    meant: Mapping[str, ast.expr], elsewhere: Callable[[str], ast.expr], fixed: Mapping[tuple[str, str], str]
) -> Changes:
    """Return what gives names the meaning that they have where a method is written out."""

    def named(node: ast.Name) -> ast.expr:
        other = meant.get(node.id)
        if other is None:
            return elsewhere(node.id)
        return ast.Name(other.id, node.ctx) if isinstance(other, ast.Name) else other

    def attribute(node: ast.Attribute) -> ast.expr:
        value = rewritten(node.value, changes)
        name = fixed.get((value.id, node.attr)) if isinstance(value, ast.Name) else None
        return ast.Attribute(value, node.attr, node.ctx) if name is None else ast.Name(name, node.ctx)

    def annotated(node: ast.AnnAssign) -> ast.stmt:
        assert node.value is not None
        return ast.Assign([rewritten(node.target, changes)], rewritten(node.value, changes), lineno=0)

    changes: Changes = {ast.Name: named, ast.Attribute: attribute, ast.AnnAssign: annotated}
    return changes
