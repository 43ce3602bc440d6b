"""`tensorstate info`, and what all commands have in common: exit codes and help."""

import json

import keras
import numpy as np
import pytest

import tensorstate as ts
from tests.cli.programs import command


@pytest.fixture(scope="module")
def run_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "run.zarr"
    rng = np.random.default_rng(0)
    with ts.StateRecorder("wide [red]", path) as wide:
        wide.record(rng.normal(size=(40, 100)))
        with ts.StateRecorder("narrow", path) as narrow:
            narrow.record(rng.normal(size=(40, 300, 3)))
    return path


def test_info_shows_every_layer_and_flags_a_sample_that_is_too_small(run_path):
    result = command("info", run_path)
    assert result.returncode == 0
    assert "counting narrow: 12,000 of 12,000 states in" in result.stderr
    quiet = command("info", "--quiet", run_path)
    assert quiet == (0, result.stdout, "")
    wide, narrow = (
        next(line for line in result.stdout.splitlines() if name in line)
        for name in ("wide [red]", "narrow")
    )
    assert "5.322 bits*" in wide
    assert "5.3 %*" in wide
    assert "12,000" in narrow
    assert "*" not in narrow
    assert "limited by the number of states captured" in result.stdout
    assert "  wide [red]: ceiling: entropy cannot exceed log2(states) = 5.3 bits" in result.stdout
    assert "Network efficiency: " in result.stdout


def test_info_for_machines(run_path):
    found = json.loads(command("info", "--json", run_path).stdout)
    run = ts.open_run(run_path)
    assert found["network_efficiency"] == ts.network_efficiency(run)
    assert found["instances"] == 40
    assert found["parameters"] is found["layers"][0]["parameters"] is None
    assert [layer["layer"] for layer in found["layers"]] == ["wide [red]", "narrow"]
    assert found["layers"][1]["efficiency"] == run["narrow"].efficiency()
    assert [layer["flag"][:7] for layer in found["layers"]] == ["ceiling", ""]
    assert [layer["singletons"] for layer in found["layers"]] == [40, 0]


def test_info_of_a_layer_whose_instances_differ_in_length(tmp_path):
    with ts.StateRecorder("lstm", tmp_path / "run", variable_positions=True) as recorder:
        recorder.record(np.ones((3, 5, 9)), lengths=[5, 0, 2])
    (layer,) = json.loads(command("info", "--json", tmp_path / "run").stdout)["layers"]
    assert (layer["positions"], layer["instances"], layer["states"]) == (None, 3, 7)
    row = next(
        line for line in command("info", tmp_path / "run").stdout.splitlines() if "lstm" in line
    )
    assert [cell.strip() for cell in row.split("│")][2:7] == ["9", "-", "vary", "3", "7"]


def test_info_of_a_layer_without_states(tmp_path):
    from tensorstate.storage import LayerInfo, RunWriter

    writer = RunWriter(tmp_path / "run")
    writer.add_layer("empty", LayerInfo(4, 2))
    writer.close()
    assert "empty" in command("info", tmp_path / "run").stdout
    layers = json.loads(command("info", "--json", tmp_path / "run").stdout)["layers"]
    assert layers[0]["efficiency"] is layers[0]["coverage"] is None
    assert layers[0]["flag"] == ""


def test_info_tells_how_many_parameters_there_are(tmp_path):
    model = keras.Sequential(
        [
            keras.layers.Input((30,)),
            keras.layers.Dense(40, name="dense"),
            keras.layers.Dense(3, name="last"),
        ]
    )
    model.layers[-1].trainable = False
    probed = ts.build_efficiency_model(model, "dense", storage_path=tmp_path / "run")
    probed.predict(np.random.default_rng(0).normal(size=(50, 30)), verbose=0)
    ts.remove_state_layers(probed)
    found = json.loads(command("info", "--json", tmp_path / "run").stdout)
    assert (found["parameters"], found["trainable_parameters"]) == (1363, 1240)
    assert [layer["parameters"] for layer in found["layers"]] == [1240]
    first, *lines = command("info", tmp_path / "run").stdout.splitlines()
    assert ": 1,363 parameters, 50 instances, captured" in first
    row = next(line for line in lines if "dense_states" in line)
    assert [cell.strip() for cell in row.split("│")][2:4] == ["40", "1,240"]


def test_what_is_no_run(tmp_path):
    result = command("info", tmp_path / "nothing")
    assert result.returncode == 1
    assert result.stderr == (
        f"tensorstate: there is no run at {tmp_path / 'nothing'}: nothing is there\n"
    )
    assert result.stdout == ""


def test_damage_has_an_exit_code_of_its_own(tmp_path):
    with ts.StateRecorder("a", tmp_path / "run") as recorder:
        recorder.record(np.ones((5, 20)))
    (tmp_path / "run/a/part-0/states/c/0/0").unlink()
    result = command("info", tmp_path / "run")
    assert result.returncode == 3
    assert "layer a, part 0, chunk 0" in result.stderr
    assert "is missing" in result.stderr


def test_usage():
    assert command().returncode == 2
    assert command("info").returncode == 2
    assert command("inform", "x").returncode == 2
    helped = command("info", "--help")
    assert helped.returncode == 0
    assert "tensorstate info --json run.zarr\n" in helped.stdout
    assert f"tensorstate {ts.__version__}, python 3." in command("--version").stdout
