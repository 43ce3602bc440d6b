"""Efficiency measured while a network trains: right, logged, and without a trace in the weights."""

import csv
import math
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tensorstate as ts
from tests.capture import models

X = models.vectors(64)
Y = np.random.default_rng(1).integers(0, 3, 64)
PROBE = models.vectors(50, seed=2)


class Noise(layers.Layer):
    """Adds noise also when predicting, and counts its calls: what a pass can change."""

    def __init__(self, **options):
        super().__init__(**options)
        self.generator = keras.random.SeedGenerator(3)

    def build(self, shape):
        self.passes = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.passes.assign_add(1)
        return x + 0.01 * keras.random.normal(keras.ops.shape(x), seed=self.generator)


def network(noise=True, **options):
    keras.utils.set_random_seed(4)
    inputs = x = layers.Input((6,))
    x = layers.Dense(12, activation="relu", name="first")(x)
    x = layers.BatchNormalization()(x)
    if noise:
        x = Noise()(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Dense(9, activation="relu", name="second")(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="head")(x))
    return compiled(model, **options)


def compiled(model, metrics=("accuracy",), optimizer="adam", **options):
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=list(metrics), **options)
    return model


def fit(model, *callbacks, epochs=3, **options):
    settings = {"batch_size": 16, "epochs": epochs, "verbose": 0, "callbacks": list(callbacks)}
    return model.fit(X, Y, **{**settings, **options}).history


def expected_values(model, names=("first", "second"), data=PROBE):
    """Efficiencies by brute force, from a plain model of the layers' outputs."""
    outputs = [model.get_layer(name).output for name in names]
    values = {}
    for name, activations in zip(
        names, keras.Model(model.inputs, outputs).predict(data, verbose=0), strict=True
    ):
        _, counts = np.unique(activations > 0, axis=0, return_counts=True)
        p = counts / counts.sum()
        values[f"efficiency/{name}"] = -(p * np.log2(p)).sum() / activations.shape[-1]
    values["network_efficiency"] = np.sqrt(np.prod(list(values.values())))
    return values


class Oracle(keras.callbacks.Callback):
    """Measures every epoch in the plain way."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_epoch_end(self, epoch, logs=None):
        self.values.append(expected_values(self.model))


def test_every_epoch_logs_what_brute_force_says():
    model, oracle = network(noise=False), Oracle()
    callback = ts.EfficiencyCallback(PROBE, "Dense", exclude="head", weight=3)
    history = fit(model, callback, oracle, validation_data=(X, Y))
    for name in oracle.values[0]:
        assert history[name] == pytest.approx([values[name] for values in oracle.values], abs=1e-12)
    assert len(set(history["network_efficiency"])) > 1, "nothing changed: nothing is tested"
    aiqs = [
        ts.aIQ(network, accuracy, 3)
        for network, accuracy in zip(
            history["network_efficiency"], history["val_accuracy"], strict=True
        )
    ]
    assert history["aIQ"] == aiqs


def state_of(model):
    optimizer = [np.asarray(variable) for variable in model.optimizer.variables]
    return [*map(np.asarray, model.variables), *optimizer]


@pytest.mark.parametrize("eager", [False, True])
def test_training_is_the_same_to_the_last_bit(eager):
    ends = []
    for measured in (False, True):
        model = compiled(network(), run_eagerly=eager)
        random.seed(1)
        callbacks = [ts.EfficiencyCallback(PROBE, ["Dense", "Dropout"])] if measured else []
        history = fit(model, *callbacks, validation_data=(X, Y))
        drawn = random.random(), np.random.random()  # noqa: NPY002  (the legacy state is tested)
        ends.append((history, state_of(model), drawn))
    (plain, plain_state, plain_drawn), (history, state, drawn) = ends
    for name, values in plain.items():
        assert history[name] == values
    assert len(state) == len(plain_state) > 20
    for a, b in zip(state, plain_state, strict=True):
        np.testing.assert_array_equal(a, b)
    assert drawn == plain_drawn
    passes = next(layer.passes for layer in model.layers if isinstance(layer, Noise))
    assert int(passes) == 3 * (4 + 4), "the data that is measured on left a trace"


def test_nothing_is_traced_again_and_no_state_is_kept():
    traced = []

    class Counted(layers.Layer):
        def call(self, x, training=None):
            traced.append(training)
            return x

    inputs = layers.Input((6,))
    model = compiled(
        keras.Model(inputs, layers.Dense(3, name="dense")(Counted()(inputs))),
    )
    counts = []
    callback = ts.EfficiencyCallback(PROBE, "dense", batch_size=25)

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            (capture,) = callback._measuring._measuring.efficiency_layers
            counts.append((len(traced), capture.state_count))

    fit(model, callback, Look(), epochs=5)
    if keras.backend.backend() != "torch":  # which traces nothing
        assert [calls for calls, _ in counts] == [counts[0][0]] * 5
    assert [states for _, states in counts] == [0] * 5
    assert callback._measuring is None


def test_training_itself_is_not_recorded(monkeypatch):
    recorded = []
    record = ts.StateRecorder.record
    monkeypatch.setattr(
        ts.StateRecorder,
        "record",
        lambda self, array: (recorded.append(len(array)), record(self, array))[1],
    )
    fit(network(), ts.EfficiencyCallback(PROBE, "first", batch_size=50), epochs=2)
    assert recorded == [50, 50]


def test_every_second_epoch_and_nan_in_between(tmp_path):
    model, oracle, path = network(noise=False), Oracle(), tmp_path / "log.csv"
    callback = ts.EfficiencyCallback(PROBE, ["first", "second"], every=2)
    history = fit(model, callback, oracle, keras.callbacks.CSVLogger(path), epochs=4)
    for name in ("efficiency/first", "efficiency/second", "network_efficiency"):
        values = history[name]
        assert np.isnan(values).tolist() == [False, True, False, True]
        assert values[::2] == pytest.approx([v[name] for v in oracle.values[::2]], abs=1e-12)
    assert np.isnan(history["aIQ"]).tolist() == [False, True, False, True]
    with path.open() as file:
        rows = list(csv.DictReader(file))
    for name in ("efficiency/first", "network_efficiency", "aIQ"):
        assert [float(row[name]) for row in rows] == pytest.approx(history[name], nan_ok=True)

    # A second training begins with a measurement again.
    history = fit(model, callback, epochs=6, initial_epoch=3)
    assert np.isnan(history["network_efficiency"]).tolist() == [False, True, False]


def test_early_stopping_sees_it():
    # Without a rate nothing changes, and so nothing gets better.
    still = network(noise=False, optimizer=keras.optimizers.SGD(0.0), metrics=())
    stop = keras.callbacks.EarlyStopping("efficiency/first", mode="max", patience=2)
    history = fit(still, ts.EfficiencyCallback(PROBE, "first"), stop, epochs=20)
    assert len(history["efficiency/first"]) == 3
    assert stop.best == history["efficiency/first"][0] > 0

    stop = keras.callbacks.EarlyStopping("network_efficiency", mode="max", patience=3)
    history = fit(still, ts.EfficiencyCallback(PROBE, "first", every=2), stop, epochs=20)
    assert np.isnan(history["network_efficiency"]).tolist() == [False, True, False, True]
    assert stop.best == history["network_efficiency"][0] > 0


def test_tensorboard_sees_it(tmp_path):
    pytest.importorskip("tensorboard")
    fit(
        network(),
        ts.EfficiencyCallback(PROBE, "first"),
        keras.callbacks.TensorBoard(tmp_path),
        epochs=2,
    )
    (file,) = (tmp_path / "train").glob("events*")
    tags = [
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    ]
    assert tags.count("epoch_network_efficiency") == 2
    assert tags.count("epoch_efficiency/first") == 2


DATA = {
    "an array": PROBE,
    "a tensor": tf.constant(PROBE),
    "inputs and targets": (PROBE, np.zeros(50)),
    "a dataset": tf.data.Dataset.from_tensor_slices(PROBE).batch(16),
    "a dataset with targets": tf.data.Dataset.from_tensor_slices((PROBE, np.zeros(50))).batch(7),
}


@pytest.mark.parametrize("kind", DATA)
def test_data_of_every_kind(kind):
    model, oracle = network(noise=False), Oracle()
    history = fit(model, ts.EfficiencyCallback(DATA[kind], ["first", "second"]), oracle)
    expected = [values["network_efficiency"] for values in oracle.values]
    assert history["network_efficiency"] == pytest.approx(expected, abs=1e-12)


def test_data_from_a_loader_and_a_keras_dataset():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 5

        def __getitem__(self, number):
            return PROBE[10 * number : 10 * number + 10], np.zeros(10)

    torch = pytest.importorskip("torch")
    tensors = torch.utils.data.TensorDataset(torch.tensor(PROBE), torch.zeros(50))
    loader = torch.utils.data.DataLoader(tensors, batch_size=16)
    expected = fit(network(), ts.EfficiencyCallback(PROBE, "first"))["network_efficiency"]
    for data in (Batches(), loader):
        history = fit(network(), ts.EfficiencyCallback(data, "first"))
        assert history["network_efficiency"] == pytest.approx(expected, abs=1e-12)


def test_several_inputs():
    model = models.named_inputs_and_outputs()
    model.compile("sgd", "mse")
    x = {"left": models.vectors(20), "right": models.vectors(20, seed=1)}
    y = {"first": np.zeros((20, 11)), "second": np.zeros((20, 13))}
    callback = ts.EfficiencyCallback(x, "Dense")
    history = model.fit(x, y, verbose=0, callbacks=[callback]).history
    assert 0 < history["efficiency/dense_1"][0] < 1


def test_a_subclassed_model_that_is_not_built_before():
    model = models.Subclassed()
    model.compile("sgd", "mse")
    callback = ts.EfficiencyCallback(PROBE, "Dense", method="both")
    history = model.fit(X, np.zeros((64, 3)), epochs=2, verbose=0, callbacks=[callback]).history
    assert {"efficiency/first", "efficiency/twice_states_1", "efficiency/inner_pre"} <= {*history}
    assert all(0 < value <= 1 for value in history["network_efficiency"])


def test_captures_placed_by_hand_keep_what_they_recorded():
    inputs = layers.Input((6,))
    probe = ts.StateCapture("probe")
    x = probe(layers.Dense(7, name="dense")(inputs))
    model = compiled(keras.Model(inputs, layers.Dense(3, name="head")(x)))
    history = fit(model, ts.EfficiencyCallback(PROBE, "dense"), epochs=2)
    assert history["efficiency/dense"][1] > 0
    assert probe.capture_on
    assert probe.state_count == 2 * 64
    model.predict(PROBE, verbose=0)
    assert probe.state_count == 2 * 64 + 50


def test_layers_that_would_share_a_name_keep_those_of_their_captures():
    from tensorstate.capture.epochs import _names

    assert _names(["a_states", "a_states_1", "a_pre_states"]) == [
        "efficiency/a",
        "efficiency/a_states_1",
        "efficiency/a_pre",
    ]
    assert _names(["a_states_1", "a_states_1_states"]) == [
        "efficiency/a_states_1",
        "efficiency/a_states_1_states",
    ]


def test_a_threshold_that_a_function_finds_stays_for_the_training():
    class Medians(keras.callbacks.Callback):
        activations = ()

        def on_epoch_end(self, epoch, logs=None):
            first = keras.Model(self.model.inputs, self.model.get_layer("second").output)
            self.activations = (*self.activations, first.predict(PROBE, verbose=0, batch_size=50))

    def median(activations):
        return np.median(activations, axis=0)

    look = Medians()
    callback = ts.EfficiencyCallback(PROBE, "second", batch_size=50, threshold=median)
    history = fit(network(noise=False), callback, look)
    for epoch, activations in enumerate(look.activations):
        fires = activations > median(look.activations[0])
        _, counts = np.unique(fires, axis=0, return_counts=True)
        p = counts / counts.sum()
        expected = -(p * np.log2(p)).sum() / activations.shape[-1]
        assert history["efficiency/second"][epoch] == pytest.approx(expected, abs=1e-12)


# Which accuracy.


def test_auto_takes_the_validation_accuracy_then_that_of_training_then_none():
    def source(model, **options):
        history = fit(model, ts.EfficiencyCallback(PROBE, "first", weight=1), epochs=1, **options)
        if "aIQ" not in history:
            return None
        accuracy = history["aIQ"][0] ** 2 / history["network_efficiency"][0]
        names = [name for name in history if name.endswith("accuracy")]
        return [name for name in names if history[name][0] == pytest.approx(accuracy)]

    validation = (X[:10], Y[:10])
    assert source(network(), validation_data=validation) == ["val_accuracy"]
    assert source(network()) == ["accuracy"]
    assert source(network(metrics=())) is None
    name = "sparse_categorical_accuracy"
    assert source(network(metrics=[name])) == [name]


def test_an_accuracy_by_name_and_none_at_all():
    model = network(metrics=[keras.metrics.SparseCategoricalAccuracy(name="top")])
    history = fit(model, ts.EfficiencyCallback(PROBE, "first", accuracy="top"), epochs=2)
    pairs = zip(history["network_efficiency"], history["top"], strict=True)
    assert history["aIQ"] == [ts.aIQ(network, accuracy, 2) for network, accuracy in pairs]
    assert "aIQ" not in fit(network(), ts.EfficiencyCallback(PROBE, "first", accuracy=None))


def test_an_epoch_without_validation_has_no_aiq():
    callback = ts.EfficiencyCallback(PROBE, "first", accuracy="val_accuracy")
    history = fit(network(), callback, epochs=4, validation_data=(X, Y), validation_freq=2)
    assert np.isnan(history["aIQ"]).tolist() == [True, False, True, False]


def test_an_accuracy_that_is_not_logged_is_an_error():
    callback = ts.EfficiencyCallback(PROBE, "first", accuracy="top5")
    with pytest.raises(ValueError, match="'top5', but the epoch logged accuracy, loss: let"):
        fit(network(), callback)


def test_an_accuracy_in_percent_is_an_error_and_nan_is_not():
    log = ts.EfficiencyCallback(PROBE, "first", accuracy="acc")._log
    recorder = ts.StateRecorder("a_states")
    recorder.record(PROBE)
    log.count_epoch()
    with pytest.raises(ValueError, match=r"'acc' of the epoch is 87.5: choose another"):
        log.measured([recorder], {"acc": 87.5})
    assert math.isnan(log.measured([recorder], {"acc": math.nan})["aIQ"])


# Wrong use.


@pytest.mark.parametrize(
    ("data", "options", "error", "says"),
    [
        (iter([PROBE]), {}, TypeError, "used up by the first measurement"),
        ((PROBE for _ in range(2)), {}, TypeError, "used up by the first measurement"),
        (None, {}, TypeError, "on arrays or a dataset, not on NoneType"),
        ("file.npy", {}, TypeError, "on arrays or a dataset, not on str"),
        ([], {}, TypeError, "not on list"),
        ((), {}, ValueError, "a tuple is"),
        (PROBE[:0], {}, ValueError, "no instance"),
        (tf.data.Dataset.from_tensors(PROBE).repeat(), {}, ValueError, "has no end"),
        (DATA["a dataset"].take(0), {}, ValueError, "dataset holds no instance"),
        (DATA["a dataset"], {"batch_size": 4}, ValueError, "batches of its own"),
        (PROBE, {"batch_size": 0}, ValueError, "at least 1, not 0"),
        (PROBE, {"batch_size": 2.5}, TypeError, "number of instances"),
        (PROBE, {"every": 0}, ValueError, "at least 1 epoch, not 0"),
        (PROBE, {"every": 1.5}, TypeError, "number of epochs, not 1.5"),
        (PROBE, {"every": True}, TypeError, "number of epochs"),
        (PROBE, {"weight": 0}, ValueError, "weight of an aIQ"),
        (PROBE, {"accuracy": 0.9}, TypeError, "a name in the logs"),
    ],
)
def test_wrong_arguments(data, options, error, says):
    with pytest.raises(error, match=says):
        ts.EfficiencyCallback(data, "first", **options)


@pytest.mark.parametrize(
    ("args", "options", "error", "says"),
    [
        (["third"], {}, ValueError, "no layer has the class or the name 'third'"),
        (["first"], {"method": "during"}, ValueError, "unknown method 'during'"),
        (["first"], {"threshold": math.nan}, ValueError, "finite number"),
        (["first"], {"channel_axis": 7}, ValueError, "neurons on axis 7"),
    ],
)
def test_what_cannot_be_captured_is_told_before_training(args, options, error, says):
    model = network()
    before = model.get_weights()
    with pytest.raises(error, match=says):
        fit(model, ts.EfficiencyCallback(PROBE, *args, **options))
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_efficiency_model_records_what_it_trains_on_and_is_refused():
    model = ts.build_efficiency_model(network(), "first")
    with pytest.raises(ValueError, match="has captures already"):
        fit(model, ts.EfficiencyCallback(PROBE, "first"))
