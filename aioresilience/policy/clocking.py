"""One reading for all that happens at one instant: what is read between two awaits is read once."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from aioresilience.policy.trees import Changes, Statements, assigned, copied, nodes, rewritten


def read_once(statements: Iterable[ast.stmt], what: Reading) -> Statements:
    """Return the statements with every reading that follows another without an await as the same local.

    Where the paths meet after a branch that awaits or an error, that branch reads anew, so that the other need not.
    """
    return _Once(what).run(list(statements), known=False)[0]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read, and the local that keeps it."""

    name: str
    kind: type[ast.expr]
    text: str
    is_one: Callable[[ast.AST], bool]

    def made(self) -> ast.stmt:
        """Write out a reading."""
        return assigned(self.name, ast.parse(self.text, mode="eval").body)


def _is_instant(node: ast.AST) -> bool:
    if type(node) is not ast.Call or node.args:
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    return name == "monotonic"


def _is_audience(node: ast.AST) -> bool:
    return type(node) is ast.Attribute and node.attr == "steady" and getattr(node.value, "id", None) == "audience"


INSTANT: Final = Reading("now", ast.Call, "monotonic()", _is_instant)
AUDIENCE: Final = Reading("heard", ast.Attribute, "audience.steady", _is_audience)


class _Once:
    def __init__(self, what: Reading) -> None:
        self._what = what
        self._changes: Changes = {what.kind: self._changed}

    def _changed(self, node: ast.expr) -> ast.expr:
        return ast.Name(self._what.name, ast.Load()) if self._what.is_one(node) else copied(node, self._changes)

    def _reads(self, *parts: ast.AST) -> bool:
        return any(map(self._what.is_one, nodes(parts)))

    def run(self, statements: Statements, *, known: bool) -> tuple[Statements, bool]:
        """Return the statements, and whether the local is known after them."""
        done: Statements = []
        for index, statement in enumerate(statements):
            match statement:
                case ast.If():
                    new, known = self._branch(statement, known, statements[index + 1 :])
                case ast.Try():
                    new, known = self._try(statement, known)
                case _:
                    new, known = self._plain(statement, known)
            done += new
        return done, known

    def _plain(self, statement: ast.stmt, known: bool) -> tuple[Statements, bool]:
        within = nodes([statement])
        if not any(map(self._what.is_one, within)):
            return [statement], known and not _awaits(*within)
        before = [] if known else [self._what.made()]
        return [*before, rewritten(statement, self._changes)], not _awaits(*within)

    def _branch(self, statement: ast.If, known: bool, rest: Statements) -> tuple[Statements, bool]:
        before: Statements = []
        if not known and self._reads(statement.test):
            before, known = [self._what.made()], True
        body, after = self.run(statement.body, known=known)
        orelse, other = self.run(statement.orelse, known=known)
        body, orelse, known = self._meet(body, after, orelse, other, rest)
        return [*before, ast.If(rewritten(statement.test, self._changes), body, orelse)], known

    def _meet(
        self, body: Statements, after: bool, orelse: Statements, other: bool, rest: Statements
    ) -> tuple[Statements, Statements, bool]:
        if _leaves(body):
            return body, orelse, other
        if _leaves(orelse):
            return body, orelse, after
        soon = after is not other and self._soon(rest)
        if other and not after and (soon or _awaits(*nodes(body))):
            return [*body, self._what.made()], orelse, True
        if soon and after:
            return body, [*orelse, self._what.made()], True
        return body, orelse, after and other

    def _soon(self, statements: Statements) -> bool | None:
        """Tell whether a reading comes before an await; None where neither comes for sure."""
        for statement in statements:
            match statement:
                case ast.If():
                    ways = self._soon(statement.body), self._soon(statement.orelse)
                    found = True if self._reads(statement.test) or True in ways else None if None in ways else False
                case ast.Try():
                    found = self._soon(statement.body)
                case _:
                    found = True if self._reads(statement) else False if _awaits(*nodes([statement])) else None
            if found is not None:
                return found
        return None

    def _try(self, statement: ast.Try, known: bool) -> tuple[Statements, bool]:
        body, known = self.run(statement.body, known=known)
        orelse, known = self.run(statement.orelse, known=known)
        handlers = [self._handler(handler, known) for handler in statement.handlers]
        ending, _ = self.run(statement.finalbody, known=False)
        return [ast.Try(body, handlers, orelse, ending)], known and not _awaits(*nodes(ending))

    def _handler(self, handler: ast.ExceptHandler, known: bool) -> ast.ExceptHandler:
        body, after = self.run(handler.body, known=False)
        missing = known and not after and not _leaves(body)
        return ast.ExceptHandler(handler.type, handler.name, [*body, self._what.made()] if missing else body)


def _awaits(*within: ast.AST) -> bool:
    return any(isinstance(node, ast.Await) for node in within)


def _leaves(body: Statements) -> bool:
    return bool(body) and isinstance(body[-1], (ast.Raise, ast.Return))
