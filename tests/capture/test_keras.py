"""Efficiency models on Keras: what is recorded equals brute force, and nothing else changes."""

import gc
import threading
import time
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import tensorstate as ts
from tensorstate.storage import open_run
from tests.capture import models
from tests.capture.obvious import packed

WEIGHTED = ["Conv2D", "Dense"]
BACKEND = keras.backend.backend()


def only_on(*backends):
    return pytest.mark.skipif(BACKEND not in backends, reason=f"needs {' or '.join(backends)}")


def rows_of(model):
    return {capture.name: np.asarray(capture.raw_states) for capture in model.efficiency_layers}


def classes_in(model):
    present = {type(layer).__name__ for layer in model._flatten_layers()}
    return [name for name in WEIGHTED if name in present]


def built(name):
    """A model with settled statistics, and its inputs."""
    keras.utils.set_random_seed(7)
    make_model, make_inputs = models.MODELS[name]
    model, x = make_model(), make_inputs(50)
    model.compile(optimizer="sgd", loss="mse")
    model(keras.tree.map_structure(lambda a: a[:8], x), training=True)
    return model, x


def eager_outputs(model, x):
    """What each weighted layer puts out, in the order of the calls, spied on in an eager pass."""
    outputs = []
    spied = [layer for layer in model._flatten_layers() if type(layer).__name__ in WEIGHTED]
    for layer in spied:

        def call(*args, _layer=layer, **kwargs):
            result = type(_layer).call(_layer, *args, **kwargs)
            outputs.append((_layer.name, ops.convert_to_numpy(result)))
            return result

        layer.__dict__["call"] = call
    try:
        model(x)
    finally:
        for layer in spied:
            del layer.__dict__["call"]
    return outputs


@pytest.mark.parametrize("name", models.MODELS)
def test_states_of_every_kind_of_model_equal_a_spied_pass(name):
    model, x = built(name)
    before = model.predict(x, batch_size=16, verbose=0)
    efficiency_model = ts.build_efficiency_model(model, classes_in(model))
    predicted = efficiency_model.predict(x, batch_size=16, verbose=0)
    keras.tree.map_structure(np.testing.assert_array_equal, predicted, before)

    met = {}
    for layer_name, output in eager_outputs(model, x):
        again = sum(key.startswith(f"{layer_name}_states") for key in met)
        met[f"{layer_name}_states" + (f"_{again}" if again else "")] = output
    found = rows_of(efficiency_model)
    assert list(found) == list(met)
    for capture, output in met.items():
        # A graph adds in another order than an eager pass: only what is next to zero may differ.
        differing = np.unpackbits(found[capture] ^ packed(output)).sum()
        near_zero = np.count_nonzero(np.abs(output) < 1e-5)
        assert found[capture].shape == packed(output).shape
        assert differing <= near_zero


@pytest.mark.parametrize("name", models.MODELS)
def test_the_original_stays_as_it_was(name, tmp_path):
    model, x = built(name)
    before = model.predict(x, verbose=0)
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    attributes = [set(vars(layer)) for layer in model._flatten_layers()]
    model.save_weights(tmp_path / "before.weights.h5")
    config = keras.saving.serialize_keras_object(model) if name != "Subclassed" else None

    efficiency_model = ts.build_efficiency_model(model, classes_in(model))
    efficiency_model.predict(x, verbose=0)
    recorded = rows_of(efficiency_model)

    keras.tree.map_structure(np.testing.assert_array_equal, model.predict(x, verbose=0), before)
    model(x)
    for capture, rows in rows_of(efficiency_model).items():
        assert len(rows) == len(recorded[capture]), "the original recorded"
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == nodes
    assert [set(vars(layer)) for layer in model._flatten_layers()] == attributes
    if config is not None:
        assert keras.saving.serialize_keras_object(model) == config
    assert ts.remove_state_layers(efficiency_model) is model


def test_the_saved_file_of_the_original_is_unchanged(tmp_path):
    model, x = built("functional")

    def saved(name, which=model):
        which.save(tmp_path / f"{name}.keras")
        loaded = keras.models.load_model(tmp_path / f"{name}.keras")
        return loaded.get_config(), loaded.get_weights(), loaded.predict(x, verbose=0)

    before = saved("before")
    efficiency_model = ts.build_efficiency_model(model, "Conv2D")
    efficiency_model.predict(x, verbose=0)
    for name, which in (("after", model), ("through", efficiency_model)):
        config, weights, predicted = saved(name, which)
        assert config == before[0]
        for a, b in zip(weights, before[1], strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(predicted, before[2])


@pytest.fixture(scope="module")
def lenet():
    """A functional model, its inputs, and the activations of its convolutions."""
    model, _ = built("functional")
    x = models.images(100)
    outputs = [layer.output for layer in model.layers if layer.name in ("conv_1", "conv_2")]
    plain = keras.Model(model.inputs, outputs)
    return model, x, plain.predict(x, batch_size=16, verbose=0)


def test_counts_ids_and_efficiency_equal_brute_force(lenet, tmp_path):
    model, x, activations = lenet
    run = tmp_path / "run.zarr"
    efficiency_model = ts.build_efficiency_model(model, ["Conv2D"], storage_path=run)
    efficiency_model.predict(x, batch_size=16, verbose=0)
    efficiencies = []
    for capture, activation in zip(efficiency_model.efficiency_layers, activations, strict=True):
        states, counts = np.unique(packed(activation), axis=0, return_counts=True)
        expected = {s.tobytes(): c for s, c in zip(states, counts, strict=True)}
        assert dict(zip(capture.state_ids(), capture.counts(), strict=True)) == expected
        p = counts / counts.sum()
        efficiencies.append(-(p * np.log2(p)).sum() / activation.shape[-1])
        assert capture.efficiency() == pytest.approx(efficiencies[-1], abs=1e-12)
        assert capture.state_count == 100 * np.prod(activation.shape[1:-1])
        np.testing.assert_array_equal(np.asarray(capture.raw_states), packed(activation))
    network = ts.network_efficiency(efficiency_model)
    assert network == pytest.approx(np.sqrt(np.prod(efficiencies)), abs=1e-12)
    ts.remove_state_layers(efficiency_model)
    reopened = open_run(run)
    assert reopened.instances == 100
    assert ts.network_efficiency(reopened) == network
    assert reopened["conv_1_states"].counts().tolist() == (
        efficiency_model.efficiency_layers[0].counts().tolist()
    )
    assert reopened.attributes["model"] == "functional"


def dataset(x):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(x).batch(16).prefetch(2)


WAYS = {
    "predict": lambda m, x: m.predict(x, batch_size=16, verbose=0),
    "predict with a partial last batch": lambda m, x: m.predict(x, batch_size=30, verbose=0),
    "predict of a dataset": lambda m, x: m.predict(dataset(x), verbose=0),
    "predict of a generator": lambda m, x: m.predict(((p,) for p in np.split(x, 10)), verbose=0),
    "predict_on_batch": lambda m, x: [m.predict_on_batch(part) for part in np.split(x, 4)],
    "evaluate": lambda m, x: m.evaluate(x, np.zeros((100, 5)), batch_size=30, verbose=0),
    "an eager call": lambda m, x: [m(part) for part in np.split(x, 4)],
    "a compiled function": lambda m, x: [compiled(m)(part) for part in np.split(x, 2)],
}


def compiled(function):
    """Compile as a user of the framework does."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    import torch

    return torch.compile(function, backend="eager")


@pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=[only_on("tensorflow")] if "dataset" in way else []) for way in WAYS],
)
def test_rows_are_in_instance_order(lenet, way):
    model, x, activations = lenet
    efficiency_model = ts.build_efficiency_model(model, "Conv2D")
    assert not efficiency_model.run_eagerly
    WAYS[way](efficiency_model, x)
    for rows, activation in zip(rows_of(efficiency_model).values(), activations, strict=True):
        differing = np.unpackbits(rows ^ packed(activation)).sum()
        assert differing <= np.count_nonzero(np.abs(activation) < 1e-5)


@only_on("tensorflow", "jax")
def test_several_steps_in_one_execution(lenet):
    model, x, activations = lenet
    efficiency_model = ts.build_efficiency_model(model, "Conv2D")
    efficiency_model.compile(loss="mse", steps_per_execution=4)
    efficiency_model.predict(x, batch_size=16, verbose=0)
    for rows, activation in zip(rows_of(efficiency_model).values(), activations, strict=True):
        np.testing.assert_array_equal(rows, packed(activation))


def test_training_records_and_trains():
    model, x = built("functional")
    y = np.random.default_rng(0).normal(size=(50, 5))
    efficiency_model = ts.build_efficiency_model(model, "Conv2D")
    weights = model.get_weights()
    history = efficiency_model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]
    assert not np.array_equal(model.get_weights()[0], weights[0])
    assert [c.instance_count for c in efficiency_model.efficiency_layers] == [100, 100]


def test_training_through_the_efficiency_model_is_training_the_original():
    y = np.random.default_rng(0).normal(size=(50, 5))
    weights = []
    for probe in (False, True):
        model, x = built("functional")
        trained = ts.build_efficiency_model(model, "Conv2D") if probe else model
        trained.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_dropout_is_active_in_training_only():
    model, x = built("Subclassed")
    efficiency_model = ts.build_efficiency_model(model, "Dropout")
    for training, share in ((False, 1.0), (True, 0.5)):
        ts.reset_efficiency_model(efficiency_model)
        active = ops.convert_to_numpy(model.first(x)) > 0
        efficiency_model(x, training=training)
        fired = efficiency_model.efficiency_layers[0].raw_states[:]
        kept = np.unpackbits(fired).sum() / active.sum()
        assert kept == pytest.approx(share, abs=0.1)


def test_before_after_and_both(lenet):
    model, x, activations = lenet
    both = ts.build_efficiency_model(model, "conv_2", method="both")
    both.predict(x, verbose=0)
    assert list(rows_of(both)) == ["conv_2_pre_states", "conv_2_states"]
    inputs = keras.Model(model.inputs, model.get_layer("conv_2").input).predict(x, verbose=0)
    np.testing.assert_array_equal(rows_of(both)["conv_2_pre_states"], packed(inputs))
    np.testing.assert_array_equal(rows_of(both)["conv_2_states"], packed(activations[1]))
    before = ts.build_efficiency_model(model, "conv_2", method="before")
    before.predict(x, verbose=0)
    assert list(rows_of(before)) == ["conv_2_pre_states"]


def test_capture_can_be_turned_off_and_on_in_a_traced_model(lenet):
    model, x, _ = lenet
    efficiency_model = ts.build_efficiency_model(model, "Conv2D")
    first, second = efficiency_model.efficiency_layers
    first.capture_on = False
    efficiency_model.predict(x, verbose=0)
    assert (first.state_count, second.instance_count) == (0, 100)
    first.capture_on, second.capture_on = True, False
    efficiency_model.predict(x, verbose=0)
    assert (first.instance_count, second.instance_count) == (100, 100)


def test_reset_forgets_everything_and_goes_on(lenet):
    model, x, activations = lenet
    efficiency_model = ts.build_efficiency_model(model, "Conv2D")
    efficiency_model.predict(x[::-1], verbose=0)
    ts.reset_efficiency_model(efficiency_model)
    assert [c.state_count for c in efficiency_model.efficiency_layers] == [0, 0]
    efficiency_model.predict(x, batch_size=16, verbose=0)
    for rows, activation in zip(rows_of(efficiency_model).values(), activations, strict=True):
        np.testing.assert_array_equal(rows, packed(activation))


def test_nothing_is_recorded_while_models_are_built(lenet):
    model, _, _ = lenet
    efficiency_model = ts.build_efficiency_model(model, "Conv2D")
    outer_input = layers.Input((12, 12, 1))
    outer = keras.Model(outer_input, layers.Dense(2)(efficiency_model(outer_input)))
    assert [c.state_count for c in efficiency_model.efficiency_layers] == [0, 0]
    outer.predict(models.images(7), verbose=0)
    assert [c.instance_count for c in efficiency_model.efficiency_layers] == [7, 7]


def test_two_efficiency_models_of_one_model_record_for_themselves(lenet):
    model, x, activations = lenet
    one, two = (ts.build_efficiency_model(model, name) for name in ("conv_1", "Conv2D"))
    one.predict(x, batch_size=16, verbose=0)
    assert [c.state_count for c in two.efficiency_layers] == [0, 0]
    two.predict(x, batch_size=16, verbose=0)
    np.testing.assert_array_equal(rows_of(one)["conv_1_states"], packed(activations[0]))
    np.testing.assert_array_equal(rows_of(two)["conv_2_states"], packed(activations[1]))
    assert one.efficiency_layers[0].instance_count == 100


def test_the_original_does_not_record_while_another_thread_traces(lenet):
    model, x, activations = lenet

    def predict(efficiency_model, x):
        if BACKEND != "jax":
            return efficiency_model.predict(x, batch_size=16, verbose=0)
        # While a model predicts on JAX, Keras takes its variables away from other threads.
        traced = compiled(efficiency_model)
        return [traced(x[start : start + 16]) for start in range(0, len(x), 16)]

    done = threading.Event()

    def use_the_original():
        while not done.is_set():
            model(x[:3])

    thread = threading.Thread(target=use_the_original)
    thread.start()
    try:
        for _ in range(5):
            efficiency_model = ts.build_efficiency_model(model, "Conv2D")
            predict(efficiency_model, x)
            efficiency_model(x[:3])
            for rows, activation in zip(
                rows_of(efficiency_model).values(), activations, strict=True
            ):
                np.testing.assert_array_equal(rows[: -len(rows) * 3 // 103], packed(activation))
                assert len(rows) == len(packed(activation)) * 103 // 100
    finally:
        done.set()
        thread.join()


def test_a_model_with_steps_of_its_own_keeps_them():
    model, x = models.own_steps(), models.vectors(50)
    model.compile(loss="mse")
    y = np.zeros((50, 4))
    expected = model.predict(x, verbose=0)
    efficiency_model = ts.build_efficiency_model(model, "dense")
    np.testing.assert_array_equal(efficiency_model.predict(x, verbose=0), expected)
    results = efficiency_model.evaluate(x, y, verbose=0, return_dict=True)
    assert results == {"seen": 50.0}
    assert efficiency_model.evaluate(x, y, verbose=0, return_dict=True) == {"seen": 50.0}
    assert efficiency_model.efficiency_layers[0].instance_count == 150


def test_masks_pass_through_the_probes():
    inputs = layers.Input((5,), dtype="int32")
    x = layers.Embedding(10, 4, mask_zero=True, name="embedding")(inputs)
    x = layers.LSTM(6, return_sequences=True, name="lstm")(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(x))
    tokens = np.random.default_rng(0).integers(0, 10, (20, 5))
    efficiency_model = ts.build_efficiency_model(model, ["Embedding", "LSTM"], method="both")
    np.testing.assert_array_equal(
        efficiency_model.predict(tokens, verbose=0), model.predict(tokens, verbose=0)
    )
    assert [c.positions for c in efficiency_model.efficiency_layers] == [1, 5, 5, 5]


def test_mixed_precision_packs_half_floats():
    inputs = layers.Input((6,))
    model = keras.Model(inputs, layers.Dense(20, dtype="mixed_bfloat16", name="dense")(inputs))
    x = models.vectors(30)
    efficiency_model = ts.build_efficiency_model(model, "dense")
    out = efficiency_model.predict(x, verbose=0)
    np.testing.assert_array_equal(rows_of(efficiency_model)["dense_states"], packed(out))


def test_a_model_that_xla_was_asked_for_still_records():
    model, x = built("functional")
    model.compile(loss="mse", jit_compile=True)
    efficiency_model = ts.build_efficiency_model(model, "Conv2D")
    efficiency_model.predict(x, verbose=0)
    assert [c.instance_count for c in efficiency_model.efficiency_layers] == [50, 50]


def test_what_a_user_looks_at(lenet, capsys):
    model, _x, _ = lenet
    efficiency_model = ts.build_efficiency_model(model, "Conv2D")
    assert efficiency_model.layers == model.layers
    assert efficiency_model.get_layer("conv_1") is model.get_layer("conv_1")
    efficiency_model.summary()
    assert "conv_1" in capsys.readouterr().out
    assert efficiency_model.count_params() == model.count_params()
    assert "conv_1_states" in repr(efficiency_model.efficiency_layers)


def test_an_efficiency_model_that_is_dropped_leaves_no_thread(lenet):
    model, x, _ = lenet
    before = set(threading.enumerate())
    efficiency_model = ts.build_efficiency_model(model, "Conv2D")
    efficiency_model.predict(x, verbose=0)
    (thread,) = (t for t in set(threading.enumerate()) - before if t.name == "tensorstate-writer")
    del efficiency_model
    deadline = time.monotonic() + 20
    while thread.is_alive() and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)
    assert not thread.is_alive()


# Wrong use: one clear sentence, and nothing half-made.


def refused(tmp_path, error, says, model, *args, **options):
    with pytest.raises(error, match=says):
        ts.build_efficiency_model(model, *args, storage_path=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("args", "options", "error", "says"),
    [
        (["conv2d"], {}, ValueError, "'conv2d'; did you mean 'Conv2D'"),
        (["conv_3"], {}, ValueError, "did you mean .*'conv_2'"),
        (["Nothing like it"], {}, ValueError, "the network has"),
        ([[]], {}, ValueError, "attach_to is empty"),
        ([[3]], {}, TypeError, "names or classes"),
        (["Conv2D"], {"exclude": "Conv2D"}, ValueError, "takes away all"),
        (
            ["Conv2D"],
            {"exclude": "cnv_1"},
            ValueError,
            "exclude: no layer .* did you mean 'conv_1'",
        ),
        (["Conv2D"], {"method": "during"}, ValueError, "'during': choose one of 'before', 'after'"),
        (["Conv2D"], {"mode": "a"}, ValueError, "unknown mode"),
        (["Conv2D"], {"threshold": float("nan")}, ValueError, "finite number"),
        (["Conv2D"], {"channel_axis": 0}, ValueError, "output of layer 'conv_1' .*axis 0"),
        (["Conv2D"], {"channel_axis": 4}, ValueError, "neurons on axis 4"),
        (["Conv2D"], {"queue_bytes": -1}, ValueError, "positive number of bytes"),
    ],
)
def test_wrong_arguments(lenet, tmp_path, args, options, error, says):
    refused(tmp_path, error, says, lenet[0], *args, **options)


def test_attach_and_exclude_by_class_and_name(lenet):
    model = lenet[0]

    def names(*args, **options):
        efficiency_model = ts.build_efficiency_model(model, *args, **options)
        return [c.name for c in efficiency_model.efficiency_layers]

    assert names(layers.Conv2D) == names("Conv2D") == ["conv_1_states", "conv_2_states"]
    assert names("Conv2D", exclude="conv_1") == ["conv_2_states"]
    assert names(["dense", layers.Conv2D], exclude=["conv_2"]) == ["conv_1_states", "dense_states"]


def test_a_path_that_holds_a_run_is_refused_unless_told_otherwise(lenet, tmp_path):
    model, x, _ = lenet
    path = tmp_path / "run"
    first = ts.build_efficiency_model(model, "Conv2D", storage_path=path)
    first.predict(x[:10], verbose=0)
    with pytest.raises(FileExistsError, match="open for writing in this process"):
        ts.build_efficiency_model(model, "Conv2D", storage_path=path)
    ts.remove_state_layers(first)
    with pytest.raises(FileExistsError, match="already holds a run with 10 committed instances"):
        ts.build_efficiency_model(model, "Conv2D", storage_path=path)
    resumed = ts.build_efficiency_model(model, "Conv2D", storage_path=path, mode="resume")
    resumed.predict(x[10:], batch_size=16, verbose=0)
    assert [c.instance_count for c in resumed.efficiency_layers] == [100, 100]
    ts.remove_state_layers(resumed)
    fresh = ts.build_efficiency_model(model, "Conv2D", storage_path=path, mode="w")
    fresh.predict(x[:5], verbose=0)
    ts.remove_state_layers(fresh)
    assert open_run(path).instances == 5


def test_a_path_that_cannot_be_written(lenet, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="cannot write a run there"):
        ts.build_efficiency_model(lenet[0], "Conv2D", storage_path=tmp_path / "file" / "run")


class Several(layers.Layer):
    def call(self, x):
        return x, 2 * x


def as_strings(x):
    import tensorflow as tf

    return tf.as_string(x)


def as_complex(x):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.cast(x, tf.complex64)
    return x + 1j


@pytest.mark.parametrize(
    ("layer", "method", "says"),
    [
        (Several(name="odd"), "after", "the output of layer 'odd' is a tuple, not a tensor"),
        (layers.Lambda(lambda x: {"a": x}, name="odd"), "after", "'odd' is a dict, not a tensor"),
        (layers.Lambda(lambda x: ops.sum(x, axis=-1), name="odd"), "after", "has the shape"),
        pytest.param(
            layers.Lambda(lambda x: as_strings(x), name="odd"),
            "after",
            "holds string",
            marks=only_on("tensorflow"),
        ),
        (layers.Lambda(lambda x: as_complex(x), name="odd"), "after", "holds complex64"),
    ],
)
def test_a_layer_whose_output_is_no_tensor_of_numbers(tmp_path, layer, method, says):
    inputs = layers.Input((6,))
    model = keras.Model(inputs, layer(inputs))
    refused(tmp_path, ValueError, says, model, "odd", method=method)


def test_a_layer_that_takes_a_list(tmp_path):
    inputs = layers.Input((6,))
    model = keras.Model(inputs, layers.Add(name="add")([inputs, inputs]))
    refused(tmp_path, ValueError, "input of layer 'add' is a list", model, "add", method="before")
    assert ts.build_efficiency_model(model, "add").efficiency_layers


def test_layers_inside_of_loops_are_refused(tmp_path):
    inputs = layers.Input((4, 12, 12, 1))
    x = layers.TimeDistributed(layers.Conv2D(3, 3, name="inside"), name="td")(inputs)
    model = keras.Model(inputs, x)
    refused(tmp_path, ValueError, "runs once for every time step of 'td'", model, "inside")
    efficiency_model = ts.build_efficiency_model(model, "td")
    video = np.random.default_rng(0).normal(size=(5, 4, 12, 12, 1))
    efficiency_model.predict(video, verbose=0)
    assert efficiency_model.efficiency_layers[0].positions == 4 * 10 * 10


@only_on("tensorflow", "jax")
def test_layers_inside_of_a_function_of_their_own_are_refused():
    class Hidden(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3, name="dense")

            self.inner = compiled(self.dense)

        def call(self, x):
            return self.inner(x)

    model = Hidden()
    model(models.vectors(3))
    efficiency_model = ts.build_efficiency_model(model, "dense")
    with pytest.raises(
        ValueError, match="'dense' runs in a loop, a branch or a function compiled on its own"
    ):
        efficiency_model.predict(models.vectors(5), verbose=0)
    # One that was traced before, by the original, is not traced again, and so cannot be probed.
    efficiency_model = ts.build_efficiency_model(model, "dense")
    with pytest.warns(RuntimeWarning, match="did not reach dense_states.*compiled on its own"):
        efficiency_model(models.vectors(3))
    assert efficiency_model.efficiency_layers[0].state_count == 0


def test_a_layer_that_a_pass_does_not_reach_is_told():
    class Unused(keras.Model):
        def __init__(self):
            super().__init__()
            self.used = layers.Dense(3, name="used")
            self.unused = layers.Dense(3, name="unused")

        def call(self, x):
            return self.used(x)

    efficiency_model = ts.build_efficiency_model(Unused(), "Dense")
    with pytest.warns(RuntimeWarning, match="did not reach unused_states"):
        efficiency_model.predict(models.vectors(5), verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        efficiency_model(models.vectors(5))
    used, unused = efficiency_model.efficiency_layers
    assert (used.instance_count, unused.instance_count) == (10, 0)
    with pytest.raises(ValueError, match="'unused_states' has recorded no states yet"):
        ts.network_efficiency(efficiency_model)


def test_what_is_no_keras_model(lenet):
    with pytest.raises(TypeError, match="a list cannot be captured"):
        ts.build_efficiency_model([1, 2], "Conv2D")
    efficiency_model = ts.build_efficiency_model(lenet[0], "Conv2D")
    with pytest.raises(ValueError, match="has captures already"):
        ts.build_efficiency_model(efficiency_model, "Conv2D")


def callback_errors():
    """What may come out of predict if recording fails."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.errors.OpError, OSError
    return OSError


def test_a_failure_in_the_background_stops_predict_with_its_cause(lenet):
    from zarr.storage import MemoryStore

    from tests.storage.stores import FailingStore

    model, x, _ = lenet
    store = FailingStore(MemoryStore(), chunks=0)
    efficiency_model = ts.build_efficiency_model(
        model, "Conv2D", storage_path=store, queue_bytes=1000
    )

    def predict_often():
        for _ in range(200):
            efficiency_model.predict(x, verbose=0)

    with pytest.raises(callback_errors(), match="No space left on device"):
        predict_often()
    with pytest.raises(OSError, match="No space left on device"):
        efficiency_model.efficiency_layers[0].flush()
