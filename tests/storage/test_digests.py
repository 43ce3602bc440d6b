"""Digests of chunks: a chunk passes for no other one, however a part was written."""

import pickle
import shutil
import warnings
import zipfile

import numpy as np
import pytest
import xxhash
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, MemoryStore, WrapperStore, ZipStore

import tensorstate as ts
from tensorstate.nodes import read_array
from tensorstate.storage import DamagedChunkError, LayerInfo, RunWriter, digests, open_run
from tensorstate.storage import format as store_format
from tensorstate.storage.part import PartReader
from tensorstate.storage.part_writer import PartWriter
from tests.storage.metadata import as_before_checksums, set_attributes
from tests.storage.stores import SnapshotStore
from tests.strategies import reproducible

WIDTH = 3


def random_rows(rows, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, WIDTH), dtype=np.uint8)


def new_part(store, positions=1, chunk_rows=7):
    run = store_format.create_run(store)
    layer = store_format.create_layer(run, "layer", LayerInfo(8 * WIDTH, positions))
    varies = positions is None
    return run, store_format.create_part(layer, "0", WIDTH, chunk_rows, "lz4", offsets=varies)


def write(store, rows, positions=1, chunk_rows=7, lengths=None):
    """Write a run with one layer of small chunks."""
    run, array = new_part(store, positions, chunk_rows)
    writer = PartWriter(array, "here", positions)
    writer.append(rows, lengths)
    writer.flush()
    set_attributes(run, instances=writer.instances)


def check_digests(reader, expected, of_piece):
    """Compare digests with those that are computed from all rows at once."""
    length = reader.chunks[0]
    rows = expected[: len(reader)]
    assert reader.digests.of_piece == of_piece
    for chunk in range(-(-len(reader) // length)):
        own = rows[chunk * length : (chunk + 1) * length]
        assert reader.digests.digest(chunk) == xxhash.xxh3_64_digest(own.tobytes())
    attribute = reader.attributes["digests"]
    assert all(len(level) < 16 * of_piece for level in attribute["levels"])


def stored(store):
    """Return what is in the chunks and pieces of a store in memory, by their names."""
    held = {key: value.to_bytes() for key, value in store._store_dict.items()}
    return {key: value for key, value in held.items() if not key.endswith("zarr.json")}


programs = st.lists(st.tuples(st.integers(0, 25), st.sampled_from(["", "flush", "resume"])))


@settings(reproducible, max_examples=40)
@given(
    chunk_rows=st.integers(1, 9),
    positions=st.integers(1, 20),
    of_piece=st.integers(2, 4),
    program=programs,
    back=st.integers(0, 5),
)
def test_digests_are_those_of_committed_rows(chunk_rows, positions, of_piece, program, back):
    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests, "OF_PIECE", of_piece)
        _, array = new_part(store, positions, chunk_rows)
        writer = PartWriter(array, "here", positions)
        expected = random_rows(positions * sum(n for n, _ in program))
        taken = 0
        for instances, then in program:
            rows = expected[taken : taken + instances * positions]
            taken += len(rows)
            writer.append(rows)
            if then:
                writer.flush()
            if then == "resume":
                kept = max(writer.instances - back, 0)
                array = read_array(writer.array.store_path)
                writer = PartWriter(array, "here", positions, kept)
                writer.append(expected[kept * positions : taken])
            reader = PartReader(read_array(writer.array.store_path), "here")
            check_digests(reader, expected, of_piece)
            np.testing.assert_array_equal(reader[:], expected[: len(reader)])
        writer.flush()
        check_digests(PartReader(writer.array, "here"), expected, of_piece)
        # As if it had been written in one go.
        other = MemoryStore()
        unbroken = PartWriter(new_part(other, positions, chunk_rows)[1], "here", positions)
        unbroken.append(expected)
        unbroken.flush()
        found = PartReader(writer.array, "here").attributes["digests"]
        assert found == PartReader(unbroken.array, "here").attributes["digests"]
        ours, theirs = stored(store), stored(other)
        assert {key: ours[key] for key in theirs} == theirs


@settings(reproducible, max_examples=30)
@given(
    lengths=st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=6),
    of_chunk=st.integers(1, 5),
    of_piece=st.integers(2, 3),
    back=st.integers(0, 4),
)
def test_digests_of_offsets(lengths, of_chunk, of_piece, back):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digests, "OF_PIECE", of_piece)
        patch.setattr(store_format, "OFFSETS_OF_CHUNK", of_chunk)
        store = MemoryStore()
        writer = PartWriter(new_part(store, None)[1], "here", None)
        every = [length for some in lengths for length in some]
        edges = np.cumsum([0, *every])
        expected, taken = random_rows(edges[-1]), 0
        for some in lengths:
            stop = taken + len(some)
            writer.append(expected[edges[taken] : edges[stop]], some)
            writer.flush()
            taken = stop
            kept = max(writer.instances - back, 0)
            writer = PartWriter(read_array(writer.array.store_path), "here", None, kept)
            writer.append(expected[edges[kept] : edges[taken]], every[kept:taken])
            writer.flush()
            reader = PartReader(read_array(writer.array.store_path), "here")
            extents = reader.extents(None)
            assert [*extents.damage()] == []
            if taken:
                assert extents.bounds(np.arange(taken))[1].tolist() == edges[1 : taken + 1].tolist()
                found = extents.digests()
                for chunk in range(-(-taken // of_chunk)):
                    own = edges[1 : taken + 1][chunk * of_chunk : (chunk + 1) * of_chunk]
                    assert found.digest(chunk) == xxhash.xxh3_64_digest(own.astype("<i8").tobytes())


def test_at_any_moment_a_reader_sees_a_consistent_prefix(monkeypatch):
    monkeypatch.setattr(digests, "OF_PIECE", 2)
    store = SnapshotStore()
    _run, array = new_part(store, 2, chunk_rows=5)
    writer = PartWriter(array, "here", 2)
    rows = random_rows(120)
    for start in range(0, 120, 8):
        writer.append(rows[start : start + 8])
        if start % 24 == 0:
            writer.flush()
    writer.flush()
    writer = PartWriter(writer.array, "here", 2, 20)
    writer.append(rows[40:])
    seen = set()
    for held in store.snapshots:
        array = read_array(zarr.storage.StorePath(MemoryStore(dict(held)), "layer/part-0/states"))
        if array is not None:
            reader = PartReader(array, "here")
            np.testing.assert_array_equal(reader[:], rows[: len(reader)])
            seen.add(len(reader))
    assert len(seen) > 20


def test_a_reader_reads_its_rows_also_after_the_chunk_was_rewritten(tmp_path):
    rows = random_rows(40)
    writer = PartWriter(new_part(tmp_path / "run", chunk_rows=16)[1], "here", 1)
    readers = []
    for start in range(0, 40, 4):
        writer.append(rows[start : start + 4])
        writer.flush()
        readers.append(PartReader(writer.array, "here"))
        for reader in [*readers, pickle.loads(pickle.dumps(readers[0]))]:
            np.testing.assert_array_equal(reader[:], rows[: len(reader)])


KINDS = ["local", "through Zarr", "memory", "zip"]


def opened_as(kind, path):
    """Open a run on a disk as another kind of store."""
    if kind == "local":
        return open_run(path)
    if kind == "through Zarr":
        return open_run(WrapperStore(LocalStore(path)))
    if kind == "memory":
        store = MemoryStore()
        for file in path.rglob("*"):
            if file.is_file():
                buffer = zarr.core.buffer.default_buffer_prototype().buffer
                name = str(file.relative_to(path))
                store._store_dict[name] = buffer.from_bytes(file.read_bytes())
        return open_run(store)
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as file:
        for name in path.rglob("*"):
            if name.is_file():
                file.write(name, name.relative_to(path))
    return open_run(path.with_suffix(".zip"))


def swap(one, two):
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("harm", ["swapped", "older", "of another run", "another row"])
def test_a_whole_chunk_in_the_place_of_another_is_damage(tmp_path, kind, harm):
    rows = random_rows(40)
    write(tmp_path / "run", rows)
    chunks = tmp_path / "run/layer/part-0/states/c"
    if harm == "swapped":
        swap(chunks / "1/0", chunks / "3/0")
        damaged = [1, 3]
    elif harm == "older":  # the last chunk, as it was before a flush
        write(tmp_path / "other", rows[:38])
        shutil.copy(tmp_path / "other/layer/part-0/states/c/5/0", chunks / "5/0")
        damaged = [5]
    elif harm == "of another run":
        write(tmp_path / "other", random_rows(40, seed=1))
        shutil.copy(tmp_path / "other/layer/part-0/states/c/2/0", chunks / "2/0")
        damaged = [2]
    else:
        array = zarr.open_array(tmp_path / "run/layer/part-0/states", mode="r+")
        array[30] = array[30] ^ 1
        damaged = [4]
    layer = opened_as(kind, tmp_path / "run")["layer"]
    says = rf"layer layer, part 0, chunk {damaged[0]} \(rows .*\) is damaged: its rows have the dig"
    for read in (
        lambda: layer.raw_states[:],
        lambda: layer.raw_states[7 * damaged[0] : 7 * damaged[0] + 1],
        lambda: layer.raw_states[[0, 7 * damaged[0] + 2]],
        layer.histogram,
        layer.entropy,
        lambda: layer.histogram(np.arange(40)),
        lambda: layer.histogram(by=np.arange(40) % 2),
        lambda: ts.count_states(layer.raw_states),
    ):
        with pytest.raises(DamagedChunkError, match=says):
            read()
    run = opened_as(kind, tmp_path / "run")
    damage = run.verify()
    assert damage["chunk"].tolist() == damaged
    whole = np.concatenate([rows[7 * n : 7 * n + 7] for n in range(6) if n not in damaged])
    new = run.salvage(MemoryStore())
    np.testing.assert_array_equal(new["layer"].raw_states[:], whole)
    assert len(new.verify()) == 0


def test_whole_chunks_of_offsets_in_the_place_of_others_are_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(store_format, "OFFSETS_OF_CHUNK", 4)
    lengths = [3, 1, 2, 2, 5, 1, 1, 1, 4, 4]
    write(tmp_path / "run", random_rows(24), None, lengths=lengths)
    write(tmp_path / "other", random_rows(24), None, lengths=[3, 1, 2, 2, 1, 5, 1, 1, 4, 4])
    other = tmp_path / "other/layer/part-0/offsets/c/1"
    shutil.copy(other, tmp_path / "run/layer/part-0/offsets/c/1")
    run = open_run(tmp_path / "run")
    with pytest.raises(DamagedChunkError, match=r"chunk 1 of the offsets .* its rows have the dig"):
        run["layer"].histogram([5])
    damage = run.verify()
    assert damage[["first_instance", "last_instance"]].values.tolist() == [[4, 8]]
    # Instances that do not follow each other are found without digests, too.
    as_before_checksums(tmp_path / "run")
    swap(tmp_path / "run/layer/part-0/offsets/c/0", tmp_path / "run/layer/part-0/offsets/c/2")
    with warnings.catch_warnings(action="ignore"):
        damage = open_run(tmp_path / "run").verify()
    assert damage["problem"].str.contains("do not follow each other up to row 24").sum() == 2


@pytest.mark.parametrize("harm", ["missing", "flipped", "swapped", "another level"])
def test_damaged_digests_are_damage(tmp_path, monkeypatch, harm):
    monkeypatch.setattr(digests, "OF_PIECE", 2)
    rows = random_rows(80)
    write(tmp_path / "run", rows)
    folder = tmp_path / "run/layer/part-0/digests/states"
    piece = folder / "0/1"
    if harm == "missing":
        piece.unlink()
    elif harm == "flipped":
        piece.write_bytes(bytes([piece.read_bytes()[0] ^ 1]) + piece.read_bytes()[1:])
    elif harm == "swapped":
        # With its chunks: what is there fits, but not what was committed.
        for left, right in ((0, 2), (1, 3)):
            chunks = tmp_path / "run/layer/part-0/states/c"
            swap(chunks / f"{left}/0", chunks / f"{right}/0")
        swap(folder / "0/0", piece)
    else:
        shutil.copy(folder / "1/0", piece)
    run = open_run(tmp_path / "run")
    with pytest.raises(DamagedChunkError, match=r"chunk [02] .* digests that it is compared with"):
        run["layer"].histogram()
    damage = run.verify()
    assert damage["chunk"].tolist() == ([0, 1, 2, 3] if harm == "swapped" else [2, 3])


@pytest.mark.parametrize(
    "change",
    [
        {"levels": []},
        {"levels": ["00"]},
        {"levels": [7]},
        {"levels": "0" * 80},
        {"last": ""},
        {"last": None},
        {"of_piece": 1},
        {"of_piece": 2.0},
        {"of_piece": None},
    ],
)
def test_digests_that_do_not_fit_the_rows(tmp_path, change):
    write(tmp_path / "run", random_rows(40))
    array = read_array(zarr.storage.StorePath(LocalStore(tmp_path / "run"), "layer/part-0/states"))
    set_attributes(array, digests={**array.attrs["digests"], **change})
    with pytest.raises(ValueError, match="part 0 has digests that do not fit its 40 committed"):
        open_run(tmp_path / "run")


@pytest.mark.parametrize("name", ["digests", "checksum"])
def test_digests_and_checksums_are_not_just_left_out(tmp_path, name):
    write(tmp_path / "run", random_rows(40))
    array = zarr.open_array(tmp_path / "run/layer/part-0/states", mode="r+")
    del array.attrs[name]
    if name == "digests":
        set_attributes(array)
    with pytest.raises(ValueError, match=r"lacks the digests|checksum None instead"):
        open_run(tmp_path / "run")


def test_a_run_of_an_earlier_version_is_read_and_goes_on_without(tmp_path):
    rows = random_rows(60)
    write(tmp_path / "run", rows[:40])
    as_before_checksums(tmp_path / "run")
    run = open_run(tmp_path / "run")
    with pytest.warns(UserWarning, match="no digests of the chunks of layer/part-0, which an earl"):
        assert len(run.verify()) == 0
    writer = RunWriter(tmp_path / "run", mode="resume")
    writer.add_layer("layer", LayerInfo(8 * WIDTH, 1))
    writer.put("layer", rows[40:])
    writer.close()
    run = open_run(tmp_path / "run")
    np.testing.assert_array_equal(run["layer"].raw_states[:], rows)
    with pytest.warns(UserWarning, match="no digests"):
        run.verify()
    new = run.salvage(tmp_path / "new")
    with warnings.catch_warnings(action="error"):
        assert len(new.verify()) == 0


def test_a_part_that_was_reset_is_not_called_damaged(tmp_path):
    writer = PartWriter(new_part(tmp_path / "run")[1], "here", 1)
    writer.append(random_rows(20))
    writer.flush()
    reader = PartReader(writer.array, "here")
    writer.reset()
    writer.append(random_rows(20, seed=1))
    writer.flush()
    with pytest.raises(DamagedChunkError, match="was reset or overwritten: open it again"):
        reader[:]


def test_rows_that_were_counted_meanwhile_are_not_read_as_zeros(tmp_path):
    """A writer that goes on does not read what was counted: its first chunk begins with zeros."""
    info = LayerInfo(8 * WIDTH, 1, histogram="live")

    def append(rows, mode):
        writer = RunWriter(tmp_path / "run", mode=mode)
        writer.add_layer("layer", info)
        writer.put("layer", rows)
        return writer

    rows = random_rows(200)
    writer = append(rows[:100], "x")
    writer.flush()
    layer = open_run(tmp_path / "run")["layer"]
    assert layer._parts()[0].counted.rows == 0
    writer.close()
    again = append(rows[100:], "resume")
    again.flush()
    assert not zarr.open_array(tmp_path / "run/layer/part-0/states", mode="r")[:100].any()
    assert layer.histogram() == ts.count_states(rows[:100])


def test_a_commit_writes_no_more_the_longer_a_part_takes():
    store = MemoryStore()
    array = new_part(store, chunk_rows=1)[1]
    writer = PartWriter(array, "here", 1)
    sizes = []
    for start in range(0, 1100, 100):
        writer.append(random_rows(100, start))
        sizes.append(len(store._store_dict["layer/part-0/states/zarr.json"].to_bytes()))
    assert max(sizes) < 8000
    pieces = [key for key in store._store_dict if "/digests/" in key]
    assert sorted(pieces) == [f"layer/part-0/digests/states/0/{n}" for n in range(4)]
    assert PartReader(writer.array, "here").digests.digest(5) == xxhash.xxh3_64_digest(
        random_rows(100, 0)[5].tobytes()
    )


def test_zip_files_given_as_stores(tmp_path):
    rows = random_rows(40)
    with ZipStore(tmp_path / "run.zip", mode="w") as store:
        memory = MemoryStore()
        write(memory, rows)
        for key, value in memory._store_dict.items():
            zarr.core.sync.sync(store.set(key, value))
    store = ZipStore(tmp_path / "run.zip", mode="r")
    np.testing.assert_array_equal(open_run(store)["layer"].raw_states[:], rows)
