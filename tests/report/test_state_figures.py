"""Figures that need the states themselves, against slow ways from the raw rows."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorstate as ts
from tensorstate.report.drawing import MOST_POINTS
from tensorstate.report.neuron_figures import CELLS, STATES, firing_rates, most_frequent_states
from tensorstate.report.sample_figures import rarefaction
from tests.storage.test_selection import runs
from tests.strategies import count_by_hand, reproducible


def recorded(activations, **options):
    recorder = ts.StateRecorder("layer", **options)
    recorder.record(np.asarray(activations))
    return recorder


def bits_of(rows):
    times = np.unique(rows, axis=0, return_counts=True)[1]
    return -(times / len(rows) * np.log2(times / len(rows))).sum()


@reproducible
@given(runs())
def test_firing_rates_of_all_neurons(found):
    layer, rows = found
    figure = firing_rates(layer)
    fired = np.unpackbits(rows, axis=1, bitorder="little").sum(axis=0)
    neurons = 8 * rows.shape[1]
    data = figure.data
    assert fired[data["neuron"]].tolist() == data["fired (states)"].tolist()
    np.testing.assert_allclose(data["rate (%)"], 100 * data["fired (states)"] / len(rows))
    assert sorted(fired, reverse=True)[0] == data["fired (states)"].iloc[0]
    ordered = np.sort(fired)[::-1]
    assert ordered[data["rank"] - 1].tolist() == data["fired (states)"].tolist()
    assert len(data) == min(neurons, MOST_POINTS)
    assert f"Of {neurons} neurons, {(fired == 0).sum()} never" in figure.title
    assert f"{(fired == len(rows)).sum()} always" in figure.title


def test_rates_of_thousands_of_neurons_are_thinned():
    rng = np.random.default_rng(0)
    figure = firing_rates(recorded(rng.normal(size=(40, 4096))))
    assert len(figure.data) == MOST_POINTS
    assert figure.data["rank"].iloc[[0, -1]].tolist() == [1, 4096]


@reproducible
@given(runs())
def test_the_most_frequent_states(found):
    layer, rows = found
    counted = count_by_hand(rows)
    ordered = sorted(counted.items(), key=lambda entry: (-entry[1][0], entry[1][1]))[:STATES]
    figure = most_frequent_states(layer)
    if ordered[0][1][0] == 1:
        assert figure is None
        return
    data = figure.data
    assert data["packed state (hexadecimal)"].tolist() == [state.hex() for state, _ in ordered]
    assert data["times seen"].tolist() == [times for _, (times, _) in ordered]
    np.testing.assert_allclose(data["share (%)"], 100 * data["times seen"] / len(rows))
    firing = [sum(byte.bit_count() for byte in state) for state, _ in ordered]
    assert data["firing neurons"].tolist() == firing
    (source,) = {renderer.data_source for renderer in figure.plot.renderers}
    cells = np.concatenate(source.data["image"])
    neurons = 8 * rows.shape[1]
    assert cells.shape == (len(ordered), min(neurons, CELLS))
    if neurons <= CELLS:
        assert (cells / 100).sum(axis=1).tolist() == firing


def test_cells_for_groups_of_neurons():
    activations = -np.ones((2, 1000))
    activations[:, :500] = 1
    figure = most_frequent_states(recorded(activations))
    cells = figure.plot.renderers[0].data_source.data["image"][0][0]
    assert cells.tolist() == [100] * 128 + [0] * 128
    assert "several neurons" in figure.meaning


@pytest.mark.parametrize("instances", [2, 3, 64, 100, 600])
def test_rarefaction_without_a_sample(instances):
    """Of rows that are all different, or all the same, any draw has the same entropy."""
    different = recorded(np.random.default_rng(1).normal(size=(instances, 2, 60)))
    data = rarefaction(different).data
    assert data["instances"].iloc[-1] == instances
    sizes = sorted({instances >> k for k in range(8)} - {0})
    assert data["instances"].tolist() == sizes
    assert data["states"].tolist() == (2 * data["instances"]).tolist()
    assert data["distinct states"].tolist() == data["states"].tolist()
    np.testing.assert_allclose(data["efficiency (%)"], 100 * np.log2(data["states"]) / 60)
    np.testing.assert_allclose(data["ceiling (%)"], data["efficiency (%)"])
    assert rarefaction(different).title.endswith("it still rises")
    same = rarefaction(recorded(np.ones((instances, 2, 60))))
    assert (same.data["efficiency (%)"] == 0).all()
    assert same.title.endswith("it has levelled off")


@pytest.mark.parametrize("most_states", [10**6, 600])
def test_rarefaction_draws_whole_instances_and_ends_with_the_layer(most_states):
    rng = np.random.default_rng(2)
    activations = rng.normal(size=(500, 3, 6)) + rng.normal(size=(500, 1, 6))
    layer = recorded(activations)
    figure = rarefaction(layer, most_states)
    data = figure.data
    last = data.iloc[-1]
    assert (last["instances"], last["states"]) == (500, 1500)
    assert last["efficiency (%)"] == pytest.approx(100 * layer.efficiency())
    assert ("spread over the layer" in figure.doubt) == (most_states == 600)
    if most_states == 600:
        assert data["instances"].iloc[-2] == 196  # 28 stretches of 7 instances
    packed = ts.compress_states(activations)
    for _, row in data.iloc[:-1].iterrows():
        assert row["states"] == 3 * row["instances"]
    # The drawing is that of the seed.
    shuffled = np.random.default_rng(0).permutation(layer.spread_instances(most_states))
    for _, row in data.iloc[:-1].iterrows():
        rows = packed[shuffled[: int(row["instances"])]].reshape(-1, 1)
        assert row["distinct states"] == len(np.unique(rows, axis=0))
        assert row["efficiency (%)"] == pytest.approx(100 * bits_of(rows) / 6)
        assert row["ceiling (%)"] == pytest.approx(min(100 * math.log2(len(rows)) / 6, 100))


def test_large_layers_are_looked_at_in_part():
    activations = np.random.default_rng(3).normal(size=(400, 5))
    layer = recorded(activations)
    chosen = layer.spread_instances(100)
    figure = firing_rates(layer, 100)
    assert (activations[chosen] > 0).sum() == figure.data["fired (states)"].sum()
    assert f"drawn from {len(chosen)} instances" in figure.doubt
    assert "drawn from" not in firing_rates(layer).doubt


def test_layers_of_which_there_is_nothing_to_draw(tmp_path):
    for draw in (firing_rates, most_frequent_states, rarefaction):
        assert draw(ts.StateRecorder("layer")) is None
    one = recorded(np.ones((1, 4, 3)))
    assert rarefaction(one) is None
    assert firing_rates(one) is not None


@pytest.mark.parametrize(("neurons", "shown"), [(7, True), (200, False)])
def test_live_layers_show_what_their_counts_hold(tmp_path, neurons, shown):
    rng = np.random.default_rng(4)
    pool = rng.normal(size=(5, neurons))
    activations = pool[rng.integers(0, 5, 60)]
    with recorded(activations, disk_path=tmp_path / "run", histogram="live") as recorder:
        pass
    layer = ts.open_run(tmp_path / "run")["layer"]
    for some in (recorder, layer):
        assert firing_rates(some) is None
        assert rarefaction(some) is None
        figure = most_frequent_states(some)
        assert (figure is not None) == shown
        if figure:
            expected = most_frequent_states(recorded(activations))
            assert figure.data.equals(expected.data)
            assert figure.title == expected.title


@reproducible
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 200))
def test_instances_from_all_over_a_layer(count, positions, states):
    layer = recorded(np.ones((count, positions, 2)))
    chosen = layer.spread_instances(states)
    assert (np.diff(chosen) > 0).all()
    assert 0 <= chosen[0] <= chosen[-1] < count
    wanted = min(max(states // positions, 1), count)
    assert wanted - 31 <= len(chosen) <= wanted
    if states >= count * positions:
        assert chosen.tolist() == [*range(count)]
    with pytest.raises(ValueError, match="at least one state"):
        layer.spread_instances(0)
