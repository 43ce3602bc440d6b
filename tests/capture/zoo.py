"""Models of the kinds that people have, with the tensors that their captures should record.

Each maker returns the model, its inputs, the classes to attach to, and the symbolic tensor behind
every capture, by the name of the capture, in the order in which data meets them.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops


class Sample(NamedTuple):
    model: keras.Model
    inputs: Any
    attach_to: list[str]
    tensors: dict[str, Any]


def _images(count, size):
    return np.random.default_rng(0).normal(size=(count, size, size, 3)).astype(np.float32)


def _application(name, kinds):
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=10)
    captured = [layer for layer in model.layers if type(layer).__name__ in kinds]
    tensors = {f"{layer.name}_states": layer.output for layer in captured}
    return Sample(model, 40 * _images(5, 64), kinds, tensors)


def resnet50():
    return _application("ResNet50", ["Conv2D", "Activation", "Dense"])


def mobilenet_v2():
    return _application("MobileNetV2", ["Conv2D", "DepthwiseConv2D", "ReLU", "Dense"])


def efficientnet_b0():
    return _application("EfficientNetB0", ["Conv2D", "DepthwiseConv2D", "Dense"])


class _Noted(dict):
    """Symbolic tensors by the names of their captures, noted while a model is put together."""

    def __call__(self, layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        name = f"{layer.name}_states"
        again = sum(key == name or key.startswith(f"{name}_") for key in self)
        self[f"{name}_{again}" if again else name] = outputs
        return outputs


def transformer():
    noted = _Noted()
    tokens = layers.Input((12,), dtype="int32")
    x = layers.Embedding(50, 24)(tokens) + layers.Embedding(12, 24)(ops.arange(12))
    for block in ("1", "2"):
        y = noted(layers.LayerNormalization(name=f"norm_{block}a"), x)
        y = noted(layers.MultiHeadAttention(3, 8, name=f"attention_{block}"), y, y)
        x = x + layers.Dropout(0.1)(y)
        y = noted(layers.LayerNormalization(name=f"norm_{block}b"), x)
        y = noted(layers.Dense(50, activation="gelu", name=f"wide_{block}"), y)
        x = x + noted(layers.Dense(24, name=f"narrow_{block}"), y)
    x = layers.GlobalAveragePooling1D()(x)
    x = noted(layers.Dense(4, activation="softmax", name="head"), x)
    inputs = np.random.default_rng(0).integers(0, 50, (20, 12))
    kinds = ["MultiHeadAttention", "LayerNormalization", "Dense"]
    return Sample(keras.Model(tokens, x, name="transformer"), inputs, kinds, noted)


def lstm():
    noted = _Noted()
    tokens = layers.Input((9,), dtype="int32")
    x = layers.Embedding(30, 16, mask_zero=True)(tokens)
    both = layers.Bidirectional(layers.LSTM(10, return_sequences=True), name="both_ways")
    x = noted(both, x)
    x = noted(layers.LSTM(21, name="last"), x)
    x = noted(layers.Dense(3, name="head"), x)
    inputs = np.random.default_rng(0).integers(0, 30, (20, 9))
    model = keras.Model(tokens, x, name="lstm")
    return Sample(model, inputs, ["Bidirectional", "last", "Dense"], noted)


def unet():
    noted = _Noted()
    inputs = x = layers.Input((16, 16, 3))
    skips = []
    for depth, width in enumerate((9, 18)):
        x = noted(_convolution(width, f"down_{depth}"), x)
        skips.append(x)
        x = layers.MaxPool2D()(x)
    x = noted(_convolution(30, "bottom"), x)
    for depth, width in ((1, 18), (0, 9)):
        up = layers.Conv2DTranspose(width, 2, strides=2, name=f"wider_{depth}")
        x = layers.Concatenate()([noted(up, x), skips[depth]])
        x = noted(_convolution(width, f"up_{depth}"), x)
    x = noted(layers.Conv2D(2, 1, name="mask"), x)
    model = keras.Model(inputs, x, name="unet")
    return Sample(model, _images(7, 16), ["Conv2D", "Conv2DTranspose"], noted)


def _convolution(width, name):
    return layers.Conv2D(width, 3, padding="same", activation="relu", name=name)


def mixer():
    """Patches mixed across places and channels by layers that every block shares."""
    noted = _Noted()
    inputs = layers.Input((16, 16, 3))
    x = noted(layers.Conv2D(20, 4, strides=4, name="patches"), inputs)
    x = layers.Reshape((16, 20))(x)
    norm = layers.LayerNormalization(name="norm")
    places = [layers.Dense(33, activation="gelu", name="places_in"), layers.Dense(16, name="out")]
    channels = [layers.Dense(40, activation="gelu", name="wide"), layers.Dense(20, name="narrow")]
    for _ in range(3):
        y = ops.transpose(noted(norm, x), (0, 2, 1))
        y = noted(places[1], noted(places[0], y))
        x = x + ops.transpose(y, (0, 2, 1))
        x = x + noted(channels[1], noted(channels[0], noted(norm, x)))
    x = noted(layers.Dense(5, name="head"), layers.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, x, name="mixer")
    return Sample(model, _images(9, 16), ["Conv2D", "Dense", "LayerNormalization"], noted)


APPLICATIONS = [resnet50, mobilenet_v2, efficientnet_b0]
HAND_MADE = [transformer, lstm, unet, mixer]
