"""Dependencies, their pins and the installation: one version of each, the same everywhere."""

import importlib.metadata
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
STAGES = yaml.safe_load((ROOT / "workflow/envs/ecsnet.yaml").read_text())
PINS = {
    canonicalize_name(requirement.name): requirement
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
    for requirement in [Requirement(line)]
}


def pinned(name: str) -> Version:
    [specifier] = PINS[canonicalize_name(name)].specifier
    return Version(specifier.version)


def declared() -> list[Requirement]:
    """Everything that pyproject.toml asks for: to build, to run, and the extras."""
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    return [
        Requirement(line)
        for line in [*PYPROJECT["build-system"]["requires"], *PROJECT["dependencies"], *extras]
    ]


@pytest.mark.parametrize("requirement", declared(), ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pinned(requirement.name))


def test_pins_are_exact() -> None:
    for name, requirement in PINS.items():
        [specifier] = requirement.specifier
        assert specifier.operator == "==", name
        assert "*" not in specifier.version, name
        assert requirement.url is None, name
        assert not pinned(name).local, f"{name}: a local version is in no public index"


def test_pins_hold_what_the_pinned_need() -> None:
    for name in PINS:
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert need.specifier.contains(pinned(need.name), prereleases=True), f"{name} needs {need}"


def test_conda_environment_installs_the_pins() -> None:
    assert CONDA["name"] == PROJECT["name"]
    assert CONDA["channels"] == ["conda-forge", "nodefaults"]
    *tools, packages = CONDA["dependencies"]
    assert packages == {"pip": ["-r requirements.txt", "-e ."]}
    # a package that conda and pip both install may end up in two versions
    assert not {re.split("[=<>]", tool)[0] for tool in tools} - {"python", "pip", "git", "make"}


def test_stages_environment_holds_the_pins_of_what_they_use() -> None:
    [python, pip, packages] = STAGES["dependencies"]
    assert STAGES["channels"] == CONDA["channels"]
    assert [python, pip] == CONDA["dependencies"][:2]
    extras = PROJECT["optional-dependencies"]
    chosen = [need for extra in ("coco", "heic", "tensorboard") for need in extras[extra]]
    used = map(Requirement, [*PROJECT["dependencies"], *chosen])
    names = sorted(canonicalize_name(requirement.name) for requirement in used)
    assert packages == {"pip": [str(PINS[name]) for name in names]}


def test_python_version_is_the_same_everywhere() -> None:
    [version] = [
        line.removeprefix("python=") for line in CONDA["dependencies"] if str(line).startswith("python=")
    ]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(version)
    assert PROJECT["requires-python"] == f">={version}"
    assert PYPROJECT["tool"]["mypy"]["python_version"] == version
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{version.replace('.', '')}"
    assert f"({version.replace('.', ', ')})" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "requirements.txt", "environment.yml", "workflow/envs/ecsnet.yaml"]
)
def test_no_index_address_and_no_local_path(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"://|index-url|find-links|file:|@ |(?<![\w.])/(opt|home|work|tmp|usr)\b", text)


def test_version_is_the_same_everywhere() -> None:
    import ecsnet

    assert ecsnet.__version__ == PROJECT["version"]


# make, with a stand-in for python that only writes down what it is asked to do

STAND_IN = """#!/bin/sh
case "$*" in
    --version) echo "Python {version}" ;;
    -c*) exit {too_old} ;;
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *requirements.txt) [ ! -e broken ] ;;
esac
code=$?
case "$1" in -m) echo "$*" >> calls ;; esac
exit $code
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
        os.utime(tmp_path / name, (1, 1))
    stand_in(tmp_path, "3.11.2")
    return tmp_path


def stand_in(folder: Path, version: str) -> None:
    path = folder / "python-stand-in"
    path.write_text(STAND_IN.format(version=version, too_old=int(version < "3.11")))
    path.chmod(0o755)


def make(folder: Path, *targets: str) -> subprocess.CompletedProcess:
    command = ["make", *targets, "PYTHON=./python-stand-in"]
    # nothing else of the environment: a `make test` around this test would change make's output
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def calls(folder: Path) -> list[str]:
    """What python was asked to do since the last call."""
    path = folder / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def test_setup_installs_once_and_again_when_a_pin_changes(clone: Path) -> None:
    assert make(clone, "setup").returncode == 0
    venv, pins, project = calls(clone)
    assert venv == "-m venv .venv"
    assert pins.endswith("-r requirements.txt")
    assert project.endswith("--no-deps --no-build-isolation -e .")
    assert make(clone, "setup").returncode == 0
    assert calls(clone) == []
    for name in ("requirements.txt", "pyproject.toml"):
        later = (clone / ".venv/.stamp").stat().st_mtime + 1
        os.utime(clone / name, (later, later))
        assert make(clone, "setup").returncode == 0
        assert len(calls(clone)) == 3
        os.utime(clone / name, (1, 1))


def test_setup_is_taken_up_after_a_failure(clone: Path) -> None:
    (clone / "broken").touch()
    assert make(clone, "setup").returncode != 0
    assert len(calls(clone)) == 2
    (clone / "broken").unlink()
    assert make(clone, "setup").returncode == 0
    assert len(calls(clone)) == 3


def test_setup_refuses_an_old_python(clone: Path) -> None:
    stand_in(clone, "3.10.4")
    result = make(clone, "setup")
    assert result.returncode != 0
    assert result.stderr.splitlines()[0] == (
        "ecsnet needs Python 3.11 or newer, but ./python-stand-in is Python 3.10.4. "
        "Install one and name it: make setup PYTHON=python3.12"
    )
    assert calls(clone) == []
    assert not (clone / ".venv").exists()


def test_make_lists_its_targets(clone: Path) -> None:
    text = make(clone, "help").stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    listed = [line.split()[1] for line in text.splitlines()]
    assert sorted(listed) == sorted(phony[1].split())
    assert make(clone).stdout == text
