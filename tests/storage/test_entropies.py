"""What entropies of layers are bound by, and what they do not depend on, whatever the states."""

import itertools
import math

import dask.array as da
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

import tensorstate as ts
from tensorstate.metrics.entropies import ESTIMATORS
from tensorstate.storage import open_run
from tests.storage.test_selection import run_of
from tests.strategies import chunkings, packed_states, reproducible, seeds

ORDERS = [0, 0.5, 1, 1.5, 2, 7, math.inf]


@st.composite
def firing(draw):
    """Which neurons fire in each row, (rows, neurons) bool: few states, many, or all different."""
    rows = draw(packed_states(width=st.integers(1, 20), most_rows=200))
    neurons = draw(st.integers(1, 8 * rows.shape[1]))
    return np.unpackbits(rows, axis=1, count=neurons, bitorder="little").astype(bool)


def layer_of(fires, pieces=1):
    recorder = ts.StateRecorder("layer")
    for some in np.array_split(fires, pieces):
        recorder.record(some.astype(np.float32))
    return recorder


def order_of(estimator):
    return 2 if estimator == "unbiased" else 1


def counts_by_hand(fires):
    return np.unique(fires, axis=0, return_counts=True)[1]


def same(a, b):
    return a == pytest.approx(b, rel=1e-12, abs=1e-12, nan_ok=True)


@reproducible
@given(fires=firing())
def test_plug_in_entropies_lie_within_their_bounds_and_fall_with_the_order(fires):
    rows, neurons = fires.shape
    layer = layer_of(fires)
    entropies = [layer.entropy(alpha) for alpha in ORDERS]
    most = min(neurons, math.log2(rows))
    assert all(0 <= bits <= most + 1e-12 for bits in entropies)
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(entropies))
    assert 0 <= layer.efficiency() <= 1


@reproducible
@given(fires=firing())
def test_by_default_they_are_what_the_papers_define(fires):
    """H = -sum p log2 p over observed states, over the number of neurons."""
    expected = scipy_entropy(counts_by_hand(fires), base=2)
    layer = layer_of(fires)
    assert same(layer.entropy(), expected)
    assert same(layer.efficiency(), expected / fires.shape[1])
    assert layer.entropy() == layer.entropy(1, "plugin")
    assert same(ts.entropy(counts_by_hand(fires)), expected)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@reproducible
@given(data=st.data(), fires=firing(), seed=seeds)
def test_neither_the_order_of_rows_nor_the_names_of_neurons_matter(data, fires, seed):
    rng = np.random.default_rng(seed)
    other = fires[rng.permutation(len(fires))][:, rng.permutation(fires.shape[1])]
    pieces = data.draw(st.integers(1, 5))
    layer, changed = layer_of(fires), layer_of(other, pieces)
    assert sorted(layer.counts()) == sorted(changed.counts())
    for alpha in ORDERS:
        assert layer.entropy(alpha) == changed.entropy(alpha)
    for estimator in ESTIMATORS:
        alpha = order_of(estimator)
        found, expected = (some.entropy(alpha, estimator) for some in (layer, changed))
        assert found == expected or (math.isnan(found) and math.isnan(expected)), estimator


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@reproducible
@given(data=st.data(), rows=packed_states(width=st.sampled_from([1, 3, 8, 16, 17, 40])))
def test_nor_how_rows_are_chunked(data, rows):
    lengths = data.draw(chunkings(len(rows)))
    chunk_rows = data.draw(st.integers(1, len(rows)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    expected = ts.count_states(rows)
    chunked = ts.count_states(da.from_array(rows, chunks=(lengths, rows.shape[1])))
    stored = open_run(run_of(np.split(rows, cuts), 1, chunk_rows))["layer"]
    states = 2 ** (8 * rows.shape[1])
    for estimator in ESTIMATORS:
        alpha = order_of(estimator)
        bits = expected.entropy(alpha, estimator, states)
        assert same(chunked.entropy(alpha, estimator, states), bits), estimator
        assert same(stored.entropy(alpha, estimator), bits), estimator


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@reproducible
@given(data=st.data(), rows=packed_states(width=st.sampled_from([1, 3, 8, 16, 17, 40])))
def test_merged_histograms_are_the_count_of_both(data, rows):
    assume(len(rows) > 1)
    cut = data.draw(st.integers(1, len(rows) - 1))
    both = ts.count_states(rows)
    later = ts.count_states(rows[cut:]).with_first_rows(lambda numbers: numbers + cut)
    merged = ts.count_states(rows[:cut]).merge(later)
    assert merged == both
    states = 2 ** (8 * rows.shape[1])
    for estimator in ESTIMATORS:
        options = (order_of(estimator), estimator, states)
        found, expected = merged.entropy(*options), both.entropy(*options)
        assert found == expected or (math.isnan(found) and math.isnan(expected)), estimator


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@reproducible
@given(fires=firing())
def test_no_estimator_changes_counts(fires):
    layer = layer_of(fires)
    before = layer.histogram().sorted()
    counts, ids = layer.counts().tolist(), layer.state_ids()
    spectrum = [array.tolist() for array in layer.spectrum()]
    for estimator in ESTIMATORS:
        layer.entropy(order_of(estimator), estimator)
        layer.efficiency(order_of(estimator), estimator=estimator)
        assert layer.counts().tolist() == counts
        assert layer.state_ids() == ids
        assert [array.tolist() for array in layer.spectrum()] == spectrum
        assert layer.histogram().sorted() == before


@pytest.mark.parametrize("alpha", [-1, -1e-9, math.nan, -math.inf])
def test_orders_that_there_are_not(alpha):
    layer = layer_of(np.eye(3, dtype=bool))
    histogram = layer.histogram()
    for ask in (layer.entropy, layer.efficiency, layer.entropy_interval, histogram.entropy):
        with pytest.raises(ValueError, match="Renyi order"):
            ask(alpha)
    with pytest.raises(ValueError, match="Renyi order"):
        layer.efficiency(1, alpha)


@pytest.mark.parametrize(
    "counts", [[1.0, math.nan], np.array([math.nan]), [2, None], ["1", "2"], [True, False]]
)
def test_counts_that_are_no_numbers(counts):
    for ask in (ts.entropy, lambda c: ts.nsb_entropy(c, 8), lambda c: ts.rarefaction(c, 1)):
        with pytest.raises(TypeError, match="counts are whole numbers, not "):
            ask(counts)


LAYER_METHODS = {
    "entropy": lambda layer: layer.entropy(),
    "efficiency": lambda layer: layer.efficiency(),
    "interval": lambda layer: layer.entropy_interval(),
    "rarefaction": lambda layer: layer.rarefaction(),
    "neurons": lambda layer: layer.neuron_summary(),
    "cofiring": lambda layer: layer.cofiring_counts(),
    "multi-information": lambda layer: layer.multi_information(),
    "label summary": lambda layer: layer.label_summary([0, 1]),
    "label information": lambda layer: layer.label_information([0, 1]),
    "label overlap": lambda layer: layer.label_overlap([0, 1]),
    "divergence": lambda layer: layer.divergence(layer),
    "network efficiency": lambda layer: ts.network_efficiency([layer]),
}


@pytest.mark.parametrize("ask", LAYER_METHODS.values(), ids=LAYER_METHODS)
def test_a_layer_without_states_says_so(ask):
    with pytest.raises(ValueError, match="'empty' has recorded no states yet: run data"):
        ask(ts.StateRecorder("empty"))


NAN = math.nan
WRONG_LABELS = [
    ([0, 1, 1], "3 labels do not fit 4 instances: give each instance one"),
    ([], "0 labels do not fit 4 instances"),
    ([0.0, 1.0, NAN, 1.0], "1 of the labels are nan: give each instance a label"),
    (["a", NAN, NAN, "b"], "2 of the labels are nan"),
    ([[0, 1, 0, 1]], "labels have one axis"),
]


@pytest.mark.parametrize(("labels", "says"), WRONG_LABELS)
def test_labels_that_do_not_fit(labels, says):
    layer = layer_of(np.eye(4, dtype=bool))
    for ask in (layer.label_summary, layer.label_information, layer.label_overlap):
        with pytest.raises(ValueError, match=says):
            ask(labels)
