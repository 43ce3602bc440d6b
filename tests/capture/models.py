"""Keras models of every kind, with the inputs that they take."""

import keras
import numpy as np
from keras import layers, ops


def images(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 12, 12, 1)).astype(np.float32)


def vectors(count, width=6, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def functional():
    inputs = x = layers.Input((12, 12, 1))
    x = layers.Conv2D(10, 3, activation="elu", name="conv_1")(x)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPool2D()(x)
    x = layers.Conv2D(20, 3, activation="elu", name="conv_2")(x)
    x = layers.Dense(5, name="dense")(layers.Flatten()(x))
    return keras.Model(inputs, x, name="functional")


def lenet5():
    keras.utils.set_random_seed(9)
    inputs = x = keras.layers.Input((28, 28, 1))
    for name, filters, size in (("conv_1", 20, 5), ("conv_2", 50, 5), ("conv_3", 100, 4)):
        x = keras.layers.Conv2D(filters, size, activation="elu", name=name)(x)
        x = keras.layers.MaxPool2D()(x) if name != "conv_3" else x
    return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(x)))


def unfused():
    """Convolution, normalisation and activation apart, which TensorFlow likes to fuse."""
    inputs = x = layers.Input((12, 12, 1))
    for name in ("conv_1", "conv_2"):
        x = layers.Conv2D(9, 3, use_bias=False, name=name)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x), name="unfused")


def sequential():
    return keras.Sequential(
        [
            layers.Input((12, 12, 1)),
            layers.Conv2D(10, 3, activation="relu", name="conv_1"),
            layers.Flatten(),
            layers.Dense(5, name="dense"),
        ],
        name="sequential",
    )


def residual():
    inputs = x = layers.Input((12, 12, 1))
    x = layers.Conv2D(8, 3, padding="same", name="conv_1")(x)
    y = layers.Conv2D(8, 3, padding="same", name="conv_2")(ops.relu(x))
    return keras.Model(inputs, layers.Flatten()(x + y), name="residual")


def shared():
    a, b = layers.Input((6,), name="left"), layers.Input((6,), name="right")
    dense = layers.Dense(11, name="dense")
    return keras.Model([a, b], [dense(a), dense(b)], name="shared")


def named_inputs_and_outputs():
    inputs = {"left": layers.Input((6,), name="left"), "right": layers.Input((6,), name="right")}
    x = layers.Dense(11, name="dense_1")(inputs["left"])
    y = layers.Dense(13, name="dense_2")(layers.Concatenate()([x, inputs["right"]]))
    return keras.Model(inputs, {"first": x, "second": y}, name="named")


def nested():
    block = keras.Sequential([layers.Input((6,)), layers.Dense(6, name="inner")], name="block")
    inputs = x = layers.Input((6,))
    x = layers.Dense(6, name="outer", activation="tanh")(block(x))
    return keras.Model(inputs, block(x), name="nested")


class Block(layers.Layer):
    """A layer of one's own that holds others."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = layers.Dense(9, activation="relu", name="inner")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


class Subclassed(keras.Model):
    """Layers in an order of its own, one of them twice, and dropout in training."""

    def __init__(self, **options):
        super().__init__(**options)
        self.last = layers.Dense(3, name="last")
        self.first = layers.Dense(9, name="first", activation="relu")
        self.block = Block(name="block")
        self.twice = layers.Dense(9, name="twice")
        self.dropout = layers.Dropout(0.5)

    def call(self, x, training=None):
        x = self.dropout(self.first(x), training=training)
        x = self.twice(self.twice(self.block(x)))
        return self.last(x)


class OwnSteps(keras.Model):
    """Evaluates and trains in a way of its own."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = layers.Dense(4, name="dense")
        self.seen = keras.metrics.Sum(name="seen")

    def call(self, x):
        return self.dense(x)

    def test_step(self, data):
        x, _ = data
        self(x, training=False)
        self.seen.update_state(ops.ones(ops.shape(x)[0]))
        return {"seen": self.seen.result()}

    def predict_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        return 2 * self(x, training=False)


class OwnStepsOnJax(OwnSteps):
    """The same in JAX's way, where steps are given the state and return it."""

    def test_step(self, state, data):
        trainable, fixed, metrics = state
        x, _ = data
        _, fixed = self.stateless_call(trainable, fixed, x)
        with keras.StatelessScope(zip(self.metrics_variables, metrics, strict=True)) as scope:
            self.seen.update_state(ops.ones(ops.shape(x)[0]))
            seen = self.seen.result()
        metrics = [
            m if (new := scope.get_current_value(v)) is None else new
            for v, m in zip(self.metrics_variables, metrics, strict=True)
        ]
        return {"seen": seen}, (trainable, fixed, metrics)

    def predict_step(self, state, data):
        x = data[0] if isinstance(data, tuple) else data
        outputs, fixed = self.stateless_call(*state, x)
        return 2 * outputs, fixed


def own_steps():
    return OwnStepsOnJax() if keras.backend.backend() == "jax" else OwnSteps()


MODELS = {
    model.__name__: (model, make)
    for model, make in [
        (functional, images),
        (unfused, images),
        (sequential, images),
        (residual, images),
        (shared, lambda n: [vectors(n), vectors(n, seed=1)]),
        (named_inputs_and_outputs, lambda n: {"left": vectors(n), "right": vectors(n, seed=1)}),
        (nested, vectors),
        (Subclassed, vectors),
    ]
}
