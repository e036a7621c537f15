"""What names in a file mean: exceptions by a safe lookup, callables by the name the service gave them."""

from __future__ import annotations

import builtins
import importlib
import re
from collections.abc import Callable, Collection, Mapping
from itertools import accumulate
from typing import Final

from aioresilience.config.diagnostics import Severity, suggest
from aioresilience.extras import is_installed
from aioresilience.failures import ExceptionName, ExceptionType

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_BUILTIN: Final = {
    name: value for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)
}


MAX_PACKAGES: Final = 1000
"""Packages that are looked for, which takes the time of a search on disk each."""


class NameProblem(ValueError):
    """A name that cannot be used, with its diagnostic's id."""

    def __init__(self, code: str, message: str, hint: str = "", severity: Severity = "error") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.severity: Severity = severity


class KnownNames:
    """Resolves names while a document is read.

    Builtins and paths under `import_from` resolve at once; any other path stays pending, and nothing else is imported.
    Outside of a service, absent packages and callables are notes.
    """

    __slots__ = ("_absent", "_callables", "_found", "_import_from", "_in_service", "lenient")

    def __init__(
        self, import_from: Collection[str], callables: Mapping[str, Callable[..., object]], *, in_service: bool
    ) -> None:
        self._import_from = frozenset(import_from)
        self._callables = callables
        self._in_service = in_service
        self._found: dict[str, ExceptionType | NameProblem] = {}
        self._absent: dict[str, bool] = {}
        self.lenient = False
        """Whether what would be a note is passed over, to go on with the rest."""

    @property
    def pending(self) -> tuple[ExceptionName, ...]:
        """The exceptions whose modules were not looked into."""
        return tuple(found for found in self._found.values() if isinstance(found, ExceptionName))

    def exception(self, name: str) -> ExceptionType:
        """Return the class, or the pending name."""
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = self._look_up(name)
        if not isinstance(found, NameProblem):
            return found
        if self.lenient and found.severity == "note":
            return ExceptionName(name)
        raise found

    def callable(self, name: str) -> Callable[..., object]:
        """Return the function given under that name."""
        given = self._callables.get(name)
        if given is not None:
            return given
        if self.lenient and not self._in_service:
            return _absent_callable
        near = suggest(name, self._callables)
        hint = f"did you mean '{near}'?" if near else _CALLABLE_FIX
        raise NameProblem("AR305", f"no callable is registered as {name!r}", hint, self._absence())

    def _absence(self) -> Severity:
        return "error" if self._in_service else "note"

    def _look_up(self, name: str) -> ExceptionType | NameProblem:
        try:
            return self._resolve(name.removeprefix("builtins."))
        except NameProblem as problem:
            return problem

    def _resolve(self, name: str) -> ExceptionType:
        if not _DOTTED.fullmatch(name):
            raise NameProblem(
                "AR306", f"{name!r} is not the name of an exception", "write a builtin name or a dotted path"
            )
        if "." not in name:
            return _builtin(name)
        if self._import_from and any(one in self._import_from for one in accumulate(name.split("."), "{}.{}".format)):
            return _imported(name)
        package = name.partition(".")[0]
        if self._is_absent(package):
            raise NameProblem("AR306", f"the package {package!r} is not installed", _PACKAGE_FIX, self._absence())
        return ExceptionName(name)

    def _is_absent(self, package: str) -> bool:
        if package not in self._absent:
            if len(self._absent) >= MAX_PACKAGES:
                raise NameProblem("AR306", f"more than {MAX_PACKAGES} packages are named, up to {package!r}")
            self._absent[package] = not is_installed(package)
        return self._absent[package]


_PACKAGE_FIX = "install it where the service runs, or correct the name"
_EXCEPTION_FIX = "name a class that derives from Exception"
_CALLABLE_FIX = "pass it in callables=, or register it before loading"


def _absent_callable(*args: object, **kwargs: object) -> object:
    raise LookupError("the callable is not known outside of the service")


def _builtin(name: str) -> ExceptionType:
    found = _BUILTIN.get(name)
    if found is not None:
        return found
    if hasattr(builtins, name):
        raise NameProblem("AR307", f"{name!r} is not an exception that a policy can handle", _EXCEPTION_FIX)
    near = suggest(name, _BUILTIN)
    hint = f"did you mean '{near}'?" if near else "name an exception outside of builtins by its dotted path"
    raise NameProblem("AR306", f"{name!r} is not a builtin exception", hint)


def _imported(path: str) -> ExceptionType:
    module, rest = _module(path)
    found: object = module
    for step in rest:
        below = getattr(found, step, None)
        if below is None:
            near = suggest(step, [name for name, value in vars(found).items() if _is_exception(value)])
            hint = f"did you mean '{near}'?" if near else ""
            raise NameProblem("AR306", f"{path!r} cannot be found: there is no {step!r} in it", hint)
        found = below
    if isinstance(found, type) and issubclass(found, Exception):
        return found
    raise NameProblem("AR307", f"{path!r} is not an exception class", _EXCEPTION_FIX)


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _module(path: str) -> tuple[object, list[str]]:
    """Import the longest prefix that is a module; return it with the steps that are left."""
    steps = path.split(".")
    for end in range(len(steps) - 1, 0, -1):
        name = ".".join(steps[:end])
        try:
            return importlib.import_module(name), steps[end:]
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise NameProblem("AR306", f"{name!r} cannot be imported: {error}") from error
        except (Exception, SystemExit) as error:
            raise NameProblem("AR306", f"{name!r} cannot be imported: {type(error).__name__}: {error}") from error
    raise NameProblem("AR306", f"{path!r} cannot be found: the package {steps[0]!r} is not installed")
