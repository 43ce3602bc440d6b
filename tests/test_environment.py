"""The versions that scripts install: the lock, the floors, and what an index lacks."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from scripts.floors import floors

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]

# A project that needs `part`, and builds itself: nothing has to be installed for that.
PYPROJECT_OF_SMALL = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "small"
version = "1"
"""
BACKEND = """
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "small-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        for file, text in {
            "METADATA": "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\n"
                        "Provides-Extra: some\\nRequires-Dist: part; extra == 'some'\\n",
            "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
            "RECORD": "",
        }.items():
            wheel.writestr(f"small-1.dist-info/{file}", text)
    return name
"""


def lock():
    """Return the locked version of each package."""
    lines = (ROOT / "scripts/lock.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_the_lock_has_a_version_that_is_allowed_for_everything_that_the_project_needs():
    required = [*PROJECT["dependencies"], *PYPROJECT["build-system"]["requires"]]
    required += [line for extra in EXTRAS.values() for line in extra]
    locked = lock()
    for line in required:
        requirement = Requirement(line)
        version = locked.get(canonicalize_name(requirement.name))
        assert version in requirement.specifier, (line, version, "make it anew: scripts/lock.sh")


def test_the_lock_names_no_place_to_load_from():
    assert not re.search("://|--", (ROOT / "scripts/lock.txt").read_text())


def test_floors_are_the_lowest_versions_that_all_allow():
    project = {
        "dependencies": ["NumPy>=2.1", "dask[array]>=2025.7,<2027"],
        "optional-dependencies": {"a": ["numpy>=2.10"], "b": ["torch==2.13.0"], "c": ["x"]},
    }
    assert floors(project, []) == {"numpy": Version("2.1"), "dask": Version("2025.7")}
    assert floors(project, ["a", "b"]) == {
        "numpy": Version("2.10"),
        "dask": Version("2025.7"),
        "torch": Version("2.13.0"),
    }


@pytest.mark.parametrize("line", ["x", "x<2", "x!=1", "x>=1,>=2"])
def test_what_has_no_lowest_version_is_named(line):
    project = {"dependencies": [line], "optional-dependencies": {}}
    with pytest.raises(ValueError, match=f"{re.escape(repr(line))}.*no lowest version: use NAME"):
        floors(project, [])


def test_an_unknown_extra_is_named():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/floors.py", "demo", "dmeo"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == "floors.py: no extra of the project: dmeo.\n"


def test_every_requirement_of_the_project_has_a_floor():
    assert floors(PROJECT, list(EXTRAS)).keys() <= lock().keys()


@pytest.fixture
def small(tmp_path):
    """Return the folder of a small project whose scripts install from a folder beside it."""
    folder = tmp_path / "small"
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts/_environment.sh").symlink_to(ROOT / "scripts/_environment.sh")
    (folder / "pyproject.toml").write_text(PYPROJECT_OF_SMALL)
    (folder / "backend.py").write_text(BACKEND)
    (tmp_path / "wheels").mkdir()
    for version in (1, 2):
        with zipfile.ZipFile(tmp_path / f"wheels/part-{version}-py3-none-any.whl", "w") as wheel:
            for name, text in {
                "METADATA": f"Metadata-Version: 2.1\nName: part\nVersion: {version}\n",
                "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
                "RECORD": "",
            }.items():
                wheel.writestr(f"part-{version}.dist-info/{name}", text)
    return folder


def install(folder, locked_python, version):
    """Let the script install with a lock of this version of `part`, for this version of Python."""
    (folder / "scripts/lock.txt").write_text(f"# Made by a test.\npart=={version}\n")
    program = f"""
set -euo pipefail
source scripts/_environment.sh
locked_python={locked_python}
locked_platform={sysconfig.get_platform()}
ensure_environment some
"""
    done = subprocess.run(
        ["bash", "-c", program],
        cwd=folder,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(folder.parent / "wheels"),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob(".venv/lib/python*/site-packages/part-*.dist-info")
    return found.stem, done


def test_locked_versions_are_installed_and_others_where_one_is_missing(small):
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert install(small, here, 1)[0] == "part-1"
    found, done = install(small, here, 1)
    assert found == "part-1"
    assert "Installing" not in done.stdout
    # A lock that changed is followed.
    found, done = install(small, here, 2)
    assert found == "part-2"
    assert not done.stderr
    # Where the index lacks a version, it is said what to do, and the checks run all the same.
    found, done = install(small, here, 3)
    assert found == "part-2"
    assert "The versions of scripts/lock.txt could not be installed" in done.stderr
    assert "bash scripts/lock.sh makes scripts/lock.txt anew" in done.stderr


def test_the_lock_is_for_one_interpreter(small):
    assert install(small, "2.7", 1)[0] == "part-2"
