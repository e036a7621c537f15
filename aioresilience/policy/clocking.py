"""One reading of the clock for all that happens at one instant: what is read between two awaits is read once."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Final

Statements = list[ast.stmt]

_NOW: Final = "now"


def read_once(statements: Iterable[ast.stmt]) -> Statements:
    """Return the statements with every `…monotonic()` that follows another without an await as the same `now`.

    Where the paths meet after a branch that awaits or an error, that branch reads anew, so that the other need not.
    """
    return _Clocking().run(statements, known=False)[0]


class _Clocking:
    def run(self, statements: Iterable[ast.stmt], *, known: bool) -> tuple[Statements, bool]:
        """Return the statements, and whether `now` is known after them."""
        done: Statements = []
        for statement in statements:
            new, known = self._one(statement, known)
            done += new
        return done, known

    def _one(self, statement: ast.stmt, known: bool) -> tuple[Statements, bool]:
        match statement:
            case ast.If():
                before, known = self._read(statement.test, known)
                statement.test = _Now().visit(statement.test)
                body, after = self.run(statement.body, known=known)
                orelse, other = self.run(statement.orelse, known=known)
                statement.body, statement.orelse, known = _meet(body, after, orelse, other)
                return [*before, statement], known
            case ast.Try():
                return self._try(statement, known)
        before, known = self._read(statement, known)
        return [*before, _Now().visit(statement)], known and not _awaits(statement)

    def _try(self, statement: ast.Try, known: bool) -> tuple[Statements, bool]:
        statement.body, known = self.run(statement.body, known=known)
        statement.orelse, known = self.run(statement.orelse, known=known)
        for handler in statement.handlers:
            handler.body, after = self.run(handler.body, known=False)
            if known and not after and not _leaves(handler.body):
                handler.body.append(_reading())
        statement.finalbody, after = self.run(statement.finalbody, known=False)
        return [statement], known and not _awaits(ast.Module(statement.finalbody, []))

    @staticmethod
    def _read(part: ast.AST, known: bool) -> tuple[Statements, bool]:
        """Return the reading that the part needs before it."""
        if known or not any(_is_reading(node) for node in ast.walk(part)):
            return [], known
        return [_reading()], True


def _meet(body: Statements, after: bool, orelse: Statements, other: bool) -> tuple[Statements, Statements, bool]:
    if _leaves(body):
        return body, orelse, other
    if _leaves(orelse):
        return body, orelse, after
    if other and not after and _awaits(ast.Module(body, [])):
        return [*body, _reading()], orelse, True
    return body, orelse, after and other


def _reading() -> ast.stmt:
    return ast.Assign([ast.Name(_NOW, ast.Store())], ast.Call(ast.Name("monotonic", ast.Load()), [], []))


def _is_reading(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or node.args:
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    return name == "monotonic"


def _awaits(part: ast.AST) -> bool:
    return any(isinstance(node, ast.Await) for node in ast.walk(part))


def _leaves(body: Statements) -> bool:
    return bool(body) and isinstance(body[-1], (ast.Raise, ast.Return))


class _Now(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.expr:
        return ast.Name(_NOW, ast.Load()) if _is_reading(node) else self.generic_visit(node)  # type: ignore[return-value]
