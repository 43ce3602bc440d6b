"""One network, against the obvious; and what it is made of."""

from itertools import pairwise

import keras
import numpy as np
import pytest

from scripts.paper import experiment
from scripts.paper.data import load, randomised
from scripts.paper.grid import grid
from scripts.paper.networks import ARCHITECTURES, Experiment, build_model
from scripts.paper.table import COLUMNS

TINY = experiment.Settings(digits=200, epochs=1)


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("norm", [False, True])
def test_parameters_are_those_that_can_be_counted_by_hand(name, norm):
    architecture = ARCHITECTURES[name]
    widths = architecture.ladder[1]
    model = build_model(Experiment(name, widths, batch_norm=norm))
    windows = [kernel**2 for kernel in architecture.kernels] or [1] * len(widths)
    sizes = [1 if architecture.kernels else 784, *widths]
    expected = sum(
        window * a * b + b for window, (a, b) in zip(windows, pairwise(sizes), strict=True)
    )
    expected += 10 * widths[-1] + 10 + 2 * norm * sum(widths)
    assert sum(np.prod(each.shape) for each in model.trainable_weights) == expected
    assert model.output_shape == (None, 10)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_normalisation_and_dropout_follow_each_hidden_layer(name):
    layers = len(ARCHITECTURES[name].layers)
    widths = ARCHITECTURES[name].ladder[0]
    plain = kinds(build_model(Experiment(name, widths)))
    assert not {"BatchNormalization", "Dropout"} & set(plain)
    for norm, dropout in ((True, False), (False, True), (True, True)):
        found = kinds(build_model(Experiment(name, widths, norm, dropout)))
        assert found.count("BatchNormalization") == layers * norm
        assert found.count("Dropout") == layers * dropout


@pytest.mark.parametrize("percent", [0, 25, 75, 100])
def test_random_labels_are_as_many_as_asked_for(percent):
    labels = np.random.default_rng(0).integers(0, 10, 4000)
    given, is_wrong = randomised(labels, percent, seed=1)
    assert np.array_equal(is_wrong, given != labels)
    assert is_wrong.mean() == pytest.approx(0.9 * percent / 100, abs=0.02)
    again, _ = randomised(labels, percent, seed=1)
    other, _ = randomised(labels, percent, seed=2)
    assert np.array_equal(given, again)
    assert np.array_equal(given, other) == (percent == 0)


def test_digits_are_cut_to_what_is_asked_for():
    train, test = load("digits", 200)
    assert train.images.shape == (160, 28, 28, 1)
    assert test.images.shape == (40, 28, 28, 1)
    assert train.images.dtype == np.float32
    assert train.images.max() == 1
    with pytest.raises(ValueError, match="ask for fewer, and for 5 or more"):
        load("digits", 6000)
    with pytest.raises(ValueError, match="ask for fewer, and for 5 or more"):
        load("digits", 4)
    with pytest.raises(ValueError, match="choose one of digits, mnist"):
        load("letters")


def test_what_is_measured_equals_brute_force(monkeypatch):
    kept = []
    train = experiment._train

    def keep(model, digits, settings):
        kept.append((model, digits))
        return train(model, digits, settings)

    monkeypatch.setattr(experiment, "_train", keep)
    rows = experiment.measure(Experiment("lenet_5", (2, 4, 8), random_labels=75), TINY)
    ((model, digits),) = kept
    true, test = load("digits", 200)
    assert set(rows[0]) == set(COLUMNS)

    outputs = [model.get_layer(name).output for name in ARCHITECTURES["lenet_5"].layers]
    activations = keras.Model(model.inputs, outputs).predict(test.images, verbose=0)
    for row, activation in zip(rows, activations, strict=True):
        fires = (activation > 0).reshape(-1, activation.shape[-1])
        _, counts = np.unique(fires, axis=0, return_counts=True)
        p = counts / counts.sum()
        assert row["states"] == len(fires)
        assert row["distinct"] == len(counts)
        assert row["efficiency"] == pytest.approx(-(p * np.log2(p)).sum() / fires.shape[1])
    each = [row["efficiency"] for row in rows]
    assert rows[0]["network_efficiency"] == pytest.approx(np.prod(each) ** (1 / 3))

    answers = model.predict(true.images, verbose=0).argmax(axis=1)
    wrong = digits.labels != true.labels
    assert rows[0]["wrong_labels"] == pytest.approx(wrong.mean())
    assert rows[0]["train_accuracy"] == pytest.approx((answers == digits.labels).mean())
    assert rows[0]["memorised"] == pytest.approx((answers == digits.labels)[wrong].mean())
    right = model.predict(test.images, verbose=0).argmax(axis=1) == test.labels
    assert rows[0]["test_accuracy"] == pytest.approx(right.mean())
    expected = (right.mean() ** 2 * rows[0]["network_efficiency"]) ** (1 / 3)
    assert rows[0]["aIQ"] == pytest.approx(expected)


def test_the_grid_has_all_combinations_and_the_ladder_in_all_ways():
    experiments = grid(ARCHITECTURES, 2, [0, 25, 50, 75])
    assert len(set(experiments)) == len(experiments)
    assert len({each.name for each in experiments}) == len(experiments)
    # A run that is stopped has whole seeds.
    assert [each.seed for each in experiments] == sorted(each.seed for each in experiments)
    for name, architecture in ARCHITECTURES.items():
        of_one = [each for each in experiments if each.architecture == name and each.seed == 0]
        plain = {
            each.widths
            for each in of_one
            if not (each.batch_norm or each.dropout or each.random_labels)
        }
        product = int(np.prod([len(widths) for widths in architecture.product]))
        assert len(plain) == product + len(set(architecture.ladder) - plain_product(architecture))
        for ladder in architecture.ladder:
            assert sum(each.widths == ladder for each in of_one) == 3 + 3


def plain_product(architecture):
    return {
        tuple(int(width) for width in widths)
        for widths in np.stack(np.meshgrid(*architecture.product, indexing="ij"), axis=-1).reshape(
            -1, len(architecture.layers)
        )
    }
