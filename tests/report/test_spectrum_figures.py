"""Ranks and spectra that are drawn, against counts that are sorted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorstate as ts
from tensorstate.metrics import spectrum
from tensorstate.report.drawing import MOST_POINTS
from tensorstate.report.layer_figures import rank_frequency, rank_frequency_of, spectrum_of
from tests.strategies import reproducible

numbers_of_times = st.one_of(
    st.lists(st.integers(1, 40), min_size=1, max_size=400),
    st.integers(1, 2000).map(lambda n: [10**9 // rank for rank in range(1, n + 1)]),
)


@reproducible
@given(numbers_of_times)
def test_ranks_are_those_of_the_sorted_counts(counts):
    figure = rank_frequency_of(*spectrum(counts))
    ordered = sorted(counts, reverse=True)
    data = figure.data
    assert len(data) <= MOST_POINTS
    assert data["rank"].is_monotonic_increasing
    assert data["rank"].is_unique
    assert (data["rank"].iloc[0], data["rank"].iloc[-1]) == (1, len(counts))
    if len(counts) <= MOST_POINTS:
        assert len(data) == len(counts)
    for rank, times, share, up_to in data.itertuples(index=False):
        assert times == ordered[rank - 1]
        assert share == pytest.approx(100 * times / sum(counts))
        assert up_to == pytest.approx(100 * sum(ordered[:rank]) / sum(counts))


@reproducible
@given(numbers_of_times)
def test_spectra_have_every_state_in_the_bin_of_its_count(counts):
    figure = spectrum_of(*spectrum(counts))
    data = figure.data
    assert len(data) <= MOST_POINTS
    assert data["states"].sum() == len(counts)
    edge = 0
    for low, high, states, mean in data.itertuples(index=False):
        assert edge < low <= high
        assert states == sum(low <= count <= high for count in counts) > 0
        assert mean == pytest.approx(states / (high - low + 1))
        edge = high
    if len(set(counts)) <= MOST_POINTS:
        assert data["times seen, from"].tolist() == sorted(set(counts))
        assert (data["times seen, from"] == data["times seen, to"]).all()


def test_a_spectrum_with_counts_beyond_what_a_plot_shows():
    counts = np.arange(1, 5001)
    figure = spectrum_of(*spectrum(counts))
    assert 50 < len(figure.data) <= MOST_POINTS
    # A state for each count: the mean over a bin is one, however wide it is.
    assert (figure.data["states per number of times"] == 1).all()


def test_titles_say_the_main_numbers():
    figure = rank_frequency_of(*spectrum([50, 20, 10, *[1] * 20]))
    assert figure.title == "The 10 most frequent of 23 distinct states make up 87 % of all 100"
    assert "seen 50 times" in figure.alternative
    titles = {
        (1,) * 7: "Each of 7 states was seen once",
        (7,): "All 7 states are the same one",
        (1,): "There is only one state",
        (6, 3, 1): "The most frequent of 3 distinct states makes up 60 % of all 10",
    }
    for counts, title in titles.items():
        assert rank_frequency_of(*spectrum(counts)).title == title
    assert spectrum_of(*spectrum([5, 1, 1, 1])).title == (
        "75 % of the 4 distinct states were seen only once"
    )


def test_counts_beyond_what_their_product_holds():
    figure = spectrum_of(*spectrum([10**15, 10**13, 1]))
    places = figure.plot.renderers[0].data_source.data["x"]
    assert places == pytest.approx([1, 1e13, 1e15])
    assert rank_frequency_of(*spectrum([10**15, 10**13])).data["times seen"].max() == 10**15


def test_nothing_to_draw():
    assert rank_frequency(ts.StateRecorder("layer")) is None
    empty = np.empty(0, np.int64)
    assert rank_frequency_of(empty, empty) is None
    assert spectrum_of(empty, empty) is None
