"""Histograms that stay where they were saved, because they are larger than memory."""

import gc
import json
import pickle
import shutil
import tracemalloc
from itertools import pairwise

import dask
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster
from hypothesis import given
from hypothesis import strategies as st

from tensorstate.counting import StateHistogram, count_states, saving
from tests.counting.limits import files
from tests.strategies import packed_states, reproducible

CHUNK = 100
LIMIT = 1000


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(saving, "CHUNK_ENTRIES", CHUNK)


@pytest.fixture(params=[3, 13, 40])
def whole(request):
    rng = np.random.default_rng(request.param)
    rows = rng.integers(0, 256, (2000, request.param), dtype=np.uint8)
    return count_states(rows[rng.integers(0, 1500, 2500)])


@pytest.fixture
def saved(whole, small_chunks, tmp_path):
    whole.save(tmp_path / "saved")
    return tmp_path / "saved"


def load(path, **options):
    found = StateHistogram.load(path, memory_limit=LIMIT, **options)
    assert found.is_stored
    return found


def test_what_is_larger_than_a_quarter_of_the_limit_stays_where_it_is(saved, whole):
    size = whole.distinct * (24 if whole.width <= 8 else 32)
    assert not StateHistogram.load(saved).is_stored
    assert not StateHistogram.load(saved, memory_limit=4 * size).is_stored
    assert StateHistogram.load(saved, memory_limit=4 * size - 1).is_stored
    with dask.config.set({"tensorstate.memory-limit": "1 kB"}):
        assert StateHistogram.load(saved).is_stored
    with pytest.raises(ValueError, match="memory_limit is 'little', not a number of bytes"):
        StateHistogram.load(saved, memory_limit="little")


def test_it_is_the_same_histogram(saved, whole, tmp_path):
    for found in (load(saved), load(saved, verify=True), pickle.loads(pickle.dumps(load(saved)))):
        assert found.is_stored
        assert found.sorted() is found
        assert (found.total, found.distinct) == (whole.total, whole.distinct)
        assert repr(found) == repr(whole)
        for some, expected in zip(found.spectrum(), whole.spectrum(), strict=True):
            assert np.array_equal(some, expected)
            assert some.dtype == expected.dtype
        assert found.entropy(2) == whole.entropy(2)
        assert found == whole == found
        in_order = whole.sorted()
        expected = (in_order.keys, in_order.counts, in_order.first_rows)
        arrays = (found.keys, found.counts, found.first_rows)
        for array, lazy, some in zip(arrays, found.to_dask(), expected, strict=True):
            assert np.array_equal(array, some)
            assert (lazy.shape, lazy.dtype) == (some.shape, some.dtype)
            assert lazy.chunks[0] == tuple(np.diff([*range(0, whole.distinct, CHUNK), len(some)]))
            assert np.array_equal(lazy.compute(scheduler="threads"), some)
        found.save(tmp_path / "again")
        assert files(tmp_path / "again") == files(saved)
    assert found != whole.with_first_rows(whole.first_rows + 1)


def test_the_spectrum_cannot_be_changed_from_outside(saved, whole):
    found = load(saved)
    found.spectrum()[1][:] = 0
    assert found.entropy() == pytest.approx(whole.entropy(), rel=1e-12)


def test_other_first_rows_are_made_when_they_are_read(saved, whole, tmp_path):
    moved = load(saved).with_first_rows(lambda rows: rows + 7)
    assert moved.is_stored
    assert moved == whole.with_first_rows(whole.first_rows + 7)
    assert moved == whole.with_first_rows(lambda rows: rows + 7)
    assert moved.sorted() == moved
    assert np.array_equal(moved.spectrum(), whole.spectrum())
    moved.save(tmp_path / "moved")
    assert StateHistogram.load(tmp_path / "moved") == moved
    with pytest.raises(ValueError, match="it must return one number for each"):
        load(saved).with_first_rows(lambda rows: rows[1:]).keys  # noqa: B018
    with pytest.raises(ValueError, match="it must return one number for each"):
        whole.with_first_rows(lambda rows: rows[1:])


def test_other_first_rows_of_what_was_counted_in_files(rows, tmp_path, tiny):
    found = count_states(rows, memory_limit=50_000, spill=tmp_path)
    moved = found.with_first_rows(lambda numbers: 2 * numbers)
    assert moved.is_stored
    del found
    gc.collect()
    whole = count_states(rows)
    assert moved == whole.with_first_rows(2 * whole.first_rows)
    assert moved.sorted() == moved
    assert pickle.loads(pickle.dumps(moved)) == moved
    del moved
    gc.collect()
    assert not list(tmp_path.iterdir())


@reproducible
@given(rows=packed_states(), chunk=st.integers(1, 80))
def test_any_histogram_in_any_chunks(rows, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "CHUNK_ENTRIES", chunk)
        whole, store = count_states(rows), {}
        whole.save(store)
        found = StateHistogram.load(store, memory_limit=1, verify=True)
    assert found.is_stored
    assert found == whole
    assert np.array_equal(found.spectrum(), whole.spectrum())


def test_no_more_than_chunks_are_read(tmp_path):
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**64, (1 << 21, 2), dtype=np.uint64)
    StateHistogram(keys, np.arange(1, 1 + len(keys)) % 1000 + 1, np.arange(len(keys)), 16).save(
        tmp_path / "saved"
    )
    del keys
    tracemalloc.start()
    try:
        found = StateHistogram.load(tmp_path / "saved", memory_limit="64 MiB")
        assert found.is_stored
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
        found.save(tmp_path / "again")
        assert found == StateHistogram.load(tmp_path / "again", memory_limit=1)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_it_travels_to_workers_as_a_path(saved, whole):
    assert len(pickle.dumps(load(saved))) < len(pickle.dumps(whole))
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        found = load(saved)
        there = client.submit(lambda some: (some.is_stored, some.entropy()), found).result()
        assert there == (True, found.entropy())
        counts = found.to_dask()[1]
        assert int(counts.sum().compute()) == whole.total


def test_it_is_not_saved_onto_itself(saved, whole, tmp_path, monkeypatch):
    found = load(saved)
    before = files(tmp_path)
    monkeypatch.chdir(tmp_path)
    for target in (saved, "saved", zarr.open_group(saved), tmp_path, tmp_path / "x" / ".."):
        for some in (found, found.with_first_rows(lambda rows: rows)):
            with pytest.raises(ValueError, match="cannot be replaced, because this histogram is"):
                some.save(target)
    assert files(tmp_path) == before
    found.save(tmp_path / "saved-2")
    StateHistogram.load(saved).save(saved)
    assert load(saved) == whole
    store = {}
    whole.save(store, "a")
    found = StateHistogram.load(store, "a", memory_limit=1)
    with pytest.raises(ValueError, match="cannot be replaced"):
        found.save(store, "a")
    found.save(store, "ab")
    assert StateHistogram.load(store, "ab") == whole


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [flip, cut, empty, lambda path: path.unlink()])
@pytest.mark.parametrize("name", saving.NAMES)
def test_damage_is_found_when_it_is_read(saved, name, harm):
    keep = load(saved)
    tail = "0" if (saved / "keys" / "c" / "3" / "0").exists() and name == "keys" else ""
    harm(saved / name / "c" / "3" / tail)
    says = f"saved/{name} is damaged: chunk 3.*: count again"
    with pytest.raises(ValueError, match=says):
        StateHistogram.load(saved)
    with pytest.raises(ValueError, match=says):
        load(saved, verify=True)
    with pytest.raises(ValueError, match=says):
        keep.sorted().keys  # noqa: B018
    if name == "counts":
        with pytest.raises(ValueError, match=says):
            load(saved)
    else:
        assert load(saved).total == keep.total


def swap(first, second):
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def as_before_digests(saved):
    """Make a histogram what earlier versions saved: without digests and a checksum."""

    def forget(document):
        del document["attributes"]["checksum"]
        del document["attributes"]["tensorstate_histogram"]["digests"]

    edit(saved / "zarr.json", forget)


def test_histograms_of_earlier_versions_are_read(saved, whole):
    as_before_digests(saved)
    assert load(saved) == whole
    assert StateHistogram.load(saved) == whole


@pytest.mark.parametrize("name", saving.NAMES)
def test_a_whole_chunk_in_the_place_of_another_is_damage(saved, name):
    keep = load(saved)
    chunks = [saved / name / "c" / number for number in "12"]
    swap(*(chunk if chunk.is_file() else chunk / "0" for chunk in chunks))
    says = f"saved/{name} is damaged: chunk 1 is whole, but not the one that was saved"
    with pytest.raises(ValueError, match=says):
        StateHistogram.load(saved)
    with pytest.raises(ValueError, match=says):
        load(saved, verify=True)
    with pytest.raises(ValueError, match=says):
        keep.sorted().keys  # noqa: B018


@pytest.mark.parametrize("options", [{}, {"memory_limit": LIMIT, "verify": True}])
def test_chunks_in_another_order_are_found_without_digests(saved, options):
    as_before_digests(saved)
    for name in saving.NAMES:
        chunks = [saved / name / "c" / number for number in "12"]
        swap(*(chunk if chunk.is_file() else chunk / "0" for chunk in chunks))
    with pytest.raises(ValueError, match="saved is damaged: its entries are not in canonical"):
        StateHistogram.load(saved, **options)


def test_a_histogram_that_was_replaced_after_it_was_loaded(saved, whole):
    found = load(saved)
    StateHistogram(whole.keys, whole.counts + 1, whole.first_rows, whole.width).save(saved)
    with pytest.raises(ValueError, match="was changed after it was loaded: load it again"):
        found.keys  # noqa: B018
    shutil.rmtree(saved)
    with pytest.raises(ValueError, match="chunk 0 is missing"):
        found == whole  # noqa: B015


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("", {"distinct": 5}, "of the shape"),
        ("", {"distinct": 10**18, "total": 10**18}, "of the shape"),
        ("", {"distinct": -1}, "of itself"),
        ("", {"total": 1}, "of itself"),
        ("", {"total": 10**9}, "attributes with the checksum"),
        ("", {"total": "many"}, "of itself"),
        ("", {"width": None}, "of itself"),
        ("", {"width": 0}, "of itself"),
        ("counts", {"shape": [10**15]}, "its shape is"),
        ("counts", {"shape": [10**14]}, "of the shape"),
        ("counts", {"data_type": "uint64"}, "should be int64"),
        ("first_rows", {"data_type": "int32"}, "should be int64"),
        ("counts", ("chunk_shape", [50]), "chunks of different lengths"),
        ("counts", ("chunk_shape", [10**12]), "have more than 67108864 bytes"),
        ("counts", ("chunk_shape", [10**6]), "should have chunks of at most 262144 entries"),
        ("keys", {"node_type": "group"}, "saved/keys is damaged"),
        ("keys", {"codecs": 3}, "saved/keys is damaged"),
    ],
)
@pytest.mark.parametrize("limit", [LIMIT, "1 GiB"])
def test_metadata_are_not_believed(saved, name, change, says, limit):
    def apply(document):
        if isinstance(change, tuple):
            document["chunk_grid"]["configuration"][change[0]] = change[1]
        elif name:
            document.update(change)
        else:
            document["attributes"]["tensorstate_histogram"].update(change)

    edit(saved / name / "zarr.json", apply)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=says) as damaged:
            StateHistogram.load(saved, memory_limit=limit)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert "is damaged" in str(damaged.value)


def test_all_metadata_that_claim_far_too_much(saved):
    as_before_digests(saved)
    for name in ("", *saving.NAMES):
        edit(
            saved / name / "zarr.json",
            lambda document, name=name: (
                document.update(shape=[10**14, *document["shape"][1:]])
                if name
                else document["attributes"]["tensorstate_histogram"].update(
                    distinct=10**14, total=10**14
                )
            ),
        )
    with pytest.raises(ValueError, match="saved/counts is damaged: chunk"):
        StateHistogram.load(saved)


def test_counts_below_one_are_damage(tmp_path):
    StateHistogram([1, 2, 3], [3, 0, 1], [0, 1, 2], 8).save(tmp_path / "saved")
    for limit in (None, 1):
        with pytest.raises(ValueError, match="each seen at least once, not of 4 and 0 times"):
            StateHistogram.load(tmp_path / "saved", memory_limit=limit)


def test_keys_of_equal_hashes_are_in_canonical_order():
    from tensorstate.counting.loading import is_canonical

    keys = count_states(np.random.default_rng(0).integers(0, 256, (500, 12), np.uint8)).keys
    whole = StateHistogram(keys, np.ones(500), np.arange(500), 12).sorted().keys
    assert is_canonical(whole)
    assert is_canonical(whole[:1])
    assert is_canonical(whole[:0])
    assert not is_canonical(whole[::-1])
    assert not is_canonical(np.concatenate([whole, whole[-1:]]))
    # Both products are zero where a word is the constant that is mixed in.
    same = np.array([(0xD6E8FEB86659FD93, number) for number in range(5)], np.uint64)
    assert is_canonical(same)
    assert not is_canonical(same[[0, 2, 1]])
    assert not is_canonical(same[[0, 1, 1]])
    for a, b in pairwise(range(5)):
        assert is_canonical(same[[a, b]])
