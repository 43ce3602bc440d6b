"""Models that people have: every state of every captured layer equals brute force."""

import keras
import numpy as np
import pytest

import tensorstate as ts
from tensorstate.storage import open_run
from tests.capture import zoo
from tests.capture.obvious import packed


def rows_of(model):
    return {capture.name: np.asarray(capture.raw_states) for capture in model.efficiency_layers}


def sample_of(make):
    keras.utils.set_random_seed(11)
    return make()


def assert_states(rows, activations, exact, share=1e-5):
    """Compare bit by bit; without `exact`, a few bits may differ where nothing but noise is."""
    assert rows.shape == packed(activations).shape
    differing = np.unpackbits(rows ^ packed(activations), axis=-1, bitorder="little")
    differing = differing[:, : activations.shape[-1]].astype(bool)
    if exact:
        assert not differing.any()
        return
    noise = 1e-5 * np.abs(activations).max()
    assert np.abs(activations.reshape(differing.shape)[differing]).max(initial=0) <= noise
    assert differing.sum() <= 1 + share * differing.size


def assert_captured(sample, batch_size):
    """Predict with captures, and with a plain model that puts out what they should have met."""
    model, x = sample.model, sample.inputs
    plain = keras.Model(model.inputs, [*sample.tensors.values(), *model.outputs])
    *activations, expected = plain.predict(x, batch_size=batch_size, verbose=0)
    before = model.predict(x, batch_size=batch_size, verbose=0)

    efficiency_model = ts.build_efficiency_model(model, sample.attach_to)
    predicted = efficiency_model.predict(x, batch_size=batch_size, verbose=0)
    np.testing.assert_allclose(predicted, before, rtol=1e-5, atol=1e-6)
    # Predictions that are equal to the last bit leave no room for rounding in what led to them.
    exact = np.array_equal(predicted, expected)

    recorded = rows_of(efficiency_model)
    assert recorded.keys() == sample.tensors.keys()
    for name, activation in zip(sample.tensors, activations, strict=True):
        assert_states(recorded[name], activation, exact)
    for capture in efficiency_model.efficiency_layers:
        assert capture.instance_count == len(x)
    return recorded, dict(zip(sample.tensors, activations, strict=True))


@pytest.mark.parametrize("make", zoo.APPLICATIONS, ids=lambda make: make.__name__)
def test_applications(make):
    sample = sample_of(make)
    _, activations = assert_captured(sample, batch_size=2)
    # Being equal would say nothing if nothing fired, or everything, as where there are sigmoids.
    fired = [np.mean(activation > 0) for activation in activations.values()]
    assert np.mean([0.02 < share < 0.98 for share in fired]) > 0.7


def test_all_53_convolutions_of_resnet50_are_there():
    sample = sample_of(zoo.resnet50)
    efficiency_model = ts.build_efficiency_model(sample.model, "Conv2D")
    assert len(efficiency_model.efficiency_layers) == 53


@pytest.mark.parametrize("make", zoo.HAND_MADE, ids=lambda make: make.__name__)
def test_other_architectures(make):
    sample = sample_of(make)
    recorded, activations = assert_captured(sample, batch_size=4)
    assert list(recorded) == list(sample.tensors), "not in the order in which data meets them"
    for name, activation in activations.items():
        assert 0.02 < np.mean(activation > 0) < 0.98 or name == "head_states"


def test_what_an_attention_is_made_of():
    sample = sample_of(zoo.transformer)
    inner = ["query", "key", "value", "attention_output"]
    efficiency_model = ts.build_efficiency_model(sample.model, [*inner, "MultiHeadAttention"])
    efficiency_model.predict(sample.inputs, verbose=0)
    recorded = rows_of(efficiency_model)
    np.testing.assert_array_equal(
        recorded["attention_output_states"], recorded["attention_1_states"]
    )

    # By hand: the projections of what the first normalisation puts out, (20, 12, heads 3, size 8).
    plain = keras.Model(sample.model.inputs, sample.tensors["norm_1a_states"])
    normed = plain.predict(sample.inputs, verbose=0).astype(np.float64)
    attention = sample.model.get_layer("attention_1")
    for name, dense in (
        ("query_states", attention.query_dense),
        ("key_states", attention.key_dense),
        ("value_states", attention.value_dense),
    ):
        kernel, bias = (np.asarray(weight, np.float64) for weight in dense.weights)
        projected = np.einsum("nti,ihd->nthd", normed, kernel) + bias
        assert_states(recorded[name], projected.astype(np.float32), exact=False, share=1e-4)


def test_training_in_order_records_what_each_batch_met_and_trains_as_ever(tmp_path):
    make = zoo.unet
    y = np.random.default_rng(1).normal(size=(7, 16, 16, 2)).astype(np.float32)
    fit = {"batch_size": 3, "epochs": 2, "shuffle": False, "verbose": 0}

    def compiled():
        sample = sample_of(make)
        sample.model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
        return sample

    plain, captured, stepped = compiled(), compiled(), compiled()
    plain.model.fit(plain.inputs, y, **fit)
    efficiency_model = ts.build_efficiency_model(
        captured.model, captured.attach_to, storage_path=tmp_path / "run"
    )
    efficiency_model.fit(captured.inputs, y, **fit)
    for a, b in zip(captured.model.get_weights(), plain.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)

    # The same training, stopped before every step to look at what the batch meets.
    met = []
    looking = keras.Model(stepped.model.inputs, list(stepped.tensors.values()))
    for start in (0, 3, 6) * 2:
        batch = slice(start, start + 3)
        met.append(looking.predict_on_batch(stepped.inputs[batch]))
        stepped.model.train_on_batch(stepped.inputs[batch], y[batch])
    activations = [np.concatenate(of_layer) for of_layer in zip(*met, strict=True)]
    first, second = activations[0][:7], activations[0][7:]
    assert (packed(first) != packed(second)).any(), "training changed no state: nothing is tested"
    recorded = rows_of(efficiency_model)
    for name, activation in zip(stepped.tensors, activations, strict=True):
        assert_states(recorded[name], activation, exact=False)
    ts.remove_state_layers(efficiency_model)
    assert open_run(tmp_path / "run").instances == 14
