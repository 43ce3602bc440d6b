"""Packed states as arrays with names, against the raw rows."""

import subprocess
import sys

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

import tensorstate as ts
from tensorstate.storage.labelled import InstancesOfRows
from tests.storage.stores import ReadingStore
from tests.storage.test_selection import run_of, runs
from tests.strategies import reproducible


@reproducible
@given(runs())
def test_states_by_instance_position_and_byte(found):
    layer, rows = found
    array = layer.to_xarray()
    assert array.dims == ("instance", "position", "byte")
    assert array.shape == (layer.instance_count, layer.positions, rows.shape[1])
    assert array.dtype == np.uint8
    xarray.testing.assert_equal(array.load(), layer.to_xarray().compute())
    np.testing.assert_array_equal(array.values.reshape(rows.shape), rows)
    for dimension in array.dims:
        assert array[dimension].values.tolist() == [*range(array.sizes[dimension])]
    last = layer.to_xarray().isel(instance=-1).values
    np.testing.assert_array_equal(last, rows[-layer.positions :])


def test_it_reads_what_is_asked_for_and_no_more():
    rows = np.random.default_rng(0).integers(0, 256, (96, 3), dtype=np.uint8)
    store = ReadingStore(run_of([rows], 4, 10, MemoryStore()))
    array = ts.open_run(store)["layer"].to_xarray()
    store.chunks()
    assert array.chunks[0] == (2, 3, 2, 3, 2, 3, 2, 3, 2, 2)
    assert store.chunks() == []
    one = array.sel(instance=9).values
    np.testing.assert_array_equal(one, rows[36:40])
    assert len(set(store.chunks())) == 2  # instances 7 to 9 are rows 28 to 39
    assert array.attrs["neurons"] == 24
    assert array.attrs["threshold"] == 0
    assert array.name == "layer"


def test_an_instance_of_several_chunks_is_read_as_one():
    rows = np.random.default_rng(0).integers(0, 256, (90, 2), dtype=np.uint8)
    array = ts.open_run(run_of([rows[:60], rows[60:]], 30, 7))["layer"].to_xarray()
    assert array.chunks == ((1, 1, 1), (30,), (2,))
    np.testing.assert_array_equal(array.values.reshape(90, 2), rows)


def test_instances_keep_the_numbers_that_their_writers_gave(tmp_path):
    activations = np.random.default_rng(0).normal(size=(5, 2, 9))
    for part, first in (("a", 0), ("b", 100)):
        options = {"part": part, "first_instance": first}
        with ts.StateRecorder("layer", tmp_path / "run", **options) as recorder:
            recorder.record(activations + first)
    array = ts.open_run(tmp_path / "run")["layer"].to_xarray()
    assert array["instance"].values.tolist() == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]
    expected = ts.compress_states(activations[3] + 100)
    np.testing.assert_array_equal(array.sel(instance=103).values, expected)


@reproducible
@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(1, 12))
def test_rows_of_instances_that_differ_in_length(lengths, chunk_rows):
    lengths = [*lengths, 1]
    layer = ts.StateRecorder("lstm", variable_positions=True)
    layer.record(np.random.default_rng(0).normal(size=(len(lengths), 9, 11)), lengths=lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tensorstate.storage.part.PartReader.chunks", (chunk_rows, 2))
        array = layer.to_xarray()
        assert array.dims == ("row", "byte")
        assert max(array.chunks[0]) <= chunk_rows
        expected = np.repeat(np.arange(len(lengths)), lengths)
        assert array["instance"].values.tolist() == expected.tolist()
        assert InstancesOfRows(layer._parts())[::-2].tolist() == expected[::-2].tolist()
        assert array["instance"][::-2].values.tolist() == expected[::-2].tolist()
        assert array.sel(byte=0)["instance"].dims == ("row",)
    np.testing.assert_array_equal(array.values, layer.raw_states[:])


def test_parts_of_instances_that_differ_in_length(tmp_path):
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, 5, (2, 6))
    for part, first in (("a", 0), ("b", 6)):
        options = {"part": part, "first_instance": first, "variable_positions": True}
        with ts.StateRecorder("layer", tmp_path / "run", **options) as recorder:
            recorder.record(rng.normal(size=(6, 4, 3)), lengths=lengths[first // 6])
    array = ts.open_run(tmp_path / "run")["layer"].to_xarray()
    assert array["instance"].values.tolist() == np.repeat(np.arange(12), lengths.ravel()).tolist()


def test_states_that_are_not_kept_and_layers_without_any(tmp_path):
    with ts.StateRecorder("layer", tmp_path / "run", histogram="live") as recorder:
        recorder.record(np.ones((4, 3)))
    with pytest.raises(ValueError, match="histogram='live', which keeps no raw"):
        ts.open_run(tmp_path / "run")["layer"].to_xarray()
    with pytest.raises(ValueError, match="has recorded no states yet"):
        ts.StateRecorder("new").to_xarray()


def test_xarray_is_missing():
    program = (
        "import sys; sys.modules['xarray'] = None\n"
        "import tensorstate as ts\n"
        "layer = ts.StateRecorder('layer')\n"
        "layer.record([[1.0]])\n"
        "layer.to_xarray()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "labelled arrays need xarray: pip install tensorstate[xarray]" in done.stderr
