"""How many parameters Keras layers and models have."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import keras

from tensorstate.storage import Parameters

__all__ = ["parameters_of"]

_MAKE_NO_WEIGHTS = (keras.layers.Layer.build, keras.Model.build)


def parameters_of(layer: keras.layers.Layer) -> Parameters | None:
    """Count the parameters of a layer or model, each once; None before all weights are made."""
    if not all(map(_has_its_weights, layer._flatten_layers())):
        return None
    return Parameters(_numbers_in(layer.weights), _numbers_in(layer.trainable_weights))


def _has_its_weights(layer: keras.layers.Layer) -> bool:
    # Keras never builds some layers that have nothing to build.
    return layer.built or type(layer).build in _MAKE_NO_WEIGHTS


def _numbers_in(weights: Iterable[Any]) -> int:
    once = {id(weight): weight for weight in weights}
    return sum(math.prod(weight.shape) for weight in once.values())
