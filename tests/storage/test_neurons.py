"""What neurons do in a layer, against sums over its unpacked rows."""

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorstate as ts
from tensorstate.storage import DamagedChunkError, neurons, open_run
from tests.storage.test_selection import instances_of, runs
from tests.strategies import reproducible


def unpacked(rows, neurons):
    return np.unpackbits(rows, axis=1, count=neurons, bitorder="little").astype(np.int64)


@reproducible
@given(st.data())
def test_counts_of_any_instances(data):
    layer, rows = data.draw(runs())
    chosen = data.draw(st.none() | instances_of(layer))
    each = unpacked(rows, layer.neurons).reshape(layer.instance_count, -1, layer.neurons)
    fires = (each if chosen is None else each[chosen]).reshape(-1, layer.neurons)
    if not len(fires):
        with pytest.raises(ValueError, match="no instance is chosen"):
            layer.firing_counts(chosen)
        return
    np.testing.assert_array_equal(layer.firing_counts(chosen), fires.sum(axis=0))
    np.testing.assert_array_equal(layer.cofiring_counts(chosen), fires.T @ fires)
    table = layer.neuron_summary(chosen)
    np.testing.assert_array_equal(table["rate"], fires.sum(axis=0) / len(fires))


@pytest.fixture
def recorded(tmp_path):
    rng = np.random.default_rng(3)
    activations = rng.normal(size=(400, 5, 70)) + np.linspace(-2, 2, 70)
    activations[..., 7] = -1
    activations[..., 9] = activations[..., 8] = 1
    with ts.StateRecorder("layer", tmp_path / "run", queue_bytes=1 << 17) as recorder:
        recorder.record(activations)
    return tmp_path / "run", (activations > 0).reshape(-1, 70).astype(np.int64)


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_any_scheduler_and_many_blocks(recorded, scheduler, monkeypatch):
    path, fires = recorded
    monkeypatch.setattr("tensorstate.counting.sources.BLOCK_ROWS", 300)
    layer = open_run(path)["layer"]
    with dask.config.set(scheduler=scheduler, num_workers=3):
        np.testing.assert_array_equal(layer.firing_counts(), fires.sum(axis=0))
        np.testing.assert_array_equal(layer.cofiring_counts(), fires.T @ fires)


def test_states_in_memory_are_counted_here_under_any_scheduler():
    recorder = ts.StateRecorder("layer")
    recorder.record(np.ones((4, 3)))
    with dask.config.set(scheduler="processes"):
        assert recorder.firing_counts().tolist() == [4, 4, 4]


def test_dead_neurons_and_the_multi_information(recorded):
    path, _ = recorded
    layer = open_run(path)["layer"]
    table = layer.neuron_summary()
    assert np.flatnonzero(table["dead"]).tolist() == [7]
    assert np.flatnonzero(table["always_on"]).tolist() == [8, 9]
    assert layer.multi_information() == pytest.approx(
        table["entropy"].sum() - layer.entropy(), abs=1e-9
    )
    assert layer.multi_information() >= 0


def test_few_sums_of_pairs_are_in_memory_at_once():
    graph = {("a", number): number for number in range(9)}
    last = neurons._add_up(graph, "a")
    assert dask.get(graph, last) == sum(range(9))
    assert all(len(task) == 3 for task in graph.values() if isinstance(task, tuple))


def test_a_damaged_chunk_and_a_layer_without_states(recorded):
    path, _ = recorded
    chunk = next(p for p in (path / "layer").rglob("c/*/0"))
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\x00")
    with pytest.raises(DamagedChunkError, match="layer layer, part 0, chunk"):
        open_run(path)["layer"].neuron_summary()
    with pytest.raises(ValueError, match="no states yet"):
        ts.StateRecorder("empty").firing_counts()


def test_pairs_of_too_many_neurons_are_refused_before_anything_is_read():
    recorder = ts.StateRecorder("wide")
    recorder.record(np.ones((1, 5000)))
    with pytest.raises(ValueError, match="at most 4096 neurons, not of 5000"):
        recorder.cofiring_counts()
