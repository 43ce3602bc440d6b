"""The public surface: what `import tensorstate as ts` gives, and what it does not import."""

import subprocess
import sys

import pytest

import tensorstate as ts

FRAMEWORKS = ("tensorflow", "keras", "torch", "jax")

# A program that forbids every framework, reopens a run, and prints what it says.
REANALYSIS = f"""
import importlib.abc, sys

class Forbidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {FRAMEWORKS}:
            raise ImportError(f"{{name}} is forbidden here")

sys.meta_path.insert(0, Forbidden())
import TensorState as ts
run = ts.open_run(sys.argv[1])
for layer in run.values():
    print(layer.name, layer.state_count, repr(layer.efficiency()), layer.counts().sum())
    assert len(layer.state_ids()) == len(layer.states) == len(layer.counts())
print(repr(ts.network_efficiency(run)))
print(run.summary().to_csv())
"""


def run_python(program, *arguments):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


def test_a_stored_run_says_the_same_where_no_framework_can_be_imported(tmp_path):
    import keras

    from tests.capture import models

    keras.utils.set_random_seed(3)
    path = tmp_path / "run.zarr"
    model = ts.build_efficiency_model(models.functional(), ["Conv2D", "Dense"], storage_path=path)
    model.predict(models.images(60), verbose=0)
    captures = model.efficiency_layers
    expected = [f"{c.name} {c.state_count} {c.efficiency()!r} {c.state_count}" for c in captures]
    expected.append(repr(ts.network_efficiency(model)))
    ts.remove_state_layers(model)
    lines = run_python(REANALYSIS, path).splitlines()
    assert lines[:4] == expected
    assert lines[4] == (
        "layer,neurons,parameters,positions,instances,states,distinct,entropy,efficiency,"
        "singletons,coverage,distinct_at_least,ceiling,flag"
    )


def test_importing_imports_no_framework():
    every = "import tensorstate as ts, sys; [getattr(ts, name) for name in ts.__all__]; "
    loaded = run_python(every + "print(*sys.modules)").split()
    assert not set(FRAMEWORKS) & set(loaded)
    assert "tensorstate.storage" in loaded


def test_nothing_is_imported_before_it_is_used():
    loaded = run_python("import tensorstate, sys; print(*sys.modules)").split()
    assert not {"numpy", "pandas", "zarr", "dask", "numba"} & set(loaded)
    assert "tensorstate" in loaded


def test_the_tutorials_name_gives_the_same_things():
    import TensorState

    assert dir(TensorState) == dir(ts)
    for name in dir(ts):
        assert getattr(TensorState, name) is getattr(ts, name)
    assert TensorState.__version__ == ts.__version__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        TensorState.nothing  # noqa: B018  (the lookup is the test)


def test_every_public_name_has_a_docstring():
    for name in dir(ts):
        assert name.startswith("__") or getattr(ts, name).__doc__, name
