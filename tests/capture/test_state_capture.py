"""The capture layer placed by hand."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tensorstate as ts
from tensorstate.storage import open_run
from tests.capture.models import vectors


def probed(**options):
    inputs = layers.Input((6,))
    x = layers.Dense(20, activation="tanh", name="dense")(inputs)
    x = ts.StateCapture("probe", **options)(x)
    model = keras.Model(inputs, [layers.Dense(2, name="out")(x), x])
    model.compile()
    return model, model.get_layer("probe")


def packed(x, threshold=0.0):
    return np.packbits(x > threshold, axis=-1, bitorder="little")


def test_it_records_its_input_and_returns_it(tmp_path):
    model, probe = probed(disk_path=tmp_path / "run", threshold=0.25)
    assert probe.state_count == 0
    _, activations = model.predict(vectors(50), batch_size=16, verbose=0)
    np.testing.assert_array_equal(np.asarray(probe.raw_states), packed(activations, 0.25))
    states, counts = np.unique(packed(activations, 0.25), axis=0, return_counts=True)
    assert dict(zip(probe.state_ids(), probe.counts(), strict=True)) == {
        s.tobytes(): c for s, c in zip(states, counts, strict=True)
    }
    assert (probe.name, probe.neurons, probe.positions, probe.instance_count) == (
        "probe",
        20,
        1,
        50,
    )
    probe.close()
    assert open_run(tmp_path / "run")["probe"].efficiency() == probe.efficiency()


def test_it_is_turned_off_and_reset():
    model, probe = probed()
    probe.capture_on = False
    model.predict(vectors(5), verbose=0)
    assert (probe.state_count, probe.capture_on) == (0, False)
    probe.capture_on = True
    model.predict(vectors(5), verbose=0)
    assert probe.state_count == 5
    ts.reset_efficiency_model(model)
    assert probe.state_count == 0
    model.predict(vectors(7), verbose=0)
    assert probe.counts().sum() == 7


def test_an_eager_call_and_training_record_too():
    model, probe = probed()
    model(vectors(5))
    assert probe.state_count == 5
    model.compile(loss="mse", optimizer="sgd")
    model.fit(vectors(20), [np.zeros((20, 2)), np.zeros((20, 20))], verbose=0)
    assert probe.state_count == 25


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_removing_it_keeps_the_weights(kind):
    if kind == "functional":
        model, probe = probed()
    else:
        probe = ts.StateCapture("probe")
        model = keras.Sequential([layers.Input((6,)), layers.Dense(20), probe, layers.Dense(2)])
    x = vectors(9)
    expected = model.predict(x, verbose=0)
    assert probe.state_count == 9
    plain = ts.remove_state_layers(model)
    assert not any(isinstance(layer, ts.StateCapture) for layer in plain.layers)
    predicted = plain.predict(x, verbose=0)
    keras.tree.map_structure(np.testing.assert_array_equal, predicted, expected)
    assert probe.state_count == 9
    assert plain.weights[0] is model.weights[0]
    assert ts.remove_state_layers(plain) is plain


def test_a_saved_model_keeps_the_probe_but_not_where_it_stored(tmp_path):
    model, _ = probed(disk_path=tmp_path / "run", threshold=0.25)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    _, activations = loaded.predict(vectors(5), verbose=0)
    again = loaded.get_layer("probe")
    np.testing.assert_array_equal(np.asarray(again.raw_states), packed(activations, 0.25))
    assert model.get_layer("probe").state_count == 0


def test_probes_with_one_path_share_a_run(tmp_path):
    inputs = layers.Input((6,))
    x = ts.StateCapture("z", tmp_path / "run")(layers.Dense(20)(inputs))
    x = ts.StateCapture("a", tmp_path / "run")(layers.Dense(7)(x))
    model = keras.Model(inputs, x)
    model.predict(vectors(30), verbose=0)
    model.get_layer("z").close()
    run = open_run(tmp_path / "run")
    assert run.summary()["instances"].to_dict() == {"z": 30, "a": 30}
    assert list(run) == ["z", "a"]
    assert run.instances == 30


def test_a_path_that_holds_a_run_is_refused(tmp_path):
    with ts.StateRecorder("a", tmp_path / "run") as recorder:
        recorder.record(vectors(3))
    with pytest.raises(FileExistsError, match="already holds a run with 3"):
        ts.StateCapture("probe", tmp_path / "run")


def test_network_efficiency_of_probes_placed_by_hand():
    model, probe = probed()
    model.predict(vectors(50), verbose=0)
    assert ts.network_efficiency([probe]) == pytest.approx(probe.efficiency())


@pytest.mark.parametrize("axis", [1, 2, -2])
def test_neurons_on_another_axis(axis):
    probe = ts.StateCapture("probe", channel_axis=axis)
    inputs = layers.Input((7, 20))
    model = keras.Model(inputs, probe(inputs))
    x = np.random.default_rng(0).normal(size=(30, 7, 20)).astype(np.float32)
    model.predict(x, batch_size=16, verbose=0)
    rows = packed(np.moveaxis(x, axis, -1))
    np.testing.assert_array_equal(np.asarray(probe.raw_states), rows.reshape(-1, rows.shape[-1]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int32", "bool"])
def test_activations_of_every_kind(dtype):
    probe = ts.StateCapture("probe", threshold=0.5, dtype=dtype)
    inputs = layers.Input((20,), dtype=dtype)
    model = keras.Model(inputs, ops.cast(probe(inputs), "float32"))
    x = 2 * np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    x[0] = 0.5
    x = ops.convert_to_numpy(ops.cast(x, dtype))
    values = ops.convert_to_tensor(x, dtype)
    with_values = model(values)
    expected = packed(x.astype(np.float32), 0.5)
    np.testing.assert_array_equal(np.asarray(probe.raw_states), expected)
    np.testing.assert_array_equal(ops.convert_to_numpy(with_values), x.astype(np.float32))
    probe.reset_states()
    model.predict(x, batch_size=16, verbose=0)
    np.testing.assert_array_equal(np.asarray(probe.raw_states), expected)
