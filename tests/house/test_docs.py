"""Every block of README and docs runs, and every example.

A document's blocks run in order, in a folder of their own: Python in one namespace, shell commands that call
aioresilience, configurations through `aioresilience check`. A block is also written to a file when its first line is
`# file: name.yaml`, or when the line above it is that name in backticks. Before a block may stand
`<!-- not run: reason -->`, or `<!-- refused: AR201 -->` for a configuration that must be refused with that diagnostic.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if path.is_file()]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

PYTHON = {"python", "py"}
SHELL = {"bash", "sh", "shell", "console"}
YAML = {"yaml", "yml"}
SHOWN_ONLY = {"text", "json", "toml", "ini", "dockerfile", "makefile", "diff", "lua", "mermaid", "promql", ""}
COMMAND = re.compile(r"(?:[A-Z_]+=\S+\s+)*(?:aioresilience|python -m aioresilience)\b")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its opening fence."""

    line: int
    language: str
    text: str
    name: str | None
    not_run: str | None
    refused: str | None

    @property
    def is_configuration(self) -> bool:
        return self.language in YAML and re.match(r"(?:\s*#.*\n|\s*\n)*version:", self.text) is not None

    @property
    def commands(self) -> list[str]:
        lines = self.text.replace("\\\n", " ").splitlines()
        prompted = [line for line in lines if line.startswith("$ ")]
        lines = prompted or lines  # what stands below a prompt is what the command prints
        return [command for line in lines if COMMAND.match(command := line.strip().removeprefix("$ "))]

    def places_below(self, command: str) -> list[str]:
        """Return the places in files that stand in what a command is said to print."""
        printed = self.text.replace("\\\n", " ").partition(f"$ {command}")[2].partition("\n$ ")[0]
        return re.findall(r"[\w./-]+\.ya?ml:\d+:\d+", printed)

    def steps(self) -> Iterator[dict[str, object]]:
        """Say what is to be done, in order."""
        name = self.name or f"block-{self.line}.yaml"
        if self.name or self.is_configuration:
            yield {"do": "write", "line": self.line, "text": self.text, "name": name}
        if self.is_configuration:
            yield {"do": "check", "line": self.line, "name": name, "refused": self.refused}
        elif self.language in PYTHON:
            yield {"do": "python", "line": self.line, "text": self.text}
        elif self.language in SHELL:
            for command in self.commands:
                yield {"do": "command", "line": self.line, "text": command, "places": self.places_below(command)}


def blocks_of(markdown: str) -> Iterator[Block]:
    """Read the fenced blocks of a document, with what stands before each."""
    lines = markdown.splitlines()
    number = 0
    while number < len(lines):
        fence = re.match(r"( *)(`{3,}|~{3,}) *([^`\s]*)", lines[number])
        start, number = number, number + 1
        if fence is None:
            continue
        while number < len(lines) and not re.fullmatch(rf" *{re.escape(fence[2])}{fence[2][0]}* *", lines[number]):
            number += 1
        assert number < len(lines), f"line {start + 1}: this block has no end"
        text = textwrap.dedent("\n".join(lines[start + 1 : number])) + "\n"
        before = "\n".join(_before(lines[:start]))
        named = re.match(r"# file: (\S+)\n", text) or re.search(r"^`([\w./-]+)`:?$", before, re.M)
        yield Block(
            line=start + 1,
            language=fence[3].lower(),
            text=text,
            name=named[1] if named else None,
            not_run=_comment("not run", before),
            refused=_comment("refused", before),
        )
        number += 1


def _before(lines: list[str]) -> Iterator[str]:
    """Go up from a block over its comments and the line with its name."""
    for line in reversed([line.strip() for line in lines]):
        if re.fullmatch(r"<!--.*-->|`[\w./-]+`:?", line):
            yield line
        elif line:
            return


def _comment(word: str, before: str) -> str | None:
    found = re.search(rf"<!-- *{word}:? *(.*?) *-->", before)
    return found[1] if found else None


def run(document: Path, folder: Path) -> str:
    """Run a document's blocks in the folder; return what went wrong, or nothing."""
    blocks = list(blocks_of(document.read_text(encoding="utf-8")))
    for block in blocks:
        if block.language not in PYTHON | SHELL | YAML | SHOWN_ONLY:
            return f"{document}:{block.line}: unknown language {block.language!r}"
        if block.not_run == "":
            return f"{document}:{block.line}: not run, without a reason"
    steps = [step for block in blocks if block.not_run is None for step in block.steps()]
    if not steps:
        return ""
    work, programs = folder / "work", folder / "bin"
    work.mkdir()
    programs.mkdir()
    (programs / "aioresilience").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aioresilience "$@"\n')
    (programs / "aioresilience").chmod(0o755)
    (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (programs / "python").chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    return python(
        str(Path(__file__).with_name("run_document.py")),
        str(document),
        folder=work,
        stdin=json.dumps(steps),
        PATH=path,
    )


def python(*arguments: str, folder: Path, stdin: str = "", **environment: str) -> str:
    """Run a Python script in the folder; return what went wrong, or nothing."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIORESILIENCE_", "COV_"))}
    try:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", *arguments],
            cwd=folder,
            env=clean | {"PYTHONPATH": str(ROOT)} | environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return f"still running after {late.timeout} s\n{late.stdout}\n{late.stderr}"
    return "" if done.returncode == 0 else f"exit code {done.returncode}\n{done.stdout}{done.stderr}"


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_block_of_the_document_runs(document: Path, tmp_path: Path):
    wrong = run(document, tmp_path)
    assert not wrong, wrong


def test_the_first_steps_can_be_pasted_at_the_prompt(tmp_path: Path):
    blocks = list(blocks_of((ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")))
    for block in blocks:
        if block.name:
            (tmp_path / block.name).write_text(block.text, encoding="utf-8")
    pasted = [block.text for block in blocks if block.language in PYTHON and block.not_run is None]
    typed = "\n".join([*pasted, "print('and', 'so on')", ""])
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIORESILIENCE_", "COV_"))}
    done = subprocess.run(
        [sys.executable, "-m", "asyncio"], cwd=tmp_path, env=clean, input=typed, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert len(pasted) >= 5
    assert not re.findall(r"^\w*Error\b.*", done.stderr, re.M), done.stderr
    assert "and so on" in done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=relative)
def test_the_example_runs(example: Path, tmp_path: Path):
    wrong = python(str(example), folder=tmp_path)
    assert not wrong, wrong


OPTIONAL = [
    ("fastapi_endpoint.py", "fastapi", "'aioresilience[fastapi]'"),
    ("fastapi_endpoint.py", "httpx", "'aioresilience[httpx]'"),
    ("fastapi_service/service.py", "fastapi", "'aioresilience[fastapi]'"),
    ("fastapi_service/service.py", "httpx", "'aioresilience[httpx]'"),
    ("fastapi_service/service.py", "prometheus_client", "'aioresilience[prometheus]'"),
    ("kubernetes/service.py", "fastapi", "'aioresilience[fastapi]'"),
    ("logging_loguru.py", "loguru", "loguru"),
    ("logging_structlog.py", "structlog", "structlog"),
]


@pytest.mark.parametrize(("example", "library", "what"), OPTIONAL)
def test_an_example_without_its_library_says_what_to_install(example: str, library: str, what: str):
    code = f"import runpy, sys; sys.modules[{library!r}] = None; runpy.run_path({str(ROOT / 'examples' / example)!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].endswith(f" is not installed: pip install {what}")


def test_blocks_that_do_not_run_are_shown(capsys: pytest.CaptureFixture[str]):
    skipped = [
        f"{relative(document)}:{block.line}: not run: {block.not_run}"
        for document in DOCUMENTS
        for block in blocks_of(document.read_text(encoding="utf-8"))
        if block.not_run is not None
    ]
    with capsys.disabled():
        print("", *skipped, sep="\n")


# The mechanism itself.

GOOD = {
    "blocks share a namespace and an event loop": """
        ```python
        import asyncio
        queue = asyncio.Queue()
        reader = None
        async def read():
            return await queue.get()
        ```
        and later
        ```py
        reader = asyncio.ensure_future(read())
        await queue.put(3)
        ```
        ~~~python
        assert await reader == 3
        ~~~
    """,
    "files are there when their turn comes": """
        ```python
        from pathlib import Path
        assert not Path("a.yaml").exists()
        ```
        `conf/b.yaml`

        ```yaml
        b: 1
        ```
        1. In a list:

           ```yaml
           # file: a.yaml
           a:
             - 1
           ```
        ```python
        assert Path("conf/b.yaml").read_text() == "b: 1\\n"
        assert Path("a.yaml").read_text().endswith("a:\\n  - 1\\n")
        ```
    """,
    "a class lives in a module that can be found": """
        ```python
        import dataclasses, pickle
        @dataclasses.dataclass
        class Card:
            number: int
        assert pickle.loads(pickle.dumps(Card(1))) == Card(1)
        ```
    """,
    "what is not run, and what is only shown": """
        <!-- not run: needs a server -->
        ```python
        1 / 0
        ```
        <!-- not run: needs a server -->
        `app.yaml`
        ```yaml
        version: 7
        ```
        ````text
        ```python
        1 / 0
        ```
        ````
        ```bash
        pip install aioresilience
        rm -rf /nothing
        ```
    """,
    "a block may call asyncio.run": """
        ```python
        import asyncio
        async def main():
            await asyncio.sleep(0)
        asyncio.run(main())
        ```
    """,
    "commands": """
        `resilience.yaml`
        ```yaml
        version: 1
        policies:
          payments: {timeout: 2s}
        ```
        ```console
        $ aioresilience check resilience.yaml
        resilience.yaml: fine
        $ X=1 aioresilience check \\
            missing.yaml  # exit 2
        ```
    """,
    "a configuration that must be refused": """
        <!-- refused: AR201 -->
        ```yaml
        version: 1
        policies:
          payments: {timeouts: 2s}
        ```
    """,
}

BAD = {
    "a block that raises": ("```python\nx = 1\n1 / 0\n```", 'sample.md", line 3'),
    "a block that asserts": ("```python\nassert 1 == 2\n```", "AssertionError"),
    "a block that awaits in vain": ("```python\nawait undefined()\n```", "NameError"),
    "a block that warns": ("```python\nimport warnings; warnings.warn('old')\n```", "UserWarning: old"),
    "a block that exits": ("```python\nimport sys; sys.exit(3)\n```", "exit code 3"),
    "a block without an end": ("```python\nx = 1\n", "no end"),
    "a block in no known language": ("```pyhton\nx = 1\n```", "unknown language 'pyhton'"),
    "a block not run without a reason": ("<!-- not run -->\n```python\n1 / 0\n```", "without a reason"),
    "a comment that belongs to something else": ("<!-- not run: a -->\nText.\n```python\n1 / 0\n```", "ZeroDivision"),
    "a command that fails": ("```bash\naioresilience check missing.yaml\n```", "exit code"),
    "a command that fails otherwise": ("```bash\naioresilience check missing.yaml # exit 1\n```", "exit code"),
    "a configuration that is refused": ("```yaml\nversion: 1\nnope: 2\n```", "AR2"),
    "a configuration that should be refused": ("<!-- refused: AR201 -->\n```yaml\nversion: 1\n```", "not refused"),
    "a configuration refused for another reason": (
        "<!-- refused: AR101 -->\n```yaml\nversion: 1\nnope: 2\n```",
        "not with AR101",
    ),
    "a file outside the folder": ("```yaml\n# file: ../a.yaml\na: 1\n```", "../a.yaml"),
}


@pytest.mark.parametrize("markdown", GOOD.values(), ids=GOOD)
def test_a_good_document_runs(markdown: str, tmp_path: Path):
    sample = tmp_path / "sample.md"
    sample.write_text(textwrap.dedent(markdown), encoding="utf-8")
    assert run(sample, tmp_path) == ""


@pytest.mark.parametrize(("markdown", "message"), BAD.values(), ids=BAD)
def test_a_bad_document_fails(markdown: str, message: str, tmp_path: Path):
    sample = tmp_path / "sample.md"
    sample.write_text(markdown, encoding="utf-8")
    try:
        wrong = run(sample, tmp_path)
    except AssertionError as error:
        wrong = str(error)
    assert message in wrong
