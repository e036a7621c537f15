"""The text of methods: found beside their code, and plain enough to stand elsewhere."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Final

from aioresilience.policy.returns import may_return
from aioresilience.policy.trees import nodes, stored

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


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a plain method."""

    parameters: tuple[str, ...]
    """Those after `self`."""
    body: tuple[ast.stmt, ...]
    names: Mapping[str, object]
    """What its global names mean."""
    stored: tuple[str, ...]
    """Its locals that it assigns to."""
    set_once: frozenset[str]
    """Those of them that it assigns to in one place only, and does not return."""

    @property
    def result(self) -> str:
        """The local that it ends by returning, which may have the name of what becomes of it."""
        match self.body[-1:]:
            case [ast.Return(ast.Name(name))]:
                return name
        return ""


@functools.cache
def text_of(method: FunctionType) -> Text | None:
    """Return the text of a method, None where there is none to be found, it is not plain, or the file has changed."""
    function = _parsed(method.__code__)
    if not isinstance(function, ast.FunctionDef) or not _is_simple(function.args) or not _is_plain(function.body):
        return None
    function.decorator_list = []
    if not _is_what_runs(function, method):
        return None
    names = [argument.arg for argument in function.args.args]
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return Text(tuple(names[1:]), tuple(body), method.__globals__, *_locals(body, names))


def _locals(body: Sequence[ast.stmt], parameters: Sequence[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    counted = Counter(stored(body))
    ends = {node.value.id for node in nodes(body) if isinstance(node, ast.Return) and isinstance(node.value, ast.Name)}
    once = {name for name, count in counted.items() if count == 1} - ends - {*parameters}
    return tuple(counted), frozenset(once)


def _parsed(code: CodeType) -> ast.stmt | None:
    """Return the statement that has the code; mostly the code tells its last line, which `inspect` has to count out."""
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    last = max(end or 0 for _, end, _, _ in code.co_positions())
    return _statement(lines[: last - code.co_firstlineno + 1]) or _statement(inspect.getblock(lines))


def _statement(lines: Sequence[str]) -> ast.stmt | None:
    try:
        return ast.parse(textwrap.dedent("".join(lines))).body[0]
    except (IndexError, SyntaxError):
        return None


def _is_simple(arguments: ast.arguments) -> bool:
    others = (arguments.vararg, arguments.kwarg, *arguments.posonlyargs, *arguments.kwonlyargs, *arguments.defaults)
    return bool(arguments.args) and not any(others)


def _is_plain(body: Sequence[ast.stmt]) -> bool:
    within = nodes(body)
    plain = all(isinstance(node, _PLAIN) for node in within if isinstance(node, ast.stmt))
    tries = [node for node in within if isinstance(node, ast.Try)]
    return (
        plain
        and not any(isinstance(node, _NOT_PLAIN) or _is_super(node) for node in within)
        and not any(map(may_return, tries))
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
