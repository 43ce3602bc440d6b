"""How many parameters models and their layers have, as Keras counts them, on any backend."""

import json
import math

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate as ts
from tests.capture import models

CAPTURED = {"Conv2D", "Dense", "BatchNormalization", "Block"}


def captured_run(model, x, path, **options):
    """Capture a model's layers, and reopen what was stored."""
    found = {type(layer).__name__ for layer in model._flatten_layers()} & CAPTURED
    probed = ts.build_efficiency_model(model, found, storage_path=path, **options)
    probed.predict(x, verbose=0)
    known = {layer.name: layer.parameter_count for layer in probed.efficiency_layers}
    ts.remove_state_layers(probed)
    run = ts.open_run(path)
    assert {name: layer.parameter_count for name, layer in run.items()} == known
    return run


def layers_by_name(model):
    return {layer.name: layer for layer in model._flatten_layers()}


@pytest.mark.parametrize("histogram", ["stored", "live"])
@pytest.mark.parametrize("name", models.MODELS)
def test_any_model(name, histogram, tmp_path):
    make_model, inputs = models.MODELS[name]
    model = make_model()
    run = captured_run(model, inputs(20), tmp_path / "run", histogram=histogram)
    assert run.parameters == model.count_params()
    assert run.trainable_parameters == sum(math.prod(w.shape) for w in model.trainable_weights)
    for capture in run.values():
        layer = layers_by_name(model)[capture._layer_info().source_layer.split("/")[-1]]
        assert capture.parameter_count == layer.count_params()
        trainable = sum(math.prod(w.shape) for w in layer.trainable_weights)
        assert capture.trainable_parameter_count == trainable
    summary = run.summary()
    assert summary["parameters"].dtype == "Int64"
    assert summary["parameters"].tolist() == [layer.parameter_count for layer in run.values()]


def test_numbers_by_hand(tmp_path):
    """A normalisation has statistics that do not train; a shared layer counts once in a model."""
    inputs = x = layers.Input((6,))
    shared = layers.Dense(6, name="shared")
    x = layers.BatchNormalization(name="norm")(shared(shared(x)))
    frozen = layers.Dense(3, name="frozen", use_bias=False)
    model = keras.Model(inputs, frozen(x))
    frozen.trainable = False
    run = captured_run(model, models.vectors(9), tmp_path / "run")
    assert (run.parameters, run.trainable_parameters) == (42 + 24 + 18, 42 + 12)
    found = {
        name: (layer.parameter_count, layer.trainable_parameter_count)
        for name, layer in run.items()
    }
    assert found == {
        "shared_states": (42, 42),
        "shared_states_1": (42, 42),
        "norm_states": (24, 12),
        "frozen_states": (18, 0),
    }
    about = json.loads((tmp_path / "run" / "zarr.json").read_text())["attributes"]
    assert about["parameters"] == {"total": 84, "trainable": 54}


class Switched(keras.Model):
    """A layer that only some passes reach."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(5, name="first"), layers.Dense(4, name="second")
        self.whole = False

    def call(self, x):
        x = self.first(x)
        return self.second(x) if self.whole else x


@pytest.mark.filterwarnings("ignore:the pass through the model did not reach")
def test_layers_that_have_no_weights_yet(tmp_path):
    model = Switched()
    probed = ts.build_efficiency_model(model, "first", storage_path=tmp_path / "run")
    probed(models.vectors(8))
    (layer,) = probed.efficiency_layers
    layer.flush()
    run = ts.open_run(tmp_path / "run")
    assert (run.parameters, run.trainable_parameters) == (None, None)
    assert run["first_states"].parameter_count == layer.parameter_count == 35
    model.whole = True
    probed(models.vectors(8))
    ts.remove_state_layers(probed)
    assert ts.open_run(tmp_path / "run").parameters == 35 + 24


def test_a_resumed_run_goes_on_with_the_same_network(tmp_path):
    x = models.vectors(8)

    def network(units):
        return keras.Sequential(
            [layers.Input((6,)), layers.Dense(4, name="dense"), layers.Dense(units, name="last")],
            name="net",
        )

    first = network(3)
    captured = ts.build_efficiency_model(first, "dense", storage_path=tmp_path / "run")
    captured.predict(x, verbose=0)
    ts.remove_state_layers(captured)
    before = (tmp_path / "run" / "zarr.json").read_bytes()
    other = network(5)
    with pytest.raises(ValueError, match=r"with 43 parameters, but is to go on with 53: give the"):
        ts.build_efficiency_model(other, "dense", storage_path=tmp_path / "run", mode="resume")
    assert (tmp_path / "run" / "zarr.json").read_bytes() == before
    # What trains does not matter to the states.
    first.layers[0].trainable = False
    again = ts.build_efficiency_model(first, "dense", storage_path=tmp_path / "run", mode="resume")
    again.predict(x, verbose=0)
    ts.remove_state_layers(again)
    run = ts.open_run(tmp_path / "run")
    assert (run.instances, run.parameters, run.trainable_parameters) == (16, 43, 43)


def test_several_parts_are_of_the_same_network(tmp_path):
    x, wide = models.vectors(8), keras.Sequential([layers.Input((6,)), layers.Dense(9)])
    network = keras.Sequential([layers.Input((6,)), layers.Dense(4)])
    for part in range(2):
        probed = ts.build_efficiency_model(
            network, "Dense", storage_path=tmp_path / "run", part=part, first_instance=8 * part
        )
        probed.predict(x, verbose=0)
        ts.remove_state_layers(probed)
    with pytest.raises(ValueError, match="with 28 parameters, but is to go on with 63"):
        ts.build_efficiency_model(
            wide, "Dense", storage_path=tmp_path / "run", part=2, first_instance=16
        )
    run = ts.open_run(tmp_path / "run")
    assert (run.instances, run.parameters) == (16, 28)
    assert run.verify().empty


def test_what_is_not_known(tmp_path):
    with ts.StateRecorder("spikes", tmp_path / "run") as recorder:
        recorder.record(np.ones((3, 2)))
    assert recorder.parameter_count is recorder.trainable_parameter_count is None
    run = ts.open_run(tmp_path / "run")
    assert run.parameters is run.trainable_parameters is run["spikes"].parameter_count is None
    assert run.summary()["parameters"].isna().all()
    inputs = keras.Input((6,))
    probe = ts.StateCapture("probe")
    keras.Model(inputs, probe(layers.Dense(3)(inputs))).predict(models.vectors(4), verbose=0)
    assert probe.parameter_count is None
