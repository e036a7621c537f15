"""What a user installs: the wheel, built from the sdist, and the editable install."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import aioresilience
from aioresilience import resources

ROOT = Path(__file__).parents[2]

LOOK = """
import importlib.metadata, json, aioresilience
from aioresilience.resources import folder, resource
print(json.dumps({
    "package": aioresilience.__file__,
    "version": [aioresilience.__version__, importlib.metadata.version("aioresilience")],
    "policies": str(folder("policies")),
    "schemas": str(folder("schemas")),
    "schema": str(resource("schemas", "resilience.schema.json")),
}))
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment that sees what is installed here, but not this copy of the library."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.folder)}))

    def install(self, *arguments: str) -> None:
        offline = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
        run(sys.executable, "-m", "pip", "--python", str(self.python), "install", *offline, *arguments)

    def look(self) -> dict[str, str]:
        return json.loads(run(str(self.python), "-W", "error", "-c", LOOK))


def environment(folder: Path) -> Environment:
    venv.create(folder, symlinks=True, with_pip=False)
    made = Environment(folder)
    # A path beside the environment's own: its packages can be imported, its .pth files are not read.
    (made.site_packages / "_outer.pth").write_text(sysconfig.get_path("purelib"))
    return made


def run(*command: str, cwd: Path | None = None) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "COV_", "PIP_"))}
    done = subprocess.run(
        command, cwd=cwd or Path(sys.prefix), env=clean, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(out), cwd=ROOT)
    return next(out.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(out, filter="data")
    [source] = out.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out), cwd=source)
    return next(out.glob("*.whl"))


@pytest.mark.parametrize("kind", ["policies", "schemas"])
def test_the_wheel_carries_every_file_of_both_folders(wheel: Path, kind: str):
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(f"aioresilience/_data/{kind}/")}
    assert carried == {f"aioresilience/_data/{kind}/{path.name}" for path in (ROOT / kind).iterdir()}
    assert carried


def test_the_wheel_holds_the_package_and_nothing_beside_it(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"aioresilience", "aioresilience-0.3.0.dist-info"}
    assert {"aioresilience/py.typed", "aioresilience-0.3.0.dist-info/licenses/LICENSE"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_carries_every_file_of_the_package(wheel: Path):
    suffixes = {".py", ".lua", ".typed", ".yaml"}
    ours = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "aioresilience").rglob("*") if path.suffix in suffixes
    }
    assert ours <= set(zipfile.ZipFile(wheel).namelist())


def test_an_installed_wheel_finds_its_files_inside_the_package(wheel: Path, tmp_path: Path):
    installed = environment(tmp_path / "venv")
    installed.install(str(wheel))
    package = installed.site_packages / "aioresilience"
    assert installed.look() == {
        "package": str(package / "__init__.py"),
        "version": ["0.3.0", "0.3.0"],
        "policies": str(package / "_data" / "policies"),
        "schemas": str(package / "_data" / "schemas"),
        "schema": str(package / "_data" / "schemas" / "resilience.schema.json"),
    }
    assert "Usage" in run(str(installed.folder / "bin" / "aioresilience"), "--help")


def test_an_editable_install_finds_its_files_beside_the_package(tmp_path: Path):
    installed = environment(tmp_path / "venv")
    installed.install("--editable", str(ROOT))
    assert installed.look() == {
        "package": str(ROOT / "aioresilience" / "__init__.py"),
        "version": ["0.3.0", "0.3.0"],
        "policies": str(ROOT / "policies"),
        "schemas": str(ROOT / "schemas"),
        "schema": str(ROOT / "schemas" / "resilience.schema.json"),
    }
    assert not (installed.site_packages / "aioresilience").exists()


def test_a_missing_file_is_an_error_that_names_both_places():
    with pytest.raises(FileNotFoundError, match=r"'nope\.yaml'.*_data/policies/nope\.yaml and .*policies/nope\.yaml$"):
        resources.resource("policies", "nope.yaml")


def test_a_missing_folder_is_an_error_that_names_both_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "aioresilience")
    with pytest.raises(FileNotFoundError, match=r"'schemas' is missing.*aioresilience/_data/schemas and .*/schemas$"):
        resources.folder("schemas")


def test_a_carried_folder_wins_over_one_that_stands_beside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    carried = tmp_path / "aioresilience" / "_data" / "policies"
    for folder in (carried, tmp_path / "policies"):
        folder.mkdir(parents=True)
        (folder / "http-client.yaml").touch()
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "aioresilience")
    assert resources.folder("policies") == carried
    assert resources.resource("policies", "http-client.yaml") == carried / "http-client.yaml"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../pyproject.toml", "a/b.yaml", "a\\b.yaml", "/etc/hosts", "a\0.yaml"]
)
def test_a_name_that_leaves_the_folder_is_refused(name: str):
    with pytest.raises(ValueError, match="not the name of a file in policies"):
        resources.resource("policies", name)


def test_the_version_is_the_same_everywhere():
    versions = {
        aioresilience.__version__,
        re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)[1],
        re.search(r"^## \[(\d.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)[1],
    }
    assert len(versions) == 1


def test_everything_that_ci_installs_is_pinned_without_an_address():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)] == []
