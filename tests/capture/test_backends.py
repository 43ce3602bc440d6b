"""The captures on Keras's other backends, which are chosen before Keras is imported."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# Tests of every backend, and how many of them run at the least.
COMMON = (
    "test_keras.py",
    "test_keras_lengths.py",
    "test_parameters.py",
    "test_state_capture.py",
)
OWN = {"tensorflow": (), "jax": ("test_on_jax.py",), "torch": ("test_on_torch.py",)}
AT_LEAST = 70


def run_python(arguments, backend):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    environment.pop("PYTEST_ADDOPTS", None)
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.mark.parametrize("backend", [b for b in OWN if b != keras.backend.backend()])
def test_on_another_backend(backend):
    pytest.importorskip(backend)
    files = [HERE / name for name in (*COMMON, *OWN[backend])]
    done = run_python(["-m", "pytest", "-q", "-p", "no:cacheprovider", *files], backend)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, f"{backend}: see the output of its tests"
    passed = re.search(r"^(\d+) passed", done.stdout.splitlines()[-1])
    assert passed, f"{backend}: no tests ran"
    assert int(passed[1]) >= AT_LEAST


UNKNOWN = """
import keras, pytest, tensorstate as ts
model = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(3)])
says = "run on Keras's backends tensorflow, jax, torch, not on 'numpy': set KERAS_BACKEND"
for make in (lambda: ts.StateCapture("a"), lambda: ts.build_efficiency_model(model, "Dense")):
    with pytest.raises(NotImplementedError, match=says):
        make()
"""


def test_a_backend_without_captures():
    done = run_python(["-c", UNKNOWN], "numpy")
    assert done.returncode == 0, done.stderr
