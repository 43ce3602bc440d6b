"""What neurons do in a layer, against sums over its unpacked rows."""

import dask
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorstate as ts
from tensorstate.firing import cofiring_counts, firing_counts
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
    fired, together = layer.firing_counts(chosen), layer.cofiring_counts(chosen)
    assert (fired.name, fired.index.name) == ("fired", "neuron")
    assert (together.index.name, together.columns.name) == ("neuron", "other")
    table = layer.neuron_summary(chosen)
    assert table["fired"].equals(fired)
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
    last = neurons._sum_in_pairs(graph, "a")
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


@reproducible
@given(
    neurons=st.one_of(st.integers(1, 128), st.sampled_from([1, 8, 64, 65, 128])),
    rows=st.integers(1, 300),
    distinct=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_live_layers_say_what_stored_ones_say(neurons, rows, distinct, seed):
    """Counts of distinct states are all that is there, and enough."""
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(distinct, neurons)) + rng.normal(size=neurons)
    # Geometric: some states are seen very often.
    activations = pool[np.minimum(rng.geometric(0.3, (rows, 2)), distinct) - 1]
    stored, live = (ts.StateRecorder("layer", histogram=kind) for kind in ("stored", "live"))
    for recorder in (stored, live):
        recorder.record(activations)
    np.testing.assert_array_equal(live.firing_counts(), stored.firing_counts())
    np.testing.assert_array_equal(live.cofiring_counts(), stored.cofiring_counts())
    pd.testing.assert_frame_equal(live.neuron_summary(), stored.neuron_summary())
    assert live.multi_information() == pytest.approx(stored.multi_information(), abs=1e-9)


def test_a_live_run_of_several_parts_in_files(tmp_path):
    activations = np.random.default_rng(4).normal(size=(600, 70)) + np.linspace(-2, 2, 70)
    for part, some in enumerate((activations[:250], activations[250:])):
        options = {"part": part, "first_instance": 250 * part, "histogram": "live"}
        with ts.StateRecorder("layer", tmp_path / "run", **options) as recorder:
            recorder.record(some)
    fires = (activations > 0).astype(np.int64)
    layer = open_run(tmp_path / "run")["layer"]
    np.testing.assert_array_equal(layer.firing_counts(), fires.sum(axis=0))
    np.testing.assert_array_equal(layer.cofiring_counts(), fires.T @ fires)
    # A histogram that stays in files is read some states at a time.
    store = {}
    layer.histogram().save(store)
    saved = ts.StateHistogram.load(store, memory_limit=100)
    assert saved.is_stored
    found = neurons.sum_over_states(saved, firing_counts, 70)
    np.testing.assert_array_equal(found, fires.sum(axis=0))


def test_counts_of_billions():
    """Each state weighs as much as it was seen, however often that was."""
    counts = [1, 2**40 + 5, 3 * 10**9, 7]
    histogram = ts.StateHistogram([0b001, 0b011, 0b110, 0b000], counts, [0, 1, 2, 3], width=1)
    assert neurons.sum_over_states(histogram, firing_counts, 3).tolist() == [
        counts[0] + counts[1],
        counts[1] + counts[2],
        counts[2],
    ]
    assert neurons.sum_over_states(histogram, cofiring_counts, 3)[0, 1] == counts[1]


def test_what_live_layers_cannot_tell_of_neurons():
    narrow, wide = (ts.StateRecorder("layer", histogram="live") for _ in range(2))
    narrow.record(np.ones((4, 128)))
    wide.record(np.ones((4, 129)))
    says = "which keeps no raw states: looking at single neurons of {} needs a capture with"
    for ask in ("firing_counts", "cofiring_counts", "neuron_summary"):
        with pytest.raises(ValueError, match=says.format("some instances")):
            getattr(narrow, ask)([0, 1])
        with pytest.raises(ValueError, match=says.format(129)):
            getattr(wide, ask)()
    with pytest.raises(ValueError, match=says.format(129)):
        wide.multi_information()
    with pytest.raises(ValueError, match="recorded no states yet"):
        ts.StateRecorder("empty", histogram="live").firing_counts()
