"""The networks: two architectures with layers of any width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

__all__ = ["ARCHITECTURES", "DROPOUT", "Architecture", "Experiment", "build_model"]

DROPOUT = 0.25
"""The share of a layer's outputs that dropout sets to 0 while training."""

_CLASSES = 10


class Architecture(NamedTuple):
    """A network whose hidden layers may have any width.

    Attributes
    ----------
    title : str
        As it is called in text.
    layers : tuple of str
        Names of the hidden layers, from input to output.
    kernels : tuple of int
        Sizes of the convolutions' windows; empty for fully connected layers.
    product : tuple of tuple of int
        The widths of each layer that are combined with all of those of the others.
    ladder : tuple of tuple of int
        Networks from the smallest to the largest, which are trained in other ways as well.
    """

    title: str
    layers: tuple[str, ...]
    kernels: tuple[int, ...]
    product: tuple[tuple[int, ...], ...]
    ladder: tuple[tuple[int, ...], ...]

    def with_widths(self, widths: Sequence[int]) -> Architecture:
        """Return the same with other widths: all combinations, and a ladder of equal ones."""
        layers = len(self.layers)
        ladder = tuple((width,) * layers for width in widths)
        return self._replace(product=(tuple(widths),) * layers, ladder=ladder)


ARCHITECTURES = {
    "lenet_300_100": Architecture(
        "LeNet-300-100",
        ("dense_1", "dense_2"),
        (),
        ((4, 32, 256), (4, 32, 256)),
        ((4, 4), (32, 32), (256, 256)),
    ),
    "lenet_5": Architecture(
        "LeNet-5",
        ("conv_1", "conv_2", "conv_3"),
        (5, 5, 4),
        ((2, 8), (2, 32), (4, 256)),
        ((2, 2, 4), (4, 8, 32), (8, 32, 256)),
    ),
}
"""By name."""


@dataclass(frozen=True)
class Experiment:
    """A network to be trained.

    Attributes
    ----------
    architecture : str
        One of `ARCHITECTURES`.
    widths : tuple of int
        Neurons of each hidden layer.
    batch_norm, dropout : bool
        Whether each hidden layer is followed by batch normalisation, and by dropout.
    random_labels : int
        Percent of the digits for training that get a label drawn from all ten.
    seed : int
        Decides weights, order, dropout and random labels.
    """

    architecture: str
    widths: tuple[int, ...]
    batch_norm: bool = False
    dropout: bool = False
    random_labels: int = 0
    seed: int = 0

    @property
    def network(self) -> str:
        """The widths as text, such as ``8-32-256``."""
        return "-".join(map(str, self.widths))

    @property
    def name(self) -> str:
        """What tells it from all others; the name of a file."""
        extras = ["norm"] * self.batch_norm + ["dropout"] * self.dropout
        return "_".join(
            [
                self.architecture,
                self.network,
                *(extras or ["plain"]),
                f"random{self.random_labels}",
                f"seed{self.seed}",
            ]
        )


def build_model(experiment: Experiment) -> Any:
    """Return the untrained Keras model.

    Hidden layers have exponential linear units, and where asked for batch normalisation and then
    dropout behind them, as the tutorial's network has. The last convolution of LeNet-5 covers its
    whole input, and so is a fully connected layer.

    Parameters
    ----------
    experiment : Experiment
        Which network.

    Returns
    -------
    keras.Model
        From images, (28, 28, 1), to ten logits; hidden layers have the architecture's names.
    """
    import keras

    architecture = ARCHITECTURES[experiment.architecture]
    # Keras takes seeds that it is not given from Python's generator, which Dask's threads use too.
    seeds = map(int, np.random.default_rng(experiment.seed).integers(2**31, size=32))
    images = x = keras.layers.Input((28, 28, 1), name="input")
    if not architecture.kernels:
        x = keras.layers.Flatten(name="flatten")(x)
    for number, (name, width) in enumerate(
        zip(architecture.layers, experiment.widths, strict=True)
    ):
        settings = {
            "activation": "elu",
            "kernel_initializer": keras.initializers.HeNormal(next(seeds)),
        }
        if architecture.kernels:
            layer = keras.layers.Conv2D(width, architecture.kernels[number], name=name, **settings)
        else:
            layer = keras.layers.Dense(width, name=name, **settings)
        x = layer(x)
        if experiment.batch_norm:
            x = keras.layers.BatchNormalization(momentum=0.9)(x)
        if architecture.kernels and name != architecture.layers[-1]:
            x = keras.layers.MaxPool2D(2)(x)
        if experiment.dropout:
            x = keras.layers.Dropout(DROPOUT, seed=next(seeds))(x)
    if architecture.kernels:
        x = keras.layers.Flatten(name="flatten")(x)
    first = keras.initializers.GlorotUniform(next(seeds))
    logits = keras.layers.Dense(_CLASSES, kernel_initializer=first, name="pred")(x)
    return keras.Model(images, logits)
