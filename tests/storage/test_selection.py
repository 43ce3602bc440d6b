"""Counts of some instances, and of each label: against the same rows, counted by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from tensorstate.capture import StateRecorder
from tensorstate.counting import count_states
from tensorstate.storage import LayerInfo, RunWriter, open_run
from tensorstate.storage import format as store_format
from tensorstate.storage.part_writer import PartWriter
from tensorstate.storage.selection import select
from tests.storage.stores import ReadingStore
from tests.strategies import as_dict, count_by_hand, seeds


def run_of(rows_of_parts, positions, chunk_rows, store=None):
    """Write a run of one layer with parts of these rows, in chunks of any length."""
    store = MemoryStore() if store is None else store
    width = rows_of_parts[0].shape[1]
    run = store_format.create_run(store)
    layer = store_format.create_layer(run, "layer", LayerInfo(8 * width, positions))
    first = 0
    for number, rows in enumerate(rows_of_parts):
        array = store_format.create_part(layer, str(number), width, chunk_rows, "lz4", first)
        writer = PartWriter(array, "here", positions)
        writer.append(rows)
        writer.flush()
        writer.commit_instances(len(rows) // positions, ["layer"])
        first += len(rows) // positions
    return store


def by_hand(rows, positions, instances):
    """Count rows of instances: state to times and smallest row number in the layer."""
    numbers = np.sort(instances)[:, None] * positions + np.arange(positions)
    found = count_by_hand(rows[numbers.ravel()])
    return {s: (times, int(numbers.ravel()[first])) for s, (times, first) in found.items()}


@st.composite
def runs(draw):
    """A layer of one to three parts, and its rows."""
    width = draw(st.sampled_from([1, 3, 8, 12, 16, 17, 40]))
    positions = draw(st.integers(1, 5))
    sizes = draw(st.lists(st.integers(0, 30), min_size=1, max_size=3))
    sizes[0] += 1
    rng = np.random.default_rng(draw(seeds))
    pool = rng.integers(0, 256, (draw(st.integers(1, 50)), width), dtype=np.uint8)
    parts = [pool[rng.integers(0, len(pool), size * positions)] for size in sizes]
    store = run_of(parts, positions, draw(st.integers(1, 40)))
    return open_run(store)["layer"], np.concatenate(parts)


@st.composite
def instances_of(draw, layer):
    """Numbers, also negative ones and some twice, or a mask."""
    n = layer.instance_count
    if draw(st.booleans()):
        return np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    return np.array(draw(st.lists(st.integers(-n, n - 1), max_size=2 * n)), np.int64)


labels_of = {
    "ints": st.integers(-3, 3),
    "strings": st.sampled_from(["cat", "dog", "a longer one", ""]),
    "bools": st.booleans(),
}


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.data())
def test_any_instances_and_labels(data):
    layer, rows = data.draw(runs())
    every = np.arange(layer.instance_count)
    instances = data.draw(instances_of(layer))
    chosen = every[instances]
    histogram = layer.histogram(instances)
    assert as_dict(histogram, rows) == by_hand(rows, layer.positions, chosen)
    np.testing.assert_array_equal(layer.counts(instances), histogram.counts)
    kind = data.draw(st.sampled_from(list(labels_of)))
    labels = data.draw(st.lists(labels_of[kind], min_size=len(every), max_size=len(every)))
    for some, numbers in ((None, every), (instances, chosen)):
        found = layer.histogram(some, by=labels)
        assert list(found) == sorted({labels[i] for i in numbers})
        for label, of_label in found.items():
            own = [i for i in numbers if labels[i] == label]
            assert as_dict(of_label, rows) == by_hand(rows, layer.positions, own)


@pytest.fixture(scope="module")
def stored():
    """400 instances of 3 rows, in 24 chunks of two parts."""
    rows = np.random.default_rng(0).integers(0, 4, (1200, 9), dtype=np.uint8)
    store = ReadingStore(MemoryStore())
    return run_of([rows[:600], rows[600:]], 3, 50, store), rows


@pytest.mark.parametrize(
    ("instances", "chunks"),
    [
        ([0], ["0/states/c/0"]),
        ([16], ["0/states/c/0", "0/states/c/1"]),
        ([399, 2, 2, 0, 398], ["0/states/c/0", "1/states/c/11"]),
        (np.arange(400) == 200, ["1/states/c/0"]),
        ([], []),
    ],
)
def test_only_the_chunks_of_the_instances_are_read(stored, instances, chunks):
    store, rows = stored
    layer = open_run(store)["layer"]
    store.chunks()
    histogram = layer.histogram(instances)
    assert sorted(store.chunks()) == [f"layer/part-{chunk}/0" for chunk in chunks]
    chosen = np.arange(400)[np.asarray(instances, None if len(instances) else int)]
    assert as_dict(histogram, rows) == by_hand(rows, 3, chosen)


@pytest.mark.parametrize("seed", range(3))
def test_labels_and_shuffled_instances_read_each_chunk_once(stored, seed, monkeypatch):
    # Blocks of a few chunks, so that there are several tasks.
    monkeypatch.setattr("tensorstate.storage.selection.BLOCK_ROWS", 170)
    store, rows = stored
    rng = np.random.default_rng(seed)
    layer = open_run(store)["layer"]
    every = [f"layer/part-{part}/states/c/{chunk}/0" for part in (0, 1) for chunk in range(12)]
    shuffled = rng.permutation(400)
    labels = rng.integers(0, 10, 400)
    for read in (
        lambda: layer.histogram(shuffled),
        lambda: layer.histogram(by=labels),
        lambda: layer.histogram(shuffled, by=labels),
    ):
        store.chunks()
        read()
        assert sorted(store.chunks()) == sorted(every)
    assert layer.histogram(shuffled) == layer.histogram()
    merged = None
    for histogram in layer.histogram(by=labels).values():
        merged = histogram if merged is None else merged.merge(histogram)
    assert merged == layer.histogram()
    of_first = labels[: 600 // 3] == 4
    found = layer.histogram(np.flatnonzero(of_first), by=labels)
    assert list(found) == [4]
    assert as_dict(found[4], rows) == by_hand(rows, 3, np.flatnonzero(of_first))


def test_counting_raw_states_reads_each_chunk_once(stored, monkeypatch):
    monkeypatch.setattr("tensorstate.counting.sources.BLOCK_ROWS", 170)
    store, rows = stored
    states = open_run(store)["layer"].raw_states
    assert states.chunks == (50, 9)
    store.chunks()
    assert as_dict(count_states(states), rows) == count_by_hand(rows)
    assert len(store.chunks()) == 24


def test_an_instance_that_is_chosen_very_often(stored, monkeypatch):
    monkeypatch.setattr("tensorstate.storage.selection.BLOCK_ROWS", 170)
    store, rows = stored
    layer = open_run(store)["layer"]
    often = np.repeat([5, 16, 7], 1000)
    assert as_dict(layer.histogram(often), rows) == by_hand(rows, 3, often)
    assert all(len(rows) <= 170 for rows in select_of(layer, often))


def test_what_is_selected_is_sliced_like_an_array(stored):
    store, rows = stored
    layer = open_run(store)["layer"]
    for selected in select_of(layer, np.repeat([5, 16, 7], 4)):
        whole = rows[selected.layer_rows()]
        for start in range(len(selected) + 1):
            for stop in range(start, len(selected) + 1):
                np.testing.assert_array_equal(selected[start:stop], whole[start:stop])


def select_of(layer, instances):
    from tensorstate.storage.selection import select

    return select(layer._parts(), instances, layer.positions)


def test_instances_longer_than_a_chunk():
    rows = np.random.default_rng(0).integers(0, 4, (500, 3), dtype=np.uint8)
    layer = open_run(run_of([rows], 100, 7))["layer"]
    for chosen in ([1], [4, 0, 4], [-1]):
        numbers = np.arange(5)[chosen]
        assert as_dict(layer.histogram(chosen), rows) == by_hand(rows, 100, numbers)
    found = layer.histogram(by=["a", "b", "a", "b", "b"])
    assert as_dict(found["b"], rows) == by_hand(rows, 100, [1, 3, 4])


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_labels_on_both_schedulers(stored, scheduler):
    import dask

    store, rows = stored
    with dask.config.set(scheduler=scheduler):
        found = open_run(store)["layer"].histogram(by=np.arange(400) % 2 == 0)
    assert list(found) == [False, True]
    assert as_dict(found[True], rows) == by_hand(rows, 3, np.arange(0, 400, 2))


def test_labels_of_a_capture_in_memory():
    x = np.random.default_rng(0).normal(size=(50, 4, 20))
    recorder = StateRecorder("layer")
    recorder.record(x)
    rows = np.packbits(x > 0, axis=-1, bitorder="little").reshape(200, 3)
    found = recorder.histogram(by=np.arange(50) // 30)
    assert as_dict(found[1], rows) == by_hand(rows, 4, np.arange(30, 50))


def test_labels_are_plain_values_in_order(stored):
    layer = open_run(stored[0])["layer"]
    labels = np.array(["b", "a"] * 200, dtype=object)
    assert [*map(type, layer.histogram(by=labels))] == [str, str]
    assert list(layer.histogram([0], by=labels)) == ["b"]
    assert [*map(type, layer.histogram(by=np.arange(400, dtype=np.uint8)))] == [int] * 256
    for several in (["a"] * 400, [1] * 400, [True] * 400, pd.Series([1] * 400, dtype="Int64")):
        assert layer.histogram(by=several) == {several[0]: layer.histogram()}
    assert layer.histogram(by=pd.Categorical(labels))["a"] == layer.histogram(by=labels)["a"]
    assert layer.histogram([], by=labels) == {}


@pytest.mark.parametrize(
    ("labels", "error", "says"),
    [
        ([1, 2], ValueError, "2 labels do not fit 400 instances"),
        (np.zeros((400, 1), int), ValueError, "labels have one axis"),
        (3, ValueError, "labels have one axis"),
        ([float("nan")] + [1.0] * 399, ValueError, "1 of the labels are nan"),
        (np.array([None, "a"] * 200, object), ValueError, "200 of the labels are None"),
        (["a", float("nan")] * 200, ValueError, "200 of the labels are nan"),
        (pd.array([1, None] * 200, dtype="Int64"), ValueError, "200 of the labels are (nan|<NA>)"),
        ([1, "a"] * 200, TypeError, "whole numbers, strings or bools"),
        (np.array([1, "a"] * 200, object), TypeError, "whole numbers, strings or bools"),
        (np.zeros(400, complex), TypeError, "not complex128"),
        (np.full(400, np.datetime64("NaT")), ValueError, "400 of the labels are NaT"),
    ],
)
def test_labels_that_cannot_be(stored, labels, error, says):
    layer = open_run(stored[0])["layer"]
    with pytest.raises(error, match=says):
        layer.histogram(by=labels)


def test_a_selection_is_not_cached(tmp_path):
    writer = RunWriter(tmp_path / "run")
    writer.add_layer("layer", LayerInfo(8, 1))
    writer.put("layer", np.arange(100, dtype=np.uint8)[:, None])
    writer.close()
    layer = open_run(tmp_path / "run")["layer"]
    assert layer.counts([3, 4]).tolist() == [1, 1]
    layer.histogram(by=[1] * 100)
    assert not (tmp_path / "run/layer/histogram").exists()


@pytest.mark.parametrize("instances", [np.arange(3, 9), np.array([1, 2, 2, 8]), np.array([4])])
def test_batches_are_the_rows_of_a_slice(tmp_path, instances):
    rows = np.random.default_rng(0).integers(0, 256, (60, 3), np.uint8)
    layer = open_run(run_of([rows], 5, 64, tmp_path / "run"))["layer"]
    (chosen,) = select(layer._parts(), instances, 5)
    for start, stop in [(0, len(chosen)), (2, 5), (3, 3)]:
        batches = [batch.copy() for batch in chosen.read_batches(start, stop, 7)]
        np.testing.assert_array_equal(np.concatenate(batches), chosen[start:stop])
        np.testing.assert_array_equal(chosen[start:stop], rows[chosen.layer_rows()[start:stop]])
