"""Run the steps of one document, given as JSON on standard input, in the current folder; stop at the first that fails.

Started by test_docs.py in an interpreter of its own. The Python blocks of a document share one namespace and one event
loop, and may await at their top level.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import re
import subprocess
import sys
import types
from pathlib import Path


class Document:
    """What the blocks of one document share."""

    def __init__(self, path: str, runner: asyncio.Runner) -> None:
        self.path = path
        self.runner = runner
        # Where a block's classes and functions live, as in a script of the user's own.
        self.main = sys.modules["__main__"] = types.ModuleType("__main__")

    def write(self, line: int, text: str, name: str) -> None:
        """Write a block to a file below the current folder."""
        path = Path(name)
        assert not path.is_absolute(), name
        assert ".." not in path.parts, name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def python(self, line: int, text: str) -> None:
        """Run a block; a traceback shows the document's own lines."""
        source = "\n" * line + text
        code = compile(source, self.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        waiting = eval(code, vars(self.main))
        if inspect.iscoroutine(waiting):
            self.runner.run(waiting)

    def command(self, line: int, text: str, places: list[str]) -> None:
        """Run a shell command, which must exit with 0, or with the code in a comment at its end: `# exit 1`.

        The `places` in files that the document shows below it must stand in what it prints.
        """
        told = re.search(r"#\s*exit (\d+)\s*$", text)
        expected = int(told[1]) if told else 0
        done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == expected, f"exit code {done.returncode}: {text}\n{done.stdout}{done.stderr}"
        missing = [place for place in places if place not in done.stdout + done.stderr]
        assert not missing, f"it does not print {missing}: {text}\n{done.stdout}{done.stderr}"

    def check(self, line: int, name: str, refused: str | None) -> None:
        """Have a configuration checked; it must be fine, or be refused with the given diagnostic."""
        from aioresilience.cli import main

        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            sys.argv = ["aioresilience", "check", name]
            try:
                code = main()
            except SystemExit as stop:
                code = stop.code
        shown = out.getvalue()
        if refused is None:
            assert not code, f"exit code {code}: aioresilience check {name}\n{shown}"
        else:
            assert code, f"not refused: {name}"
            assert refused in shown, f"refused, but not with {refused}:\n{shown}"


def run(path: str, steps: list[dict[str, object]]) -> None:
    with asyncio.Runner() as runner:
        document = Document(path, runner)
        for step in steps:
            action = step.pop("do")
            try:
                getattr(document, action)(**step)
            except AssertionError as error:
                # An assertion of ours; one in a block is shown with its traceback.
                if action == "python":
                    raise
                sys.exit(f"{path}:{step['line']}: {error}")


if __name__ == "__main__":
    run(sys.argv[1], json.load(sys.stdin))
