"""One virtual environment for each library, made when it is first needed and kept: 0.2.1 even shares our name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".peers"

REQUIREMENTS = {
    "aioresilience 0.3": [],
    "aioresilience 0.2": ["aioresilience==0.2.1"],
    "hyx": ["hyx==0.0.2"],
    "nopanic": ["nopanic==0.3.0"],
    "interlock-cb": ["interlock-cb==2.8.2"],
    "stamina": ["stamina==26.1.0"],
    "tenacity": ["tenacity==9.2.1"],
    "circuitbreaker": ["circuitbreaker==2.1.3"],
    "aiolimiter": ["aiolimiter==1.3.0"],
    "asyncio": [],
}
"""What is installed for each column; an empty list is our own environment or the bare interpreter's."""


def subjects(library: str) -> Path:
    """Return the file that says how the library is called."""
    name = library.replace(" ", "_").replace(".", "_").replace("-", "_")
    return Path(__file__).parent / "subjects" / f"{name}.py"


def python(library: str) -> str:
    """Return the interpreter of the library's environment, which is made where there is none yet."""
    if not REQUIREMENTS[library]:
        return sys.executable
    return environment(library.replace(" ", "-"), REQUIREMENTS[library])


def environment(name: str, requirements: list[str]) -> str:
    """Return the interpreter of an environment with these and uvloop in it, made where there is none yet."""
    folder = FOLDER / name
    interpreter, done = folder / "bin" / "python", folder / "complete"
    wanted = "\n".join([*requirements, "uvloop"])
    if not done.exists() or done.read_text(encoding="utf-8") != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [interpreter, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "uvloop"]
        subprocess.run([*install, *requirements], check=True)
        done.write_text(wanted, encoding="utf-8")
    return str(interpreter)
