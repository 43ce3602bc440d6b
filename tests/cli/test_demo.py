"""The tutorial as a command, and its numbers against those of the stored run."""

import json
import re

import keras
import numpy as np
import pytest

import tensorstate as ts
from tensorstate.cli.lenet5 import load_digits
from tests.cli.programs import command


def run_demo(folder, *arguments):
    result = command("demo", "--epochs", 1, "--folder", folder, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lenet5")
    return folder, run_demo(folder)


def test_it_prints_the_counts_of_the_tutorial(first):
    folder, printed = first
    images = ts.open_run(folder / "run.zarr").instances
    assert images in (1000, 10_000)  # the digits at hand, or the whole of MNIST
    for layer, positions in (("conv_1", 576), ("conv_2", 64), ("conv_3", 1)):
        assert f"Layer {layer}_states number of states: {positions * images}" in printed


def test_what_it_prints_is_what_the_stored_run_says(first):
    folder, printed = first
    run = ts.open_run(folder / "run.zarr")
    for layer in run.values():
        assert f"Layer {layer.name} efficiency: {100 * layer.efficiency():.1f}%" in printed
    network = ts.network_efficiency(run)
    assert f"Network efficiency: {100 * network:.1f}%" in printed
    accuracy = float(re.search(r"Network accuracy: (.*)%", printed)[1]) / 100
    aiq = float(re.search(r"aIQ: (.*)%", printed)[1]) / 100
    assert aiq == pytest.approx(ts.aIQ(network, accuracy, 2), abs=0.002)
    assert accuracy > 0.2


def test_the_stored_run_equals_brute_force_over_plain_outputs(first):
    folder, _ = first
    model = keras.models.load_model(folder / "lenet5.keras")
    outputs = [model.get_layer(name).output for name in ("conv_1", "conv_2", "conv_3")]
    _, (images, _) = load_digits()
    run = ts.open_run(folder / "run.zarr")
    activations = keras.Model(model.inputs, outputs).predict(images, batch_size=200, verbose=0)
    for layer, activation in zip(run.values(), activations, strict=True):
        rows = np.packbits(activation > 0, axis=-1, bitorder="little")
        states, counts = np.unique(rows.reshape(-1, rows.shape[-1]), axis=0, return_counts=True)
        found = dict(zip(layer.state_ids(), layer.counts().tolist(), strict=True))
        assert found == {s.tobytes(): c for s, c in zip(states, counts.tolist(), strict=True)}
        p = counts / counts.sum()
        expected = -(p * np.log2(p)).sum() / activation.shape[-1]
        assert layer.efficiency() == pytest.approx(expected, abs=1e-12)


def test_a_second_run_does_not_train_again_and_says_the_same_to_machines(first):
    folder, printed = first
    trained = (folder / "lenet5.keras").stat().st_mtime_ns
    found = json.loads(run_demo(folder, "--json"))
    assert (folder / "lenet5.keras").stat().st_mtime_ns == trained
    for layer in found["layers"]:
        assert f"Layer {layer['layer']} efficiency: {100 * layer['efficiency']:.1f}%" in printed
    assert f"Network accuracy: {100 * found['accuracy']:.1f}%\n" in printed
    assert printed.endswith(f"aIQ: {100 * found['aIQ']:.1f}%\n")
