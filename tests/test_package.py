"""What is released: built as it is for an index, installed where nothing else is, and used."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tensorstate._version import __version__

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.timeout(900)


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked(*paths):
    """Return the names of the files that belong to the project."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout, which would tell the files of the project")
    return set(run("git", "ls-files", *paths, cwd=ROOT).splitlines())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the sdist, and the wheel from what is in it; return both."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def clean(built, tmp_path_factory):
    """Return the commands of an environment that has the wheel, what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True)
    run(folder / "bin/python", "-m", "pip", "install", "-q", built[1])
    return folder / "bin"


def test_the_wheel_holds_the_package_and_nothing_else(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    assert {name.removeprefix("src/") for name in tracked("src")} <= names
    assert {name.split("/")[0] for name in names} == {
        "tensorstate",
        "TensorState.py",
        f"tensorstate-{__version__}.dist-info",
    }
    assert built[1].name == f"tensorstate-{__version__}-py3-none-any.whl"


def test_the_sdist_holds_what_the_tests_need(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    kept = ("src", "tests", "benchmarks", "scripts", "docs", "README.md", "CHANGELOG.md", "LICENSE")
    assert tracked(*kept, "conftest.py") <= names


def test_the_command_runs_where_nothing_else_is(clean, tmp_path):
    by_name = run(clean / "tensorstate", "--version", cwd=tmp_path)
    assert by_name == run(clean / "python", "-m", "tensorstate", "--version", cwd=tmp_path)
    assert __version__ in by_name
    assert "capture" in run(clean / "tensorstate", "--help", cwd=tmp_path)


def test_states_are_recorded_and_counted_where_nothing_else_is(clean, tmp_path):
    program = """
import numpy as np
import TensorState as ts
import tensorstate
assert ts.StateRecorder is tensorstate.StateRecorder
with ts.StateRecorder("spikes", "run.zarr") as spikes:
    spikes.record(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 2.0]]))
run = ts.open_run("run.zarr")
print(run["spikes"].entropy(), len(run.verify()), run.summary().loc["spikes", "distinct"])
"""
    assert run(clean / "python", "-c", program, cwd=tmp_path).split() == ["1.5", "0", "3"]
    assert "spikes" in run(clean / "tensorstate", "info", "run.zarr", cwd=tmp_path)


def test_no_framework_is_needed(clean):
    found = run(clean / "python", "-m", "pip", "list", "--format=freeze").lower()
    for name in ("tensorflow", "keras", "torch", "jax", "pytest"):
        assert f"\n{name}==" not in f"\n{found}"
