"""Chunks that are read without Zarr: the same rows, the same errors, and only where it may be."""

import pickle
import struct
import tempfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import blosc
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec
from zarr.storage import FsspecStore, LocalStore, MemoryStore, WrapperStore, ZipStore

from tensorstate.counting import count_states
from tensorstate.nodes import digest_of
from tensorstate.storage import chunks as storage_chunks
from tensorstate.storage.arrays import DamagedChunkError
from tensorstate.storage.chunks import LocalChunks
from tensorstate.storage.part import PartReader
from tensorstate.storage.rows import PartRows, RawStates
from tests.strategies import as_dict, count_by_hand

LZ4 = BloscCodec(cname="lz4", shuffle="noshuffle", typesize=1)
DEFAULT = (LZ4, Crc32cCodec())
STATES = "layer/part-0/states"


def write(store, rows, chunk_rows, compressors=DEFAULT, committed=None, **options):
    """Store rows as a part does, or with other options of Zarr."""
    array = zarr.create_array(
        store,
        name=STATES,
        shape=rows.shape,
        chunks=options.pop("chunks", (chunk_rows, rows.shape[1])),
        dtype="uint8",
        compressors=list(compressors),
        fill_value=0,
        config={"write_empty_chunks": True},
        attributes={"rows": len(rows) if committed is None else committed, "uuid": "u"},
        **options,
    )
    array[:] = rows
    return array


def some_rows(rows, width, distinct=20, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (distinct, width), np.uint8)[rng.integers(0, distinct, rows)]


def through_zarr(path):
    """Return a reader of the same part whose store is not a local one to look at."""
    return PartReader(zarr.open_array(WrapperStore(LocalStore(path)), path=STATES), "here")


@pytest.fixture
def no_zarr(monkeypatch):
    """Let Zarr read no rows."""

    def refuse(*_):
        raise AssertionError("rows were read through Zarr")

    monkeypatch.setattr(zarr.Array, "__getitem__", refuse)


@pytest.fixture
def only_zarr(monkeypatch):
    """Let nothing but Zarr read rows."""

    def refuse(*_):
        raise AssertionError("rows were read without Zarr")

    monkeypatch.setattr(LocalChunks, "read", refuse)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_rows_are_those_that_zarr_reads(data):
    width = data.draw(st.integers(1, 70), "width")
    count = data.draw(st.integers(1, 300), "rows")
    codec = BloscCodec(
        cname=data.draw(st.sampled_from(["lz4", "zstd"]), "codec"),
        clevel=data.draw(st.integers(0, 9), "level"),
        shuffle="noshuffle",
        typesize=data.draw(st.sampled_from([1, 8]), "typesize"),
    )
    rows = some_rows(count, width, data.draw(st.sampled_from([1, 5, 1000]), "distinct"))
    chunk_rows = data.draw(st.integers(1, 400), "rows of a chunk")
    committed = data.draw(st.integers(0, count), "committed")
    with tempfile.TemporaryDirectory() as folder:
        array = write(folder, rows, chunk_rows, [codec, Crc32cCodec()], committed)
        reader, other = PartReader(array, "here"), through_zarr(folder)
        assert LocalChunks.of(array)
        np.testing.assert_array_equal(reader[:], rows[:committed])
        for _ in range(5):
            start = data.draw(st.integers(0, committed), "start")
            stop = data.draw(st.integers(start, committed), "stop")
            np.testing.assert_array_equal(reader[start:stop], rows[start:stop])
            np.testing.assert_array_equal(other[start:stop], rows[start:stop])
            for source in (reader, other):
                batches = [part.copy() for part in source.read_batches(start, stop, 7)]
                found = np.concatenate([np.empty((0, width), np.uint8), *batches])
                np.testing.assert_array_equal(found, rows[start:stop])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_chunks_are_written_to_the_bytes_that_zarr_writes(data):
    width = data.draw(st.integers(1, 70), "width")
    chunk_rows = data.draw(st.integers(1, 3000), "rows of a chunk")
    codec = BloscCodec(
        cname=data.draw(st.sampled_from(["lz4", "zstd"]), "codec"),
        clevel=data.draw(st.integers(0, 9), "level"),
        shuffle="noshuffle",
        typesize=data.draw(st.sampled_from([1, 8]), "typesize"),
    )
    rows = some_rows(2 * chunk_rows, width, data.draw(st.sampled_from([1, 5, 1000]), "distinct"))
    with tempfile.TemporaryDirectory() as folder:
        array = write(folder, rows, chunk_rows, [codec, Crc32cCodec()])
        files = sorted(path for path in Path(folder, STATES).rglob("*") if path.name != "zarr.json")
        by_zarr = {path: path.read_bytes() for path in files if path.is_file()}
        assert len(by_zarr) == 2
        chunks = LocalChunks.of(array)
        for path in by_zarr:
            path.unlink()
        for number in (1, 0, 0):
            chunks.write(number, rows[number * chunk_rows : (number + 1) * chunk_rows])
        found = sorted(path for path in Path(folder, STATES).rglob("*") if path.is_file())
        assert {path: path.read_bytes() for path in found if path.name != "zarr.json"} == by_zarr


@pytest.mark.parametrize(
    ("cname", "filled", "is_plain"),
    [
        ("lz4", 1.0, True),
        ("lz4", 0.5, True),
        ("lz4", 0.2, False),
        ("lz4", 0.0, False),
        ("zstd", 1.0, True),
        ("zstd", 0.5, False),
        ("zstd", 0.0, False),
    ],
)
def test_what_shrinks_too_little_is_not_compressed(tmp_path, cname, filled, is_plain):
    rows = np.zeros((1 << 17, 8), np.uint8)
    rows[: int(filled * len(rows))] = np.random.default_rng(0).integers(
        0, 256, (int(filled * len(rows)), 8), np.uint8
    )
    codec = BloscCodec(cname=cname, shuffle="noshuffle", typesize=1)
    array = write(tmp_path, np.zeros_like(rows), len(rows), [codec, Crc32cCodec()])
    chunks = LocalChunks.of(array)
    chunks.write(0, rows)
    size = Path(chunks.folder, chunks.key(0)).stat().st_size
    assert (size == rows.nbytes + 20) == is_plain
    assert is_plain or size < 0.6 * rows.nbytes
    np.testing.assert_array_equal(PartReader(array, "here")[:], rows)
    np.testing.assert_array_equal(through_zarr(tmp_path)[:], rows)


def test_what_is_not_compressed_is_not_copied(tmp_path):
    rows = some_rows(40, 1 << 17)
    array = write(tmp_path, rows, 10)
    chunks = LocalChunks.of(array)
    for number in range(4):
        chunks.write(number, rows[10 * number : 10 * number + 10])
    kept = {}
    room, stored = chunks.rooms(kept)
    assert all(one is other for one, other in zip(chunks.rooms(kept), (room, stored), strict=True))
    found = chunks.read(2, room, stored)
    np.testing.assert_array_equal(found, rows[20:30])
    assert np.shares_memory(found, stored)
    assert not np.shares_memory(found, room)
    reader = PartReader(array, "here")
    addresses = {
        batch.ctypes.data
        for begin in (0, 20)
        for batch in reader.read_batches(begin, begin + 20, 1, kept)
    }
    assert len(addresses) == 1
    # Slices are the caller's own.
    first, second = reader[0:10], reader[10:20]
    np.testing.assert_array_equal(np.concatenate([first, second]), rows[:20])


@pytest.mark.parametrize("distinct", [4, 1 << 18])
@pytest.mark.parametrize("committed", [1, 16_384 - 1, 16_384, 16_385, 40_000, 50_000])
@pytest.mark.parametrize("exported", [True, False])
def test_the_digest_of_the_first_rows_is_worked_out_while_they_are_read(
    tmp_path, distinct, committed, exported, monkeypatch
):
    monkeypatch.setattr(storage_chunks, "HAS_XXH3_STREAM", exported)
    rows = some_rows(50_000, 16, distinct)
    array = write(tmp_path, np.zeros_like(rows), len(rows))
    chunks = LocalChunks.of(array)
    chunks.write(0, rows)
    found, digest = chunks.read_digested(0, *chunks.rooms(), committed * 16)
    np.testing.assert_array_equal(found, rows)
    assert digest == digest_of(rows[:committed])
    file = Path(chunks.folder, chunks.key(0))
    content = bytearray(file.read_bytes())
    is_plain = len(content) == rows.nbytes + 20
    assert is_plain == (distinct > 4)
    # Of a chunk that is stored as it is the digest tells, of others the checksum.
    content[16 + 16 * (committed - 1) if is_plain else len(content) // 2] ^= 1
    file.write_bytes(content)
    if is_plain:
        assert chunks.read_digested(0, *chunks.rooms(), committed * 16)[1] != digest
    else:
        with pytest.raises(ValueError, match="its checksum is"):
            chunks.read_digested(0, *chunks.rooms(), committed * 16)
    with pytest.raises(ValueError, match="its checksum is"):
        chunks.read(0, *chunks.rooms())


def test_a_chunk_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    rows = some_rows(8, 3)
    array = write(tmp_path, rows, 4)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        LocalChunks.of(array).write(0, rows[4:])
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("options", [{"codec": "lz4"}, {"codec": "zstd"}])
def test_what_a_recorder_stores_is_read_without_zarr(tmp_path, options, no_zarr):
    from tensorstate.capture import StateRecorder
    from tensorstate.storage import open_run

    recorder = StateRecorder("layer", tmp_path / "run", **options)
    rng = np.random.default_rng(0)
    recorder.record(rng.normal(size=(100, 3, 20)))
    recorder.close()
    layer = open_run(tmp_path / "run")["layer"]
    assert layer.counts().sum() == 300
    assert layer.raw_states[:].shape == (300, 3)
    assert layer.counts([4, 5]).sum() == 6


@pytest.mark.parametrize(
    "encoding",
    [
        {"name": "default", "separator": "/"},
        {"name": "default", "separator": "."},
        {"name": "v2", "separator": "."},
        {"name": "v2", "separator": "/"},
    ],
)
def test_the_metadata_name_the_files(tmp_path, encoding, no_zarr):
    rows = some_rows(50, 3)
    reader = PartReader(write(tmp_path, rows, 8, chunk_key_encoding=encoding), "here")
    np.testing.assert_array_equal(reader[:], rows)


def test_batches_are_chunks_in_the_same_memory(tmp_path, no_zarr):
    rows = some_rows(50, 3)
    reader = PartReader(write(tmp_path, rows, 16), "here")
    batches = [*reader.read_batches(4, 50, 1000)]
    assert [len(batch) for batch in batches] == [12, 16, 16, 2]
    assert np.shares_memory(batches[1], batches[2])
    # The last one is there, and what was in its place before it is not.
    np.testing.assert_array_equal(batches[3], rows[48:])


def test_batches_of_several_parts(tmp_path, no_zarr):
    rows = some_rows(90, 3)
    parts = [
        PartReader(write(tmp_path / "a", rows[:50], 16), "a"),
        PartReader(write(tmp_path / "b", rows[50:], 7), "b"),
    ]
    both = RawStates(parts, 3)
    for start, stop in [(0, 90), (10, 20), (45, 60), (50, 90), (0, 50), (60, 60)]:
        batches = [batch.copy() for batch in both.read_batches(start, stop, 100)]
        found = np.concatenate([np.empty((0, 3), np.uint8), *batches])
        np.testing.assert_array_equal(found, rows[start:stop])
    # No chunk is read for two batches, wherever the parts meet.
    assert len([*both.read_batches(0, 90, 100)]) == 4 + 6
    some = PartRows(parts[1], 7, 30)
    found = np.concatenate([batch.copy() for batch in some.read_batches(2, 23, 100)])
    np.testing.assert_array_equal(found, rows[59:80])


def test_rows_past_the_committed_ones_are_not_there(tmp_path):
    rows = some_rows(50, 3)
    array = write(tmp_path, rows, 16, committed=35)
    for reader in (PartReader(array, "here"), through_zarr(tmp_path)):
        assert len(reader[30:50]) == 5
        for start, stop in [(30, 36), (-1, 5), (36, 36), (5, 4)]:
            with pytest.raises(IndexError, match=f"here has 35 rows, not the rows {start} to"):
                next(reader.read_batches(start, stop, 10))


def test_a_reader_that_travels(tmp_path, no_zarr):
    rows = some_rows(50, 3)
    reader = pickle.loads(pickle.dumps(PartReader(write(tmp_path, rows, 16), "here")))
    np.testing.assert_array_equal(reader[:], rows)


def test_threads_read_at_the_same_time(tmp_path, no_zarr):
    # Otherwise threads would take turns at its global state.
    assert blosc.use_threads is False
    rows = some_rows(40_000, 16, distinct=3000)
    reader = PartReader(write(tmp_path, rows, 1000), "here")
    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(lambda n: reader[n * 1000 : (n + 1) * 1000], [*range(40)] * 4)]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate([rows] * 4))


class OwnStore(LocalStore):
    """A local store that might read in a way of its own."""


def memory_store(path):
    return MemoryStore()


def zip_store(path):
    return ZipStore(path / "run.zip", mode="w")


def wrapped_store(path):
    return WrapperStore(LocalStore(path))


def own_store(path):
    return OwnStore(path)


def fsspec_store(path):
    return FsspecStore.from_url(f"file://{path}", storage_options={"auto_mkdir": True})


@pytest.mark.parametrize("make", [memory_store, zip_store, wrapped_store, own_store, fsspec_store])
def test_other_stores_are_read_through_zarr(tmp_path, make, only_zarr):
    rows = some_rows(500, 9)
    array = write(make(tmp_path), rows, 64)
    reader = PartReader(array, "here")
    np.testing.assert_array_equal(reader[10:200], rows[10:200])
    np.testing.assert_array_equal(np.concatenate([*reader.read_batches(3, 400, 64)]), rows[3:400])
    expected = count_by_hand(rows)
    assert as_dict(count_states([reader]), rows) == expected
    assert as_dict(count_states(RawStates([reader], 9)), rows) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": [LZ4]},
        {"compressors": [Crc32cCodec()]},
        {"compressors": []},
        {"compressors": [Crc32cCodec(), LZ4]},
        {"compressors": [GzipCodec(), Crc32cCodec()]},
        {"compressors": [ZstdCodec(), Crc32cCodec()]},
        {"compressors": [BloscCodec(cname="zlib", shuffle="noshuffle"), Crc32cCodec()]},
        {"compressors": [BloscCodec(cname="lz4", shuffle="bitshuffle"), Crc32cCodec()]},
        {"compressors": [BloscCodec(cname="lz4", shuffle="shuffle"), Crc32cCodec()]},
        {"chunks": (64, 2)},
        {"filters": [zarr.codecs.TransposeCodec(order=(1, 0))]},
    ],
)
def test_other_ways_to_store_are_read_through_zarr(tmp_path, options, only_zarr):
    rows = some_rows(500, 4)
    reader = PartReader(write(tmp_path, rows, 64, **options), "here")
    np.testing.assert_array_equal(reader[10:200], rows[10:200])
    assert as_dict(count_states(reader), rows) == count_by_hand(rows)


def test_shards_and_arrays_of_zarr_2_are_left_to_zarr(tmp_path):
    assert LocalChunks.of(write(tmp_path / "a", some_rows(9, 2), 2, shards=(4, 2))) is None
    array = zarr.create_array(tmp_path, shape=(9, 2), chunks=(3, 2), dtype="uint8", zarr_format=2)
    assert LocalChunks.of(array) is None


def checked(content):
    """Return the content of a chunk's file with the checksum that fits it."""
    return content + struct.pack("<I", google_crc32c.value(content))


def with_header(stored, **changes):
    """Return the content of a chunk's file with another blosc header, and a checksum that fits."""
    names = ["version", "codec", "flags", "typesize", "unpacked", "block", "packed"]
    header = dict(zip(names, struct.unpack("<4B3I", stored[:16]), strict=True)) | changes
    return checked(struct.pack("<4B3I", *header.values()) + stored[16:-4])


def of_other_rows(rows):
    """Return the file of a chunk of so many rows."""
    with tempfile.TemporaryDirectory() as folder:
        write(folder, some_rows(rows, 40), rows)
        return Path(folder, STATES, "c/0/0").read_bytes()


DAMAGE = {
    "missing": lambda stored: None,
    "empty": lambda stored: b"",
    "too short for a checksum": lambda stored: stored[:3],
    "nothing but a checksum": lambda stored: checked(b""),
    "nothing but a header": lambda stored: checked(stored[:16]),
    "too short for a header": lambda stored: checked(stored[:15]),
    "half of it": lambda stored: stored[: len(stored) // 2],
    "a byte less": lambda stored: stored[:-1],
    "a byte more": lambda stored: stored + b"\0",
    "flipped first bit": lambda stored: bytes([stored[0] ^ 1]) + stored[1:],
    "flipped last bit": lambda stored: stored[:-1] + bytes([stored[-1] ^ 128]),
    "flipped bit": lambda stored: stored[:30] + bytes([stored[30] ^ 4]) + stored[31:],
    "zeros": lambda stored: bytes(len(stored)),
    "a page of zeros": lambda stored: bytes(4096),
    "of fewer rows": lambda stored: of_other_rows(8),
    "of more rows": lambda stored: of_other_rows(17),
    "of no rows": lambda stored: with_header(stored, unpacked=0),
    "of gigabytes": lambda stored: with_header(stored, unpacked=(1 << 31) - 17),
    "a packed size past its end": lambda stored: with_header(stored, packed=1 << 30),
    "a packed size before its end": lambda stored: with_header(stored, packed=20),
    "huge blocks": lambda stored: with_header(stored, block=(1 << 31) - 17),
    "blocks of nothing": lambda stored: with_header(stored, block=0),
    "another version": lambda stored: with_header(stored, version=99),
    "an unknown codec": lambda stored: with_header(stored, flags=7 << 5),
    "nonsense under a fitting header": lambda stored: checked(
        stored[:16] + b"\xff" * (len(stored) - 20)
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_kind_of_damage_is_named(tmp_path, damage, no_zarr):
    rows = some_rows(100, 40, distinct=3)
    reader = PartReader(write(tmp_path, rows, 16), "run R, layer L, part 0")
    file = tmp_path / STATES / "c/1/0"
    found = DAMAGE[damage](file.read_bytes())
    file.unlink()
    if found is not None:
        file.write_bytes(found)
    np.testing.assert_array_equal(reader[:16], rows[:16])
    np.testing.assert_array_equal(reader[32:], rows[32:])
    says = r"^run R, layer L, part 0, chunk 1 \(rows from 16\) is missing from the store \(c/1/0\)"
    if damage != "missing":
        says = r"^run R, layer L, part 0, chunk 1 \(rows 1[67] to (19|31)\) is damaged: .*; what "
    for read in (
        lambda: reader[:],
        lambda: reader[17:20],
        lambda: [*reader.read_batches(0, 100, 16)],
        lambda: count_states(reader),
        lambda: RawStates([reader], 40)[[5, 17, 19]],
    ):
        with pytest.raises(DamagedChunkError, match=says):
            read()


@pytest.mark.parametrize(
    "damage", ["missing", "empty", "half of it", "a byte more", "flipped bit", "of fewer rows"]
)
def test_damage_is_named_as_it_is_through_zarr(tmp_path, damage):
    array = write(tmp_path, some_rows(100, 3), 16)
    file = tmp_path / STATES / "c/3/0"
    found = DAMAGE[damage](file.read_bytes())
    file.unlink()
    if found is not None:
        file.write_bytes(found)
    told = []
    for reader in (PartReader(array, "here"), through_zarr(tmp_path)):
        with pytest.raises(DamagedChunkError) as error:
            reader[40:60]
        told.append(str(error.value).partition(" is ")[0])
    assert told[0] == told[1]


@pytest.mark.parametrize("what", ["folder", "file in the place of a folder"])
def test_what_is_no_file_is_missing(tmp_path, what, no_zarr):
    reader = PartReader(write(tmp_path, some_rows(40, 3), 16), "here")
    file = tmp_path / STATES / "c/1/0"
    file.unlink()
    if what == "folder":
        file.mkdir()
    else:
        file.parent.rmdir()
        file.parent.write_bytes(b"")
    with pytest.raises(DamagedChunkError, match=r"here, chunk 1 \(rows from 16\) is missing"):
        reader[:]


@pytest.mark.parametrize("damage", ["of gigabytes", "huge blocks", "a packed size past its end"])
def test_a_header_takes_no_memory(tmp_path, damage):
    reader = PartReader(write(tmp_path, some_rows(40, 3), 16), "here")
    file = tmp_path / STATES / "c/1/0"
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedChunkError):
            reader[:]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_huge_file_is_not_read(tmp_path):
    reader = PartReader(write(tmp_path, some_rows(40, 3), 16), "here")
    with open(tmp_path / STATES / "c/1/0", "wb") as file:
        file.truncate(1 << 33)  # a hole, which takes no space
    with pytest.raises(DamagedChunkError, match="it has 8589934592 bytes, and chunks have 20 to"):
        reader[:]
