"""What a layer says of its states, against np.unique over the same rows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorstate.capture import StateRecorder
from tensorstate.metrics import entropy
from tensorstate.storage import open_run


def recorded(neurons, positions=3, instances=40, distinct=12, store=None, **options):
    """Record random activations in two batches; return the recorder and the packed rows."""
    rng = np.random.default_rng(neurons)
    pool = rng.normal(size=(distinct, neurons)).astype(np.float32)
    x = pool[rng.integers(0, distinct, instances * positions)].reshape(instances, positions, -1)
    recorder = StateRecorder("layer", store, **options)
    recorder.record(x[:17])
    recorder.record(x[17:])
    packed = np.packbits(x > 0, axis=-1, bitorder="little")
    return recorder, packed.reshape(instances * positions, -1)


def by_hand(rows):
    """The distinct rows as bytes, and their counts."""
    states, counts = np.unique(rows, axis=0, return_counts=True)
    return {s.tobytes(): int(c) for s, c in zip(states, counts, strict=True)}


@pytest.mark.parametrize("neurons", [1, 8, 20, 50, 64, 100, 128, 129, 300])
def test_counts_ids_and_states_are_aligned_and_right(neurons):
    layer, rows = recorded(neurons)
    expected = by_hand(rows)
    ids, counts = layer.state_ids(), layer.counts()
    assert dict(zip(ids, counts.tolist(), strict=True)) == expected
    assert counts.dtype == np.int64
    packed = np.packbits(layer.states, axis=-1, bitorder="little")
    assert [row.tobytes() for row in packed] == ids
    assert layer.states.shape == (len(expected), neurons)
    assert layer.states.dtype == np.bool_
    np.testing.assert_array_equal(np.asarray(layer.raw_states), rows)
    assert (layer.neurons, layer.positions) == (neurons, 3)
    assert (layer.state_count, layer.instance_count) == (120, 40)


@pytest.mark.parametrize("neurons", [20, 300])
def test_entropy_and_efficiency(neurons):
    layer, rows = recorded(neurons)
    p = np.array(list(by_hand(rows).values())) / len(rows)
    shannon = -(p * np.log2(p)).sum()
    assert layer.entropy() == pytest.approx(shannon, abs=1e-12)
    assert layer.efficiency() == pytest.approx(shannon / neurons, abs=1e-12)
    assert layer.entropy(2) == pytest.approx(-math.log2((p**2).sum()), abs=1e-12)
    assert layer.entropy(None) == layer.max_entropy() == neurons
    assert layer.efficiency(2, 1) == pytest.approx(layer.entropy(2) / shannon, abs=1e-12)


@pytest.mark.parametrize("neurons", [20, 300])
@pytest.mark.parametrize(
    "index",
    [[3], [5, 2, 39], [7, 7, 7, 1], [-1, 0], np.arange(40) % 3 == 0, np.arange(40) > 50, []],
)
def test_counts_of_some_instances(neurons, index):
    layer, rows = recorded(neurons)
    instances = np.arange(40)[np.asarray(index, dtype=None if len(index) else int)]
    expected = by_hand(rows.reshape(40, 3, -1)[instances].reshape(-1, rows.shape[1]))
    assert sorted(layer.counts(index)) == sorted(expected.values())
    histogram = layer.histogram(index)
    found = layer.raw_states[histogram.first_rows]
    assert {r.tobytes(): c for r, c in zip(found, histogram.counts, strict=True)} == expected


@pytest.mark.parametrize(
    ("index", "says"),
    [([40], "instance 40 is not among the 40"), ([-41], "instance -41"), ([0.5], "whole numbers")],
)
def test_instances_that_are_not_there(index, says):
    layer, _ = recorded(20)
    with pytest.raises(IndexError, match=says):
        layer.counts(index)
    with pytest.raises(IndexError, match="a mask of 3 instances does not fit 40"):
        layer.counts([True, False, True])


selections = st.one_of(
    st.slices(120),
    st.integers(-120, 119),
    st.lists(st.integers(-120, 119), max_size=20),
    st.lists(st.booleans(), min_size=120, max_size=120).map(np.array),
    st.just(Ellipsis),
    st.tuples(st.slices(120), st.integers(0, 2)),
    st.tuples(st.lists(st.integers(0, 119), max_size=5), st.slices(3)),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(selections)
def test_raw_states_are_indexed_like_an_array(selection):
    if isinstance(selection, list):
        selection = np.array(selection, dtype=int)
    raw, rows = LAYER.raw_states, ROWS
    if isinstance(selection, tuple) and isinstance(selection[0], list):
        selection = (np.array(selection[0], dtype=int), selection[1])
    np.testing.assert_array_equal(raw[selection], rows[selection])


LAYER, ROWS = recorded(20)


def test_raw_states_look_like_an_array():
    layer, rows = recorded(20)
    raw = layer.raw_states
    assert (raw.shape, raw.dtype, raw.ndim, len(raw)) == (rows.shape, np.uint8, 2, len(rows))
    assert np.asarray(raw, dtype=np.int64).dtype == np.int64
    for wrong in ([120], [[1, 2]], [0.5], np.ones(5, bool)):
        with pytest.raises(IndexError):
            raw[wrong]


def test_a_memory_limit_holds_for_every_count():
    layer, _ = recorded(20)
    for what in ({}, {"instances": [3, 4]}, {"by": np.arange(40)}):
        with pytest.raises(ValueError, match="is too small to count"):
            layer.histogram(**what, memory_limit="1 kB")
        limited = layer.histogram(**what, memory_limit="1 GiB")
        assert limited == layer.histogram(**what)


def test_nothing_recorded_yet():
    layer = StateRecorder("conv_1_states")
    assert (layer.state_count, layer.instance_count) == (0, 0)
    for read in (
        layer.efficiency,
        layer.entropy,
        layer.counts,
        layer.state_ids,
        layer.max_entropy,
        lambda: layer.states,
        lambda: layer.neurons,
        lambda: layer.raw_states,
    ):
        with pytest.raises(ValueError, match="'conv_1_states' has recorded no states yet: run dat"):
            read()


def test_wrong_options_are_told_before_anything_is_counted():
    layer = StateRecorder("a")
    with pytest.raises(ValueError, match="unknown estimator"):
        layer.entropy(estimator="magic")
    with pytest.raises(ValueError, match="Renyi order"):
        layer.entropy(-1)
    with pytest.raises(ValueError, match="'jackknife' has order 1 and not order 2"):
        layer.efficiency(1, 2, "jackknife")


def test_every_estimator_takes_all_states_of_the_neurons_for_possible():
    layer, _ = recorded(20)
    counts = layer.counts()
    for estimator in ("plugin", "miller_madow", "grassberger", "chao_wang_jost", "nsb"):
        expected = entropy(counts, 1, estimator, states=2**20)
        assert layer.entropy(estimator=estimator) == expected
        assert layer.efficiency(estimator=estimator) == expected / 20
        assert layer.histogram().entropy(1, estimator, 2**20) == expected
    assert layer.entropy(2, "unbiased") == entropy(counts, 2, "unbiased")
    assert layer.entropy(None, "grassberger") == 20
    assert layer.counts().tolist() == counts.tolist()


def test_more_states_are_counted_with_those_before():
    layer, _rows = recorded(20)
    assert layer.counts().sum() == 120
    layer.record(np.ones((1, 3, 20)))
    assert layer.counts().sum() == 123
    assert dict(zip(layer.state_ids(), layer.counts(), strict=True))[b"\xff\xff\x0f"] == 3


def test_after_a_reset_only_what_came_later_counts():
    layer, _rows = recorded(20)
    assert layer.counts().sum() == 120
    layer.reset_states()
    assert layer.state_count == 0
    with pytest.raises(ValueError, match="no states yet"):
        layer.efficiency()
    layer.record(np.ones((40, 3, 20)))  # as many as before, but others
    assert layer.counts().tolist() == [120]


def test_a_reopened_run_says_the_same(tmp_path):
    layer, _rows = recorded(100, store=tmp_path / "run")
    layer.close()
    again = open_run(tmp_path / "run")["layer"]
    assert again.state_ids() == layer.state_ids()
    np.testing.assert_array_equal(again.counts(), layer.counts())
    np.testing.assert_array_equal(again.states, layer.states)
    assert again.efficiency() == layer.efficiency()
    assert again.histogram() == layer.histogram()
    assert not again.capture_on
