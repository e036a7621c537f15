"""One reading of the clock for all that happens at one instant: what is read between two awaits is read once."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Final

from aioresilience.policy.trees import Changes, Statements, assigned, copied, nodes, rewritten

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
                body, after = self.run(statement.body, known=known)
                orelse, other = self.run(statement.orelse, known=known)
                body, orelse, known = _meet(body, after, orelse, other)
                return [*before, ast.If(rewritten(statement.test, _NOW_AT), body, orelse)], known
            case ast.Try():
                return self._try(statement, known)
        within = nodes([statement])
        if not any(map(_is_reading, within)):
            return [statement], known and not _awaits(*within)
        before = [] if known else [_reading()]
        return [*before, rewritten(statement, _NOW_AT)], not _awaits(*within)

    def _try(self, statement: ast.Try, known: bool) -> tuple[Statements, bool]:
        body, known = self.run(statement.body, known=known)
        orelse, known = self.run(statement.orelse, known=known)
        handlers = [self._handler(handler, known) for handler in statement.handlers]
        ending, _ = self.run(statement.finalbody, known=False)
        return [ast.Try(body, handlers, orelse, ending)], known and not _awaits(*nodes(ending))

    def _handler(self, handler: ast.ExceptHandler, known: bool) -> ast.ExceptHandler:
        body, after = self.run(handler.body, known=False)
        missing = known and not after and not _leaves(body)
        return ast.ExceptHandler(handler.type, handler.name, [*body, _reading()] if missing else body)

    @staticmethod
    def _read(part: ast.AST, known: bool) -> tuple[Statements, bool]:
        """Return the reading that the part needs before it."""
        if known or not any(_is_reading(node) for node in nodes([part])):
            return [], known
        return [_reading()], True


def _meet(body: Statements, after: bool, orelse: Statements, other: bool) -> tuple[Statements, Statements, bool]:
    if _leaves(body):
        return body, orelse, other
    if _leaves(orelse):
        return body, orelse, after
    if other and not after and _awaits(*nodes(body)):
        return [*body, _reading()], orelse, True
    return body, orelse, after and other


def _reading() -> ast.stmt:
    return assigned(_NOW, ast.Call(ast.Name("monotonic", ast.Load()), [], []))


def _is_reading(node: ast.AST) -> bool:
    if type(node) is not ast.Call or node.args:
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    return name == "monotonic"


def _awaits(*within: ast.AST) -> bool:
    return any(isinstance(node, ast.Await) for node in within)


def _leaves(body: Statements) -> bool:
    return bool(body) and isinstance(body[-1], (ast.Raise, ast.Return))


def _now_at(call: ast.Call) -> ast.AST:
    return ast.Name(_NOW, ast.Load()) if _is_reading(call) else copied(call, _NOW_AT)


_NOW_AT: Final[Changes] = {ast.Call: _now_at}
