"""Intervals of information about labels, against leaving instances out one after the other."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

import tensorstate as ts
from tensorstate.storage import intervals, open_run
from tests.storage.test_selection import instances_of, runs
from tests.strategies import reproducible


def recorded(activations):
    recorder = ts.StateRecorder("layer")
    recorder.record(np.asarray(activations))
    return recorder


def jackknife(layer, labels, groups):
    """Standard errors from `label_information` of what is left without each group."""
    found = []
    for group in groups:
        rest = [i for other in groups if other is not group for i in other]
        found.append(layer.label_information(labels, rest)[["information", "corrected"]])
    n = len(groups)
    return np.sqrt((n - 1) / n * ((np.array(found) - np.mean(found, axis=0)) ** 2).sum(axis=0))


@settings(reproducible, max_examples=25)
@given(st.data())
def test_errors_are_those_of_leaving_each_instance_out(data):
    layer, _ = data.draw(runs())
    n = layer.instance_count
    labels = data.draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n))
    chosen = data.draw(instances_of(layer))
    left = np.arange(n)[chosen]
    alone = np.unique(left)
    if len(alone) < 2:
        with pytest.raises(ValueError, match="fewer than two instances"):
            layer.label_information_interval(labels, chosen)
        return
    found = layer.label_information_interval(labels, chosen)
    told = layer.label_information(labels, chosen)
    for name in ("information", "corrected"):
        assert found.loc[name, "estimate"] == pytest.approx(told[name], abs=1e-12)
    # An instance that was chosen twice is left out twice.
    groups = [[i] * int((left == i).sum()) for i in alone]
    expected = jackknife(layer, labels, groups)
    np.testing.assert_allclose(found["standard_error"], expected, atol=1e-9)
    assert (found["low"] <= found["estimate"]).all()
    assert (found["estimate"] <= found["high"]).all()
    assert found.loc["information", "low"] >= -1e-12
    assert found.loc["information", "high"] <= told["label_entropy"] + 1e-12


def test_more_instances_than_groups(monkeypatch):
    """Of each group, all instances are left out; which ones they are, the seed says."""
    monkeypatch.setattr("tensorstate.storage.label_intervals.MOST_GROUPS", 7)
    layer = recorded(np.random.default_rng(3).normal(size=(50, 4, 3)))
    labels = np.arange(50) % 3
    dealt = intervals.deal(np.arange(50), 50, 7, np.random.default_rng(11))
    groups = [np.flatnonzero(dealt == group).tolist() for group in range(7)]
    assert sorted(map(len, groups)) == [7] * 6 + [8]
    found = layer.label_information_interval(labels, seed=11)
    np.testing.assert_allclose(found["standard_error"], jackknife(layer, labels, groups), atol=1e-9)
    assert not found.equals(layer.label_information_interval(labels))
    assert found.equals(layer.label_information_interval(labels, seed=11))


def test_errors_are_what_estimates_vary_by():
    """Two labels, whose instances fire with 0.3 and 0.7: many samples of 400 of them."""
    rng = np.random.default_rng(5)
    estimates, errors, covered = [], [], 0
    truth = 1 - sum(-p * math.log2(p) for p in (0.3, 0.7))
    for _ in range(80):
        labels = rng.integers(0, 2, 400)
        found = recorded(rng.random((400, 1)) - np.where(labels, 0.3, 0.7)[:, None])
        told = found.label_information_interval(labels).loc["corrected"]
        estimates.append(told["estimate"])
        errors.append(told["standard_error"])
        covered += told["low"] <= truth <= told["high"]
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.25)
    # Of 80 intervals 76 are expected, and by chance 71 or more in 98 of 100 cases.
    assert covered >= 70


def test_a_label_whose_instances_are_all_in_one_group():
    layer = recorded([[1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]])
    labels = ["once", "b", "c", "c"]
    found = layer.label_information_interval(labels)
    expected = jackknife(layer, labels, [[0], [1], [2], [3]])
    np.testing.assert_allclose(found["standard_error"], expected, atol=1e-12)
    assert found.loc["information", "estimate"] == pytest.approx(1.5)
    alike = layer.label_information_interval([7] * 4)
    np.testing.assert_allclose(alike, 0, atol=1e-12)


def test_labels_of_a_run_and_parts_with_a_gap():
    activations = np.random.default_rng(6).normal(size=(60, 3, 5))
    labels = np.arange(60) % 4
    store = MemoryStore()
    for part, (start, first) in {"a": (0, 0), "b": (30, 1000)}.items():
        with ts.StateRecorder("layer", store, part=part, first_instance=first) as recorder:
            recorder.record(activations[start : start + 30])
    run = open_run(store)
    of_numbers = np.full(1030, 99)
    of_numbers[:30], of_numbers[1000:] = labels[:30], labels[30:]
    run.set_labels(of_numbers)
    found = open_run(store)["layer"].label_information_interval()
    whole = recorded(activations).label_information_interval(labels)
    np.testing.assert_allclose(found, whole, atol=1e-12)


def test_instances_without_positions():
    layer = ts.StateRecorder("lstm", variable_positions=True)
    layer.record(np.random.default_rng(2).normal(size=(12, 4, 3)), lengths=[0, 4, 1] * 4)
    labels = ["none", "a", "b"] * 4
    found = layer.label_information_interval(labels)
    expected = jackknife(layer, labels, [[i] for i in range(12)])
    np.testing.assert_allclose(found["standard_error"], expected, atol=1e-9)
    with pytest.raises(ValueError, match="no instance is chosen"):
        layer.label_information_interval(labels, [0, 3])


def test_what_makes_no_sense():
    layer = recorded(np.ones((3, 2)))
    with pytest.raises(ValueError, match="above 0 and below 1, not 95"):
        layer.label_information_interval([0, 1, 1], confidence=95)
    with pytest.raises(ValueError, match="2 labels do not fit 3 instances"):
        layer.label_information_interval([0, 1])
    with pytest.raises(ValueError, match="1 of the labels are nan"):
        layer.label_information_interval([0, 1, math.nan])
    with pytest.raises(ValueError, match="'layer' has no labels: pass one for every instance"):
        layer.label_information_interval()
    with pytest.raises(ValueError, match="no interval follows from fewer than two instances"):
        layer.label_information_interval([0, 1, 1], [2, 2])
    with pytest.raises(ValueError, match="is too small"):
        layer.label_information_interval([0, 1, 1], memory_limit="1 kB")
    with pytest.raises(ValueError, match="no states yet"):
        ts.StateRecorder("empty").label_information_interval([])
    live = ts.StateRecorder("live", histogram="live")
    live.record(np.ones((3, 2)))
    with pytest.raises(ValueError, match="keeps no raw states"):
        live.label_information_interval([0, 1, 1])
