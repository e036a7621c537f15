"""The floors of the house, held by reading every import."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2] / "aioresilience"

# Bottom up. A module imports from lower floors only.
FLOORS = (
    ("exceptions", "events", "logging", "units", "clock", "resources", "extras", "straight", "forks", "collector"),
    (
        *("callables", "timers", "scope", "waiters", "calls", "failures", "fields", "counts", "modes"),
        *("pattern", "recovering", "guard", "bound", "backends"),
    ),
    (
        *("circuit_breaker", "retry", "timeout", "bulkhead", "fallback", "backpressure", "adaptive_concurrency"),
        *("rate_limiting", "load_shedding"),
    ),
    ("policy", "config"),
    ("registry",),
    ("decorators", "integrations", "testing", "cli", "__main__"),
)
FLOOR = {module: number for number, modules in enumerate(FLOORS) for module in modules}

# On these floors a module may also import from those named before it on its own floor: the contract is built up in
# steps, config reads what policy composes, and `python -m aioresilience` is the command line.
STEPPED = {1, 3, 5}

# A leaf imports nothing of ours, but what a user's handler or callback raises has to be logged.
LEAF_PAIRS = {
    *(("events", "logging"), ("exceptions", "logging"), ("exceptions", "events")),
    *(("events", "forks"), ("collector", "forks")),
}

# Who may import what, by path within the package; the one module of yaml and of redis is whichever comes first.
HOMES = {
    "starlette": ("integrations",),
    "fastapi": ("integrations",),
    "httpx": ("integrations",),
    "httpx2": ("integrations",),
    "aiohttp": ("integrations",),
    "django": ("integrations",),
    "flask": ("integrations",),
    "prometheus_client": ("integrations",),
    "opentelemetry": ("integrations",),
    "typer": ("cli",),
    "rich": ("cli",),
}
IN_ONE_MODULE = ("yaml", "redis")

# The public functions of the root that have a module's name: `from aioresilience import retry` is not the module.
FUNCTIONS_OF_THE_ROOT = {"retry", "timeout", "bulkhead", "fallback", "circuit_breaker"}


@dataclass(frozen=True)
class Import:
    """One imported module, in dots, and where."""

    file: str
    line: int
    name: str
    in_function: bool

    @property
    def importer(self) -> str:
        return Path(self.file).parts[0].removesuffix(".py")

    @property
    def ours(self) -> bool:
        return self.name.split(".")[0] == "aioresilience"

    @property
    def room(self) -> str:
        """Name our module that stands on a floor; empty for the root itself."""
        return self.name.partition(".")[2].split(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: imports {self.name}"


def test_the_table_of_contributing_is_this_one():
    text = (HOUSE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.search(r"^\| floor \|.*?\n\n", text, re.MULTILINE | re.DOTALL)
    assert table is not None
    rows = [set(re.findall(r"`(\w+)`", row)) for row in table[0].splitlines() if re.match(r"\| \d", row)]
    assert rows == [set(modules) for modules in FLOORS]


def imports_of(source: str, file: str) -> Iterator[Import]:
    """Find every import of a file, at any depth, `if TYPE_CHECKING` and import_module("…") included."""
    tree = ast.parse(source, file)
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        for name in _names(node, file):
            yield Import(file, node.lineno, name, id(node) in inside)


def _names(node: ast.AST, file: str) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            package = ["aioresilience", *Path(file).parent.parts]
            base = [*package[: len(package) - level + 1], module or ""] if level else [module or ""]
            origin = ".".join(part for part in base if part)
            modules = {alias.name for alias in names} - FUNCTIONS_OF_THE_ROOT
            if origin != "aioresilience" or len(modules) < len(names):
                yield origin
            else:
                yield from (f"aioresilience.{name}" for name in modules)
        case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[ast.Constant(value=str(name)), *_]):
            if called in ("import_module", "__import__"):
                yield name if not name.startswith(".") else f"aioresilience{name}"


def house() -> list[Import]:
    files = sorted(HOUSE.rglob("*.py"))
    # The root stands above the floors: the block for type checkers in it names every module.
    files.remove(HOUSE / "__init__.py")
    return [
        found
        for path in files
        for found in imports_of(path.read_text(encoding="utf-8"), path.relative_to(HOUSE).as_posix())
    ]


def broken(imports: list[Import]) -> list[str]:
    """Say which of our own imports go up, sideways, through the root or into a function."""
    return [f"{found}: {why}" for found in imports if found.ours and (why := _why_not(found))]


def _why_not(found: Import) -> str | None:
    if found.in_function:
        return "our own modules are imported at the top of the file"
    if found.room == "__version__" or found.room == found.importer:
        return None
    if found.room not in FLOOR:
        return "a name is imported from its own module, not from the root"
    above = FLOOR[found.importer] - FLOOR[found.room]
    if above > 0 or (above == 0 and _steps_up(found)):
        return None
    return f"floor {FLOOR[found.importer]} must not import from floor {FLOOR[found.room]}"


def _steps_up(found: Import) -> bool:
    if (found.importer, found.room) in LEAF_PAIRS:
        return True
    floor = FLOORS[FLOOR[found.importer]]
    return FLOOR[found.importer] in STEPPED and floor.index(found.room) < floor.index(found.importer)


def test_every_module_has_its_floor():
    modules = {path.relative_to(HOUSE).parts[0].removesuffix(".py") for path in HOUSE.rglob("*.py")} - {"__init__"}
    assert modules - set(FLOOR) == set(), "add it to FLOORS, and to CONTRIBUTING.md"


def test_contributors_are_told_every_floor():
    told = (HOUSE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [module for module in FLOOR if module != "__main__" and f"`{module}`" not in told] == []


def test_no_module_stands_on_two_floors():
    assert len(FLOOR) == sum(len(modules) for modules in FLOORS)


def test_modules_import_from_lower_floors_only():
    assert broken([found for found in house() if found.importer in FLOOR]) == []


def test_the_root_imports_nothing_of_ours_when_it_runs():
    source = (HOUSE / "__init__.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    assert [found.name for found in imports_of(ast.unparse(tree), "__init__.py") if found.ours] == []


@pytest.mark.parametrize("library", HOMES)
def test_a_library_for_the_edges_stays_there(library: str):
    users = {found.importer for found in house() if found.name.split(".")[0] == library}
    assert users <= set(HOMES[library])


@pytest.mark.parametrize("library", IN_ONE_MODULE)
def test_a_library_behind_a_seam_is_imported_in_one_module(library: str):
    users = {found.file for found in house() if found.name.split(".")[0] == library}
    assert len(users) <= 1, users


@pytest.mark.parametrize(
    ("file", "source"),
    [
        pytest.param("clock.py", "from aioresilience.events import EventEmitter", id="a leaf imports a leaf"),
        pytest.param("scope.py", "from aioresilience.pattern import Pattern", id="a step goes up"),
        pytest.param("retry.py", "from aioresilience.timeout import Scope", id="a room imports a room"),
        pytest.param(
            "retry.py", "from aioresilience import load_shedding", id="a room imports a room through the root"
        ),
        pytest.param("policy/fold.py", "import aioresilience.config.model", id="policy imports config"),
        pytest.param("policy/fold.py", "from aioresilience import retry", id="the function, not the module"),
        pytest.param("policy/fold.py", "from ..registry import Registry", id="a relative import goes up"),
        pytest.param("policy/fold.py", "from .. import Registry", id="a public name of the root"),
        pytest.param("registry/watch.py", "from aioresilience.cli import main", id="an edge is imported"),
        pytest.param("registry/watch.py", "import aioresilience", id="the root itself"),
        pytest.param("registry/watch.py", "def f():\n    from aioresilience import units", id="in a function"),
        pytest.param("registry/watch.py", "f = lambda: __import__('aioresilience.units')", id="in a lambda"),
        pytest.param("registry/watch.py", "importlib.import_module('aioresilience.cli')", id="by importlib"),
        pytest.param(
            "clock.py", "if TYPE_CHECKING:\n    from aioresilience.policy import Policy", id="for type checkers"
        ),
    ],
)
def test_the_reader_finds(file: str, source: str):
    assert broken(list(imports_of(source, file))) != []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("retry.py", "from aioresilience import units, failures\nfrom aioresilience.clock import Clock"),
        ("config/loader.py", "from aioresilience.policy.builtin import BUILTIN\nfrom .model import Document"),
        ("rate_limiting/local.py", "from aioresilience.rate_limiting.gcra import Gcra\nfrom . import gcra"),
        ("config/model.py", "from aioresilience import __version__"),
        ("policy/builtin.py", "from aioresilience.retry import RetryPolicy"),
        ("cli/watch.py", "def f():\n    import rich"),
    ],
)
def test_the_reader_lets_pass(file: str, source: str):
    assert broken(list(imports_of(source, file))) == []
