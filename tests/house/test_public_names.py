"""The public names of the root: pinned in public_names.txt, and right in every import order."""

from __future__ import annotations

import ast
import enum
import importlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

import aioresilience

PINNED = [
    line.split()
    for line in Path(__file__).with_name("public_names.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]

# The functions of the root that have a module's name, and a class of that module.
COLLIDING = {
    "retry": "RetryPolicy",
    "timeout": "TimeoutManager",
    "bulkhead": "Bulkhead",
    "fallback": "FallbackHandler",
    "circuit_breaker": "CircuitBreaker",
}

KINDS = {
    "config": lambda value: issubclass(value, pydantic.BaseModel) and value.model_config["frozen"],
    "error": lambda value: issubclass(value, Exception),
    "enum": lambda value: issubclass(value, enum.Enum),
    "class": lambda value: isinstance(value, type),
    "function": lambda value: callable(value) and not isinstance(value, type),
    "object": lambda value: not isinstance(value, type),
}


@pytest.mark.parametrize(("name", "kind", "module"), PINNED, ids=[name for name, *_ in PINNED])
def test_a_public_name_is_what_it_was(name: str, kind: str, module: str):
    value = getattr(aioresilience, name)
    assert KINDS[kind](value)
    assert value is getattr(importlib.import_module(f"aioresilience.{module}"), name)


def test_the_root_exports_the_pinned_names_and_no_others():
    assert sorted(aioresilience.__all__) == sorted([*(name for name, *_ in PINNED), "__version__"])


def test_every_public_name_is_listed_by_dir():
    assert set(aioresilience.__all__) <= set(dir(aioresilience))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'aioresilience' has no attribute 'nope'"):
        aioresilience.nope  # noqa: B018


def test_what_type_checkers_see_is_what_runs():
    tree = ast.parse(Path(aioresilience.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    assert all(isinstance(node, ast.ImportFrom) for node in block.body)
    seen = {alias.asname: f"{node.module}.{alias.name}" for node in block.body for alias in node.names}
    assert seen == {name: f"{module}.{name}" for name, module in aioresilience._HOME.items()}


def in_python(code: str, *arguments: str, **environment: str) -> str:
    """Run code in an interpreter of its own; return what it printed."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


IN_THIS_ORDER = """
import importlib, itertools, sys, types

name, type_name = sys.argv[1:]

def by_statement():
    exec(f"import aioresilience.{name}", {})
def from_the_root():
    scope = {}
    exec(f"from aioresilience import {name}", scope)
    assert isinstance(scope[name], types.FunctionType), scope[name]
def by_importlib():
    assert isinstance(importlib.import_module(f"aioresilience.{name}"), types.ModuleType)
def from_the_module():
    exec(f"from aioresilience.{name} import {type_name}", {})

count = 0
for order in itertools.permutations([by_statement, from_the_root, by_importlib, from_the_module]):
    for module in [module for module in sys.modules if (module + ".").startswith(f"aioresilience.{name}.")]:
        del sys.modules[module]
    sys.modules.pop("aioresilience", None)
    for step in order:
        step()
        root, module = sys.modules["aioresilience"], sys.modules[f"aioresilience.{name}"]
        assert isinstance(module, types.ModuleType), order
        assert getattr(root, name) is getattr(module, name), order
        assert isinstance(getattr(root, name), types.FunctionType), order
        assert isinstance(getattr(module, type_name), type), order
    count += 1
print(count)
"""


@pytest.mark.parametrize(("name", "type_name"), COLLIDING.items())
def test_the_root_name_is_the_function_in_every_import_order(name: str, type_name: str):
    assert in_python(IN_THIS_ORDER, name, type_name) == "24\n"


@pytest.mark.parametrize("first", ["aioresilience.policy", "aioresilience.registry", "aioresilience.config"])
def test_the_root_names_are_functions_after_what_imports_all_rooms(first: str):
    code = (
        f"import {first}, aioresilience as root, types\n"
        f"assert all(isinstance(getattr(root, name), types.FunctionType) for name in {list(COLLIDING)})"
    )
    in_python(code)


def test_a_test_may_put_something_else_under_a_public_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(aioresilience, "retry", len)
    assert aioresilience.retry is len


def test_importing_the_root_imports_nothing_else():
    code = "import sys, types, importlib; known = {*sys.modules}; import aioresilience; print({*sys.modules} - known)"
    assert in_python(code) == "{'aioresilience'}\n"


def test_importing_the_root_takes_less_than_a_millisecond(tmp_path: Path):
    code = "import asyncio, time; start = time.process_time(); import aioresilience; print(time.process_time() - start)"
    # Compiled once, as any installed package is; the best of many, since others are using the machine too.
    cached = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    times = (float(in_python(code, **cached)) for _ in itertools.repeat(None, 40))
    assert any(time < 0.001 for time in times)
