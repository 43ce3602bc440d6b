"""What is torch's alone: stand-ins without values, and torch.compile."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tensorstate as ts
from tests.capture import models

if keras.backend.backend() != "torch":
    pytest.skip("needs torch", allow_module_level=True)

import torch


def packed(x):
    x = ops.convert_to_numpy(x)
    return np.packbits(x > 0, axis=-1, bitorder="little").reshape(-1, -(-x.shape[-1] // 8))


def differing(capture, activation):
    """Bits of the last states that are not those of an activation, and how many may differ."""
    rows = packed(activation)
    found = np.asarray(capture.raw_states)[-len(rows) :]
    return np.unpackbits(found ^ rows).sum(), np.count_nonzero(np.abs(activation) < 1e-5)


class NotOnMeta(layers.Layer):
    """Cannot run without values, so that Keras finds its shapes with made-up ones."""

    def build(self, shape):
        self.inner = layers.Dense(5, name="inner")
        self.inner.build(shape)

    def call(self, x):
        if not bool((x == x).all()):
            raise ValueError("NaN")
        return self.inner(x)


@pytest.mark.parametrize("by_hand", [False, True])
def test_made_up_values_are_not_recorded(by_hand):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.odd = NotOnMeta(name="odd")
            self.probe = ts.StateCapture("probe")

        def call(self, x):
            x = self.odd(x)
            return self.probe(x) if by_hand else x

    model = Model()
    run = model if by_hand else ts.build_efficiency_model(model, "NotOnMeta")
    run.compile(loss="mse", optimizer="sgd")
    x = models.vectors(12)
    run.fit(x, np.zeros((12, 5)), batch_size=4, verbose=0)
    run.evaluate(x, np.zeros((12, 5)), batch_size=4, verbose=0)
    capture = model.probe if by_hand else run.efficiency_layers[0]
    assert capture.instance_count == 24


def test_a_stand_in_without_values_is_not_recorded():
    probe = ts.StateCapture("probe")
    assert probe(torch.ones((3, 5), device="meta")).is_meta
    assert probe.state_count == 0


def test_half_floats_with_a_threshold():
    x = torch.randn((50, 7, 20), generator=torch.Generator().manual_seed(0))
    for dtype in (torch.bfloat16, torch.float16):
        probe = ts.StateCapture("probe", threshold=0.1, dtype=str(dtype).removeprefix("torch."))
        half = x.to(dtype)
        half[0, 0] = 0.1
        probe(half.permute(0, 1, 2))
        fires = (half > torch.tensor(0.1, dtype=dtype)).numpy()
        expected = np.packbits(fires, axis=-1, bitorder="little").reshape(-1, 3)
        np.testing.assert_array_equal(np.asarray(probe.raw_states), expected)
        assert not expected[0].any()


def test_compiled_models_record_each_for_itself():
    keras.utils.set_random_seed(7)
    inputs = hidden = layers.Input((6,))
    for name in ("first", "last"):
        hidden = layers.Dense(20, name=name, activation="elu")(hidden)
    model, x = keras.Model(inputs, layers.Dense(2)(hidden)), models.vectors(48)
    shown = [model.get_layer(name).output for name in ("first", "last")]
    activations = keras.Model(inputs, shown).predict(x, batch_size=16, verbose=0)
    model.compile(loss="mse", optimizer="sgd", jit_compile=True)
    expected = model.predict(x, batch_size=16, verbose=0)
    both, last = (ts.build_efficiency_model(model, name) for name in (["first", "last"], "last"))
    assert both.jit_compile
    for times in (1, 2):
        for captured in (both, last):
            outputs = captured.predict(x, batch_size=16, verbose=0)
            # What torch compiles to both sides of a capture adds in another order than the whole.
            np.testing.assert_allclose(outputs, expected, atol=1e-5)
        np.testing.assert_array_equal(model.predict(x, batch_size=16, verbose=0), expected)
        captures = [*both.efficiency_layers, *last.efficiency_layers]
        assert [c.instance_count for c in captures] == [48 * times] * 3
        for capture, activation in zip(captures, [*activations, activations[1]], strict=True):
            wrong, may_be = differing(capture, activation)
            assert wrong <= may_be
    both.efficiency_layers[0].capture_on = False
    both.predict(x, batch_size=16, verbose=0)
    assert [c.instance_count for c in both.efficiency_layers] == [96, 144]
    both.efficiency_layers[0].capture_on = True
    both.fit(x, np.zeros((48, 2)), batch_size=16, verbose=0)
    assert [c.instance_count for c in both.efficiency_layers] == [144, 192]
    assert last.efficiency_layers[0].instance_count == 96


def test_a_layer_in_a_vectorized_map_is_refused():
    class Mapped(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3, name="dense")

        def build(self, shape):
            self.dense.build((shape[0], shape[2]))

        def call(self, x):
            return ops.vectorized_map(self.dense, x)

    inputs = layers.Input((4, 6))
    model = keras.Model(inputs, Mapped()(inputs))
    with pytest.raises(ValueError, match="'dense' runs in a loop, a branch or a function"):
        ts.build_efficiency_model(model, "dense")
