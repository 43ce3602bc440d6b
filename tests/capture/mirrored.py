"""Captures under MirroredStrategy; test_mirrored.py runs this in a process with two CPU devices."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tensorstate as ts
from tensorstate.storage import open_run
from tests.capture.obvious import packed

BATCH = 16
# The last global batch is split into parts of two sizes, or leaves nothing for the second replica.
COUNTS = (45, 49)


@pytest.fixture(scope="module")
def strategy():
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


class Overtaken(layers.Layer):
    """Passes its input on, in the first replica only after the second one has."""

    def __init__(self, **options):
        super().__init__(**options)
        self.second_is_through = threading.Semaphore(0)
        self.overtakings = 0

    def call(self, x):
        context = tf.distribute.get_replica_context()
        if context is None:  # while the model is built
            return x
        replica = int(tf.get_static_value(context.replica_id_in_sync_group))

        def second(array):
            self.second_is_through.release()
            return array

        def first(array):
            # Without an end, a pass in which the second has to wait for the first would hang.
            self.overtakings += self.second_is_through.acquire(timeout=20)
            return array

        # Not stateful, so that TensorFlow is free to run one before the other.
        same = tf.numpy_function((first, second)[replica], [x], x.dtype, stateful=False)
        same.set_shape(x.shape)
        return x + tf.stop_gradient(same - x)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def make_model(rate=0.0, overtaken=True):
    keras.utils.set_random_seed(5)
    inputs = x = layers.Input((10, 10, 1))
    if overtaken:
        x = Overtaken(name="overtaken")(x)
    x = layers.Conv2D(11, 3, name="conv")(x)
    x = layers.BatchNormalization(momentum=1.0)(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Dense(9, name="dense")(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def images(count):
    return np.random.default_rng(count).normal(size=(count, 10, 10, 1)).astype(np.float32)


def states_of(states, counts):
    return {state.tobytes(): count for state, count in zip(states, counts, strict=True)}


def activations_of(model, x):
    """What conv and dense put out, from a copy that no strategy has to do with."""
    plain = make_model(overtaken=False)
    plain.set_weights(model.get_weights())
    outputs = [plain.get_layer(name).output for name in ("conv", "dense")]
    return keras.Model(plain.inputs, outputs).predict(x, batch_size=BATCH, verbose=0)


WAYS = {
    "predict": lambda m, x: m.predict(x, batch_size=BATCH, verbose=0),
    "evaluate": lambda m, x: m.evaluate(x, np.zeros((len(x), 9)), batch_size=BATCH, verbose=0),
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("way", WAYS)
def test_rows_are_in_the_order_of_the_global_batches(strategy, way, count, tmp_path):
    with strategy.scope():
        model = make_model()
        efficiency_model = ts.build_efficiency_model(
            model, ["Conv2D", "Dense"], storage_path=tmp_path / "run"
        )
    x = images(count)
    WAYS[way](efficiency_model, x)
    steps = -(-count // BATCH)
    assert model.get_layer("overtaken").overtakings == steps, "the replicas ran in order anyway"
    activations = activations_of(model, x)
    for capture, expected in zip(efficiency_model.efficiency_layers, activations, strict=True):
        assert capture.instance_count == count
        np.testing.assert_array_equal(np.asarray(capture.raw_states), packed(expected))
        # One instance of each replica, by its number.
        for number in (3, 12, count - 1):
            histogram = capture.histogram([number])
            states, counts = np.unique(packed(expected[[number]]), axis=0, return_counts=True)
            assert states_of(histogram.packed_states(), histogram.counts) == states_of(
                states, counts
            )
    ts.remove_state_layers(efficiency_model)
    assert open_run(tmp_path / "run").instances == count


# TensorFlow cannot train convolutions on an empty batch, with captures or without them.
@pytest.mark.parametrize("count", [45, 48])
def test_rows_of_training_are_in_the_order_of_the_global_batches(strategy, count):
    with strategy.scope():
        model = make_model(rate=0.0)
        efficiency_model = ts.build_efficiency_model(model, ["Conv2D"])
    x = images(count)
    fit = {"batch_size": BATCH, "epochs": 2, "shuffle": False, "verbose": 0}
    efficiency_model.fit(x, np.zeros((count, 9)), **fit)
    (capture,) = efficiency_model.efficiency_layers
    # The weights stay, and so both epochs meet the same.
    (expected, _) = activations_of(model, x)
    np.testing.assert_array_equal(
        np.asarray(capture.raw_states), packed(np.concatenate([expected, expected]))
    )


@pytest.mark.parametrize("where", ["in the scope", "outside of it"])
def test_training_is_that_of_the_plain_model_on_all_devices(strategy, where):
    x, y = images(45), np.random.default_rng(0).normal(size=(45, 9))
    weights = []
    for captured in (False, True):
        with strategy.scope():
            model = trained = make_model(rate=0.1, overtaken=False)
            if captured and where == "in the scope":
                trained = ts.build_efficiency_model(model, ["Conv2D", "ReLU"])
        if captured and where == "outside of it":
            trained = ts.build_efficiency_model(model, ["Conv2D", "ReLU"])
        before = model.get_weights()
        trained.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
        weights.append(model.get_weights())
        assert trained.distribute_strategy is strategy
        assert not np.array_equal(before[0], weights[-1][0])
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [c.instance_count for c in trained.efficiency_layers] == [90, 90]


def test_steps_of_ones_own(strategy):
    with strategy.scope():
        model = make_model(overtaken=False)
        efficiency_model = ts.build_efficiency_model(model, ["Conv2D", "Dense"])
    x = images(45)
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(BATCH)

    @tf.function
    def step(batch):
        strategy.run(efficiency_model, args=(batch,))

    for batch in strategy.experimental_distribute_dataset(dataset):
        step(batch)
    activations = activations_of(model, x)
    for capture, expected in zip(efficiency_model.efficiency_layers, activations, strict=True):
        np.testing.assert_array_equal(np.asarray(capture.raw_states), packed(expected))


def test_the_callback_measures_on_all_devices_and_leaves_training_as_it_is(strategy):
    x, y, probe = images(45), np.random.default_rng(0).normal(size=(45, 9)), images(37)
    weights = []
    for measured in (False, True):
        with strategy.scope():
            model = make_model(rate=0.1, overtaken=False)
        callbacks = [ts.EfficiencyCallback(probe, "Dense", batch_size=BATCH)] if measured else []
        fit = {"batch_size": BATCH, "epochs": 2, "verbose": 0}
        history = model.fit(x, y, callbacks=callbacks, **fit).history
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
    (_, activations) = activations_of(model, probe)
    _, counts = np.unique(packed(activations), axis=0, return_counts=True)
    p = counts / counts.sum()
    efficiency = -(p * np.log2(p)).sum() / activations.shape[-1]
    assert history["efficiency/dense"][-1] == pytest.approx(efficiency, abs=1e-12)
