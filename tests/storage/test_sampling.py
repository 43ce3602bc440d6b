"""Intervals and rarefaction: over instances, and reproducible."""

import math

import numpy as np
import pytest
from zarr.storage import MemoryStore

import tensorstate as ts
from tensorstate.storage import open_run
from tests.storage.test_selection import run_of


def recorded(activations):
    recorder = ts.StateRecorder("layer")
    recorder.record(np.asarray(activations))
    return recorder


@pytest.mark.parametrize("method", ["jackknife", "bootstrap"])
def test_the_standard_error_is_that_of_the_estimate(method):
    """Of n biased coins the entropy varies by sqrt(p q / n) |log2(p / q)|."""
    p, n = 0.2, 4000
    rng = np.random.default_rng(1)
    layer = recorded(rng.random((n, 1)) - (1 - p))
    expected = math.sqrt(p * (1 - p) / n) * abs(math.log2(p / (1 - p)))
    found = layer.entropy_interval(method=method)
    assert found["standard_error"] == pytest.approx(expected, rel=0.2)
    assert found["entropy"] == layer.entropy()
    assert found["high"] - found["low"] == pytest.approx(
        2 * 1.96 * found["standard_error"], rel=1e-3
    )


def test_rows_of_an_instance_are_drawn_together():
    """Copies of a row in an instance add rows, and nothing to know."""
    rng = np.random.default_rng(2)
    once = rng.random((500, 1, 1)) - 0.7
    alone = recorded(once).entropy_interval()
    copied = recorded(np.repeat(once, 9, axis=1)).entropy_interval()
    assert copied["standard_error"] == pytest.approx(alone["standard_error"], rel=1e-9)


def test_an_interval_covers_what_it_says():
    rng = np.random.default_rng(3)
    truth = -sum(q * math.log2(q) for q in (0.3, 0.7))
    covered = 0
    for _ in range(120):
        found = recorded(rng.random((300, 1)) - 0.7).entropy_interval(confidence=0.8)
        covered += found["low"] <= truth <= found["high"]
    # Of 120 intervals 96 are expected, and by chance from 84 to 107 in 99 of 100 cases.
    assert 84 <= covered <= 107


def test_the_same_seed_gives_the_same_and_options_matter():
    layer = recorded(np.random.default_rng(4).normal(size=(150, 3, 6)))
    interval = layer.entropy_interval()
    assert interval.equals(layer.entropy_interval())
    assert not interval.equals(layer.entropy_interval(seed=1))
    assert not interval.equals(layer.entropy_interval(method="bootstrap"))
    wide = layer.entropy_interval(confidence=0.99)
    assert wide["low"] < interval["low"] < interval["high"] < wide["high"]
    assert layer.entropy_interval(alpha=2)["entropy"] == layer.entropy(2)
    assert interval["low"] >= 0
    assert interval["high"] <= 6


@pytest.mark.parametrize("instances", [1, 7, 250])
def test_rarefaction_ends_with_all_instances(instances):
    layer = recorded(np.random.default_rng(5).normal(size=(instances, 4, 5)))
    curve = layer.rarefaction(points=10)
    assert len(curve) == min(10, instances)
    assert curve.index[-1] == instances
    assert curve.index.name == "instances"
    last = curve.iloc[-1]
    assert last["entropy"] == pytest.approx(layer.entropy(), abs=1e-12)
    assert last["efficiency"] == pytest.approx(layer.efficiency(), abs=1e-12)
    assert last["distinct"] == len(layer.counts())
    seen_once = (layer.counts() == 1).sum() / layer.state_count
    assert last["coverage"] == pytest.approx(1 - seen_once, abs=1e-12)
    assert (curve["states"] == 4 * curve.index).all()
    assert curve["distinct"].is_monotonic_increasing


def test_instances_are_those_that_were_drawn():
    """Each point of the curve is the count of some instances, and the next has these too."""
    layer = recorded(np.arange(30)[:, None] >> np.arange(5) & 1)
    # Each of the 30 instances has a state of its own, so that distinct states count instances.
    curve = layer.rarefaction(points=4)
    assert curve["distinct"].tolist() == curve.index.tolist() == [7, 15, 22, 30]


def test_parts_with_a_gap_between_their_numbers():
    rows = np.random.default_rng(6).integers(0, 256, (60, 2), dtype=np.uint8)
    store = MemoryStore()
    with ts.StateRecorder("layer", store, part="a", first_instance=0) as first:
        first.record(np.unpackbits(rows[:30], axis=1))
    with ts.StateRecorder("layer", store, part="b", first_instance=1000) as second:
        second.record(np.unpackbits(rows[30:], axis=1))
    layer = open_run(store)["layer"]
    assert layer.rarefaction(points=3)["states"].tolist() == [20, 40, 60]
    whole = open_run(run_of([rows], 1, 10))["layer"]
    assert layer.rarefaction(points=1)["entropy"].item() == whole.entropy()


def test_what_makes_no_sense():
    layer = recorded(np.ones((1, 2)))
    with pytest.raises(ValueError, match="has one instance only"):
        layer.entropy_interval()
    layer = recorded(np.ones((3, 2)))
    with pytest.raises(ValueError, match="above 0 and below 1, not 95"):
        layer.entropy_interval(confidence=95)
    with pytest.raises(ValueError, match="unknown method 'normal'"):
        layer.entropy_interval(method="normal")
    with pytest.raises(ValueError, match="Renyi order"):
        layer.entropy_interval(alpha=-1)
    with pytest.raises(ValueError, match="at least one point"):
        layer.rarefaction(points=0)
    with pytest.raises(ValueError, match="no states yet"):
        ts.StateRecorder("empty").rarefaction()


def test_an_estimate_beyond_the_number_of_neurons_is_in_its_interval():
    """Chao and Shen's may be, where nearly all states were seen once."""
    layer = recorded((np.arange(60) % 57)[:, None] >> np.arange(6) & 1)
    found = layer.entropy_interval(1, "chao_shen")
    assert found["entropy"] == found["high"] > 6
    assert 0 < found["low"] < found["high"]
    everywhere = layer.entropy_interval()
    assert everywhere["entropy"] < everywhere["high"] <= 6


def test_an_estimator_that_depends_on_the_number_of_neurons():
    layer = recorded(np.random.default_rng(9).normal(size=(60, 4, 6)))
    expected = layer.entropy(estimator="nsb")
    assert layer.entropy_interval(estimator="nsb")["entropy"] == expected
    assert layer.rarefaction(3, "nsb")["entropy"].iloc[-1] == pytest.approx(expected, rel=1e-12)
