"""Writing methods out where they are called: a call on the path of every call would cost more than what it does.

A method is written out when it was asked for and its text is plain: assignments, branches, returns. Nothing changes in
what the text means: receiver and arguments are evaluated once, locals get names of their own, and a return becomes an
assignment. What cannot be written out, or whose source is not at hand, is called.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import inspect
import itertools
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType, UnionType
from typing import Final, get_args, get_origin

from aioresilience.policy.simplify import Statements, settled, threaded

_FUTURES: Final = 0x1FFF000
"""The flags of a code object that tell which __future__ its module imports."""
_PLAIN: Final = (
    ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Delete, ast.Expr, ast.If, ast.Return, ast.Raise, ast.Pass, ast.Assert,
    ast.Try,
)  # fmt: skip
_NOT_PLAIN: Final = (
    ast.Await, ast.Yield, ast.YieldFrom, ast.Lambda, ast.NamedExpr, ast.ListComp, ast.SetComp, ast.DictComp,
    ast.GeneratorExp, ast.Starred,
)  # fmt: skip
_FIXED: Final = (bool, float, str)


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a plain method."""

    parameters: tuple[str, ...]
    """Those after `self`."""
    source: str
    names: Mapping[str, object]
    """What its global names mean."""

    def body(self) -> Statements:
        """Return the statements, to be changed at will: parsing costs a tenth of copying."""
        return ast.parse(self.source).body


@functools.cache
def text_of(method: FunctionType) -> Text | None:
    """Return the text of a method, None where there is none to be found, it is not plain, or the file has changed."""
    try:
        lines = linecache.getlines(method.__code__.co_filename)[method.__code__.co_firstlineno - 1 :]
        source = textwrap.dedent("".join(inspect.getblock(lines)))  # inspect.getsource would look at every module
        function = ast.parse(source).body[0]
    except (IndexError, SyntaxError):
        return None
    if not isinstance(function, ast.FunctionDef) or not _is_simple(function.args) or not _is_plain(function.body):
        return None
    function.decorator_list = []
    if not _is_what_runs(function, method):
        return None
    names = [argument.arg for argument in function.args.args]
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return Text(tuple(names[1:]), ast.unparse(ast.Module(body, [])), method.__globals__)


def _is_simple(arguments: ast.arguments) -> bool:
    others = (arguments.vararg, arguments.kwarg, *arguments.posonlyargs, *arguments.kwonlyargs, *arguments.defaults)
    return bool(arguments.args) and not any(others)


def _is_plain(body: Sequence[ast.stmt]) -> bool:
    nodes = [node for statement in body for node in ast.walk(statement)]
    plain = all(isinstance(node, _PLAIN) for node in nodes if isinstance(node, ast.stmt))
    tries = [node for node in nodes if isinstance(node, ast.Try)]
    return (
        plain
        and not any(isinstance(node, _NOT_PLAIN) or _is_super(node) for node in nodes)
        and not any(map(_may_return, tries))
    )


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("super", "__class__")


def _is_what_runs(function: ast.FunctionDef, method: FunctionType) -> bool:
    """Tell whether the text gives the very code of the method: its file may have changed since."""
    module = ast.Module([function], type_ignores=[])
    flags = method.__code__.co_flags & _FUTURES
    whole = compile(module, "", "exec", flags=flags, dont_inherit=True)
    made = next(constant for constant in whole.co_consts if isinstance(constant, CodeType))
    code = method.__code__
    return (made.co_code, made.co_consts, made.co_names) == (code.co_code, code.co_consts, code.co_names)


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
        self._numbers = itertools.count(1)

    def expand(self, statements: Iterable[ast.stmt]) -> Statements:
        """Return the statements with methods written out."""
        return threaded([new for statement in statements for new in self._expand(statement)], self.constants)

    def _expand(self, statement: ast.stmt) -> Statements:
        match statement:
            case ast.Assign([ast.Name(target)], value):
                return self._assign(target, value, statement)
            case ast.Expr(ast.Call() as call) if (text := self._text(call)) is not None:
                return self._write_out(text, call, None)
            case ast.If():
                return self._branch(statement)
            case ast.Try():
                statement.body, statement.orelse = self.expand(statement.body), self.expand(statement.orelse)
                for handler in statement.handlers:
                    handler.body = self.expand(handler.body)
        return [statement]

    def _assign(self, target: str, value: ast.expr, statement: ast.stmt) -> Statements:
        if isinstance(value, ast.IfExp):
            return self._branch(ast.If(value.test, [_set(target, value.body)], [_set(target, value.orelse)]))
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
        if not body and not orelse and not any(isinstance(node, ast.Call) for node in ast.walk(test)):
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
        statements = text.body()
        stored = _stored(statements)
        meant: dict[str, ast.expr] = {name: ast.Name(self._new(name), ast.Load()) for name in stored}
        result = _result(statements)
        if target is not None and result in stored and result not in text.parameters:
            meant[result] = ast.Name(target, ast.Load())
        given = zip(("self", *text.parameters), (call.func.value, *call.args), strict=True)
        for name, value in given:
            value = _Rename({}, lambda name: ast.Name(name, ast.Load()), self._fixed).visit(value)
            if name in stored or not isinstance(value, (ast.Name, ast.Constant)):
                new = meant.setdefault(name, ast.Name(self._new(name), ast.Load()))
                assert isinstance(new, ast.Name)
                before += self._assign(new.id, value, _set(new.id, value))
            else:
                meant[name] = value
        rename = _Rename(meant, functools.partial(self._global, text.names), self._fixed)
        body = [rename.visit(statement) for statement in statements]
        return before + self.expand(_without_returns(body, target))

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


def _result(body: Sequence[ast.stmt]) -> str:
    """Return the local that a method ends by returning, which may have the name of what becomes of it."""
    match body[-1:]:
        case [ast.Return(ast.Name(name))]:
            return name
    return ""


def _set(target: str, value: ast.expr) -> ast.Assign:
    return ast.Assign([ast.Name(target, ast.Store())], value)


def declared(owner: type, name: str) -> type | None:
    """Return the class that an annotation promises for an attribute, None where it promises no single one."""
    for cls in owner.__mro__:
        if name in inspect.get_annotations(cls):
            return _class_of(_note(cls, name))
    return None


def finals(owner: type) -> Iterator[tuple[str, type]]:
    """Return the attributes that a class declares as Final with their classes: those that stay the same object."""
    for cls in owner.__mro__:
        for name in inspect.get_annotations(cls):
            note = _note(cls, name)
            kind = _class_of(note) if get_origin(note) is Final else None
            if kind is not None:
                yield name, kind


def _note(cls: type, name: str) -> object:
    note = inspect.get_annotations(cls)[name]
    if not isinstance(note, str):
        return note
    try:
        return eval(note, dict(vars(sys.modules[cls.__module__])))
    except Exception:  # a name that only type checkers import
        return None


def _class_of(note: object) -> type | None:
    if get_origin(note) is Final:
        (note,) = get_args(note)
    if isinstance(note, UnionType):
        kinds = [kind for kind in note.__args__ if kind is not type(None)]
        note = kinds[0] if len(kinds) == 1 else None
    return note if isinstance(note, type) else None


def _stored(body: Sequence[ast.stmt]) -> list[str]:
    nodes = [node for statement in body for node in ast.walk(statement)]
    names = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return list(dict.fromkeys(names))


class _Rename(ast.NodeTransformer):
    """Gives names the meaning that they have where a method is written out."""

    def __init__(
        self, meant: Mapping[str, ast.expr], elsewhere: Callable[[str], ast.expr], fixed: Mapping[tuple[str, str], str]
    ) -> None:
        self._meant = meant
        self._elsewhere = elsewhere
        self._fixed = fixed

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        value = self.visit(node.value)
        fixed = self._fixed.get((value.id, node.attr)) if isinstance(value, ast.Name) else None
        return ast.Attribute(value, node.attr, node.ctx) if fixed is None else ast.Name(fixed, node.ctx)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        meant = self._meant.get(node.id)
        if meant is None:
            return self._elsewhere(node.id)
        return ast.Name(meant.id, node.ctx) if isinstance(meant, ast.Name) else meant

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        assert node.value is not None
        return ast.Assign([self.visit(node.target)], self.visit(node.value))


def _without_returns(body: Sequence[ast.stmt], target: str | None) -> Statements:
    """Return the body with assignments in place of returns: what follows one moves into the other branch."""
    for index, statement in enumerate(body):
        done, rest = list(body[:index]), list(body[index + 1 :])
        if isinstance(statement, ast.Return):
            return done + _answer(statement.value, target)
        if isinstance(statement, ast.Raise):
            return [*done, statement]
        if isinstance(statement, ast.If) and _may_return(statement):
            return [*done, _split(statement, rest, target)]
    return [*body, *_answer(None, target)]


def _split(statement: ast.If, rest: Statements, target: str | None) -> ast.If:
    yes, no = statement.body, statement.orelse
    both = not _ends(yes) and not _ends(no)
    if not _ends(yes):
        yes = [*yes, *(copy.deepcopy(rest) if both else rest)]
    if not _ends(no):
        no = [*no, *rest]
    return ast.If(statement.test, _without_returns(yes, target), _without_returns(no, target))


def _may_return(statement: ast.stmt) -> bool:
    return any(isinstance(node, (ast.Return, ast.Raise)) for node in ast.walk(statement))


def _ends(body: Sequence[ast.stmt]) -> bool:
    """Tell whether nothing after the body is reached."""
    if not body:
        return False
    last = body[-1]
    return isinstance(last, (ast.Return, ast.Raise)) or (
        isinstance(last, ast.If) and _ends(last.body) and _ends(last.orelse)
    )


def _answer(value: ast.expr | None, target: str | None) -> Statements:
    if isinstance(value, ast.Name) and value.id == target:
        return []
    if target is not None:
        return [_set(target, ast.Constant(None) if value is None else value)]
    if isinstance(value, ast.IfExp):
        return [ast.If(value.test, _answer(value.body, None), _answer(value.orelse, None))]
    return [] if value is None or isinstance(value, (ast.Name, ast.Constant)) else [ast.Expr(value)]
