"""Parts: what is appended in any pieces is read back in any slices, or is said to be lost."""

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, WrapperStore

from tensorstate.storage import format as store_format
from tensorstate.storage.arrays import DamagedChunkError
from tensorstate.storage.format import LayerInfo
from tensorstate.storage.part import PartReader
from tensorstate.storage.part_writer import PartWriter
from tests.storage.stores import RecordingStore


def new_array(store, width=3, chunk_rows=7, codec="lz4"):
    run = store_format.create_run(store)
    layer = store_format.create_layer(run, "layer", LayerInfo(8 * width, 1))
    return store_format.create_part(layer, "0", width, chunk_rows, codec)


def random_rows(rows, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, width), dtype=np.uint8)


def through_zarr(array):
    """Return a local array in a store that only Zarr can read."""
    store = WrapperStore(LocalStore(array.store_path.store.root))
    return zarr.open_array(store, path=array.store_path.path)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    width=st.integers(1, 20),
    chunk_rows=st.integers(1, 9),
    positions=st.integers(1, 4),
    pieces=st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=8),
    codec=st.sampled_from(["lz4", "zstd"]),
)
def test_pieces_in_slices_out(width, chunk_rows, positions, pieces, codec):
    array = new_array(zarr.storage.MemoryStore(), width, chunk_rows, codec)
    writer = PartWriter(array, "here", positions)
    expected = random_rows(positions * sum(n for n, _ in pieces), width)
    taken = 0
    for instances, flush in pieces:
        rows = instances * positions
        writer.append(expected[taken : taken + rows])
        taken += rows
        if flush:
            writer.flush()
            assert writer.committed == taken
        # A reader at any moment sees whole instances, and the right ones.
        reader = PartReader(writer.array, "here")
        assert len(reader) == writer.committed
        assert len(reader) % positions == 0
        np.testing.assert_array_equal(reader[:], expected[: len(reader)])
    writer.flush()
    reader = PartReader(writer.array, "here")
    for start in range(0, taken + 2, 3):
        for stop in (start, start + 1, start + 5, taken):
            np.testing.assert_array_equal(reader[start:stop], expected[start:stop])


def test_the_chunk_is_stored_before_shape_and_rows():
    store = RecordingStore()
    writer = PartWriter(new_array(store), "here", 1)
    store.keys.clear()
    writer.append(random_rows(15, 3))
    writer.flush()
    states = "layer/part-0/states"
    assert store.keys == [
        f"{states}/c/0/0",
        f"{states}/zarr.json",
        f"{states}/c/1/0",
        f"{states}/zarr.json",
        f"{states}/c/2/0",
        f"{states}/zarr.json",
    ]


def test_flushing_twice_writes_once():
    store = RecordingStore()
    writer = PartWriter(new_array(store), "here", 1)
    writer.append(random_rows(3, 3))
    writer.flush()
    store.keys.clear()
    writer.flush()
    assert store.keys == []


def test_a_chunk_in_which_nothing_fires_is_stored(tmp_path):
    writer = PartWriter(new_array(tmp_path / "run"), "here", 1)
    writer.append(np.zeros((14, 3), np.uint8))
    assert sorted(p.name for p in (tmp_path / "run/layer/part-0/states/c").iterdir()) == ["0", "1"]


def test_a_chunk_in_which_nothing_fires_is_stored_when_a_part_goes_on():
    array = new_array(zarr.storage.MemoryStore())
    writer = PartWriter(array, "here", 1)
    writer.append(np.ones((7, 3), np.uint8))
    again = PartWriter(zarr.open_array(array.store_path, mode="r+"), "here", 1, instances=7)
    again.append(np.zeros((14, 3), np.uint8))
    assert not PartReader(again.array, "here")[7:].any()


def test_going_on_after_the_committed_rows(tmp_path):
    rows = random_rows(40, 3)
    writer = PartWriter(new_array(tmp_path / "run"), "here", 2)
    writer.append(rows[:30])
    writer.flush()
    array = zarr.open_array(tmp_path / "run/layer/part-0/states", mode="r+")
    again = PartWriter(array, "here", 2, instances=5)
    assert zarr.open_array(tmp_path / "run/layer/part-0/states").shape == (10, 3)
    again.append(rows[10:])
    again.flush()
    np.testing.assert_array_equal(PartReader(again.array, "here")[:], rows)


def test_resetting_forgets_the_rows_and_changes_the_uuid():
    writer = PartWriter(new_array(zarr.storage.MemoryStore()), "here", 1)
    writer.append(random_rows(10, 3))
    writer.flush()
    before = writer.array.attrs["uuid"]
    writer.reset()
    assert len(PartReader(writer.array, "here")) == 0
    assert writer.array.attrs["uuid"] != before
    writer.append(random_rows(9, 3, seed=1))
    writer.flush()
    reader = PartReader(writer.array, "here")
    np.testing.assert_array_equal(reader[:], random_rows(9, 3, seed=1))


def test_a_reader_knows_whether_its_rows_are_still_there():
    array = new_array(zarr.storage.MemoryStore())
    writer = PartWriter(array, "here", 1)
    writer.append(random_rows(10, 3))
    writer.flush()
    reader = PartReader(writer.array, "here")
    writer.append(random_rows(10, 3))
    writer.flush()
    assert reader.is_current()
    later = PartReader(writer.array, "here")
    again = PartWriter(writer.array, "here", 1, instances=12)  # drops 8 rows, for others to come
    assert not reader.is_current()
    assert not later.is_current()
    assert PartReader(again.array, "here").uuid not in ("", later.uuid)


@pytest.mark.parametrize("way", [lambda array: array, through_zarr])
def test_of_several_chunks_the_damaged_one_is_named(tmp_path, way):
    writer = PartWriter(new_array(tmp_path / "run"), "here", 1)
    writer.append(random_rows(40, 3))
    writer.flush()
    (tmp_path / "run/layer/part-0/states/c/3/0").write_bytes(b"not a chunk")
    reader = PartReader(way(writer.array), "here")
    for rows in (slice(None), slice(10, 23), slice(22, 40), slice(21, 28)):
        with pytest.raises(DamagedChunkError, match=r"here, chunk 3 \(rows 2[12] to 2[2-7]\) is"):
            reader[rows]


@pytest.mark.parametrize("way", [lambda array: array, through_zarr])
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("damage", ["missing", "flipped", "truncated", "empty"])
def test_damage_is_an_error_that_names_the_place(tmp_path, damage, codec, way):
    rows = random_rows(20, 3)
    writer = PartWriter(new_array(tmp_path / "run", codec=codec), "here", 1)
    writer.append(rows)
    writer.flush()
    chunk = tmp_path / "run/layer/part-0/states/c/1/0"
    content = bytearray(chunk.read_bytes())
    if damage == "missing":
        chunk.unlink()
    elif damage == "flipped":
        content[len(content) // 2] ^= 4
        chunk.write_bytes(content)
    else:
        chunk.write_bytes(content[: len(content) // 2 if damage == "truncated" else 0])
    reader = PartReader(way(writer.array), "run R, layer L, part 0")
    np.testing.assert_array_equal(reader[:7], rows[:7])
    np.testing.assert_array_equal(reader[14:], rows[14:])
    for rows_of_it in (slice(7, 14), slice(9, 10), slice(None)):
        with pytest.raises(DamagedChunkError, match=r"run R, layer L, part 0, chunks? .*lost"):
            reader[rows_of_it]


def test_metadata_that_claims_more_than_there_is():
    array = new_array(zarr.storage.MemoryStore())
    array.attrs["rows"] = 5
    with pytest.raises(ValueError, match="5 rows are committed, but has 0"):
        PartReader(array, "here")
