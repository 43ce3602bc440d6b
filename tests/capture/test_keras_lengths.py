"""Instances of different lengths in Keras: only what a mask leaves is recorded, as by hand."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tensorstate as ts
from tensorstate.storage import open_run

VARIABLE = {"variable_positions": True}


def packed(x):
    return np.packbits(np.asarray(x) > 0, axis=-1, bitorder="little")


def check(capture, activations, masks):
    """Compare with the activations (instances, ..., neurons) of batches, where masks are true."""
    rows = [
        packed(x)[i][m[i]] for x, m in zip(activations, masks, strict=True) for i in range(len(x))
    ]
    assert capture.positions is None
    assert capture.instance_count == len(rows)
    np.testing.assert_array_equal(capture.raw_states[:], np.concatenate(rows))
    for number in (0, len(rows) - 1):
        assert capture.histogram([number]).total == len(rows[number])
    lengths = [len(row) for row in rows]
    by = capture.histogram(by=np.arange(len(rows)) % 2)
    assert [by[label].total for label in (0, 1)] == [sum(lengths[0::2]), sum(lengths[1::2])]


def everywhere(x):
    return np.ones(x.shape[:-1], bool)


def sentences():
    """Two batches of numbered words, of 9 and of 5: zeros are padding, also between words."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 3, (6, 9)), rng.integers(0, 3, (7, 5))
    first[:, 0] = second[:, 0] = 1
    first[2] = 0  # nothing but padding
    return [first.astype("int32"), second.astype("int32")]


def test_only_words_are_recorded(tmp_path):
    keras.utils.set_random_seed(3)
    words = layers.Input((None,), dtype="int32")
    embedding = layers.Embedding(3, 10, mask_zero=True, name="embedding")(words)
    rnn = layers.SimpleRNN(12, return_sequences=True, name="rnn")(embedding)
    attention = layers.MultiHeadAttention(2, 4, name="attention")(rnn, rnn)
    last = layers.SimpleRNN(6, name="last")(attention)
    model = keras.Model(words, last)
    spy = keras.Model(words, [embedding, rnn, attention, last])
    spied = [spy.predict_on_batch(batch) for batch in sentences()]
    embedding, rnn, attention, last = ([*of_layer] for of_layer in zip(*spied, strict=True))
    path = tmp_path / "run"
    names = ["rnn", "attention", "last"]
    captured = ts.build_efficiency_model(model, names, (), "both", path, **VARIABLE)
    for batch, expected in zip(sentences(), last, strict=True):
        np.testing.assert_array_equal(captured.predict_on_batch(batch), expected)
    ts.remove_state_layers(captured)
    run = open_run(path)
    where = [batch != 0 for batch in sentences()]
    check(run["rnn_pre_states"], embedding, where)
    check(run["rnn_states"], rnn, where)
    check(run["attention_pre_states"], rnn, where)
    check(run["attention_states"], attention, where)
    check(run["last_pre_states"], attention, where)
    # A state of the whole sentence, whatever there is of it.
    check(run["last_states"], last, [everywhere(x) for x in last])
    assert run.instances == 13


def test_where_all_have_the_same_length_padding_is_recorded():
    words = layers.Input((None,), dtype="int32")
    model = keras.Model(words, layers.Embedding(3, 10, mask_zero=True, name="embedding")(words))
    first, second = sentences()
    captured = ts.build_efficiency_model(model, "embedding")
    activations = captured.predict(first, verbose=0)
    (capture,) = captured.efficiency_layers
    assert (capture.positions, capture.instance_count) == (9, 6)
    np.testing.assert_array_equal(capture.raw_states[:], packed(activations).reshape(54, -1))
    with pytest.raises(Exception, match=r"5 positions, .* with variable_positions=True they may"):
        captured.predict(second, verbose=0)
    words_alone = ts.build_efficiency_model(model, "embedding", **VARIABLE)
    words_alone.predict(first, verbose=0)
    check(words_alone.efficiency_layers[0], [activations], [first != 0])


@pytest.mark.filterwarnings("ignore:Layer 'conv'")
def test_a_layer_that_drops_the_mask_is_recorded_as_a_whole():
    words = layers.Input((None,), dtype="int32")
    x = layers.Embedding(3, 10, mask_zero=True)(words)
    with pytest.warns(UserWarning, match="does not support masking"):
        x = layers.Conv1D(5, 3, name="conv")(x)
    model = keras.Model(words, x)
    captured = ts.build_efficiency_model(model, "conv", **VARIABLE)
    batches = sentences()
    activations = [ops.convert_to_numpy(model(batch)) for batch in batches]
    for batch in batches:
        captured.predict(batch, verbose=0)
    check(captured.efficiency_layers[0], activations, [everywhere(x) for x in activations])


def test_images_of_two_sizes():
    keras.utils.set_random_seed(0)
    pixels = layers.Input((None, None, 3))
    x = layers.Conv2D(9, 3, activation="relu", name="conv")(pixels)
    model = keras.Model(pixels, layers.GlobalAveragePooling2D(name="pool")(x))
    spy = keras.Model(pixels, x)
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(4, *size, 3)).astype("float32") for size in [(9, 7), (5, 12)]]
    captured = ts.build_efficiency_model(model, ["conv", "pool"], **VARIABLE)
    for batch in batches:
        captured.predict(batch, verbose=0)
    activations = [ops.convert_to_numpy(spy(batch)) for batch in batches]
    conv, pool = captured.efficiency_layers
    check(conv, activations, [everywhere(x) for x in activations])
    assert (conv.state_count, pool.state_count) == (4 * 7 * 5 + 4 * 3 * 10, 8)
    assert 0 < conv.efficiency() < 1


def probed(**options):
    """A model with a capture placed by hand behind a layer that makes a mask."""
    steps = layers.Input((None, 4))
    x = layers.Masking(name="masking")(steps)
    return keras.Model(steps, ts.StateCapture("probe", **options)(x))


def walks():
    x = np.random.default_rng(0).normal(size=(6, 8, 4)).astype("float32")
    x[2, 3:] = x[4, :2] = x[5, 4] = 0
    return x


def test_a_capture_placed_by_hand_goes_by_the_mask():
    model = probed(**VARIABLE)
    model.predict(walks(), verbose=0)
    check(model.get_layer("probe"), [walks()], [(walks() != 0).any(-1)])
    again = keras.Model.from_config(model.get_config()).get_layer("probe")
    assert again.get_config()["variable_positions"] is True
    plain = probed()
    plain.predict(walks(), verbose=0)
    assert plain.get_layer("probe").positions == 8


class TakesMasks(keras.Model):
    """Calls its layers with a mask that the inputs do not carry."""

    def __init__(self):
        super().__init__()
        self.rnn = layers.SimpleRNN(5, return_sequences=True)
        self.probe = ts.StateCapture("probe", **VARIABLE)

    def call(self, inputs):
        mask = ops.any(inputs != 0, axis=-1)
        return self.probe(self.rnn(inputs, mask=mask), mask=mask)


def test_a_mask_that_a_layer_is_called_with():
    model = TakesMasks()
    outputs = model.predict(walks(), verbose=0)
    captured = ts.build_efficiency_model(model, "SimpleRNN", **VARIABLE)
    model.probe.reset_states()
    captured.predict(walks(), verbose=0)
    for capture in (captured.efficiency_layers[0], model.probe):
        check(capture, [outputs], [(walks() != 0).any(-1)])


class Sum(layers.Layer):
    """Says that it hands the mask on, but has no positions any more that it would fit."""

    supports_masking = True

    def call(self, inputs):
        return ops.sum(inputs, axis=1)


def test_a_mask_that_does_not_fit():
    steps = layers.Input((None, 4))
    model = keras.Model(steps, Sum(name="sum")(layers.Masking()(steps)))
    captured = ts.build_efficiency_model(model, "sum", **VARIABLE)
    with pytest.raises(
        Exception, match=r"'sum_states' got a mask of shape \(6, 8\), which does not"
    ):
        captured.predict(walks(), verbose=0)


def test_training_and_the_callback():
    steps = layers.Input((None, 4))
    x = layers.Dense(5, name="dense")(layers.Masking()(steps))
    model = keras.Model(steps, layers.GlobalAveragePooling1D()(x))
    model.compile("sgd", "mse")
    captured = ts.build_efficiency_model(model, "dense", **VARIABLE)
    captured.fit(walks(), np.zeros((6, 5)), batch_size=4, verbose=0, shuffle=False)
    assert captured.efficiency_layers[0].state_count == (walks() != 0).any(-1).sum()
    ts.remove_state_layers(captured)
    callback = ts.EfficiencyCallback(walks(), "dense", **VARIABLE)
    history = model.fit(walks(), np.zeros((6, 5)), verbose=0, callbacks=[callback])
    captured = ts.build_efficiency_model(model, "dense", **VARIABLE)
    captured.predict(walks(), verbose=0)
    efficiency = captured.efficiency_layers[0].efficiency()
    assert history.history["efficiency/dense"] == [pytest.approx(efficiency)]
