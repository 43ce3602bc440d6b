import math
import pickle

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from tensorstate.bits import compress_states
from tensorstate.counting import StateHistogram, count_states
from tensorstate.counting.keys import mixed_hash
from tests.counting.limits import files
from tests.strategies import as_dict, count_by_hand, packed_states, reproducible, seeds


@pytest.fixture(params=[1, 5, 8, 13, 16, 24])
def rows(request):
    rng = np.random.default_rng(request.param)
    return rng.integers(0, 3, (4000, request.param), dtype=np.uint8)


def test_totals(rows):
    found = count_states(rows)
    assert found.total == len(rows)
    assert found.distinct == len(found.keys) == len(count_by_hand(rows))
    assert found.width == rows.shape[1]
    assert found.keys.dtype == np.uint64
    assert found.counts.dtype == found.first_rows.dtype == np.int64
    assert "StateHistogram" in repr(found)


@reproducible
@given(rows=packed_states(), cut=st.integers(0, 300))
def test_merge_adds_counts_and_keeps_the_smaller_first_row(rows, cut):
    cut = min(cut, len(rows))
    early = count_states(rows[:cut])
    late = count_states(rows[cut:])
    late = late.with_first_rows(late.first_rows + cut)
    whole = count_by_hand(rows)
    assert as_dict(early.merge(late), rows) == whole
    assert as_dict(late.merge(early), rows) == whole
    assert early.merge(late) == count_states(rows) == late.merge(early)


def test_histograms_of_different_widths_do_not_merge():
    one, two = count_states(np.zeros((1, 1), np.uint8)), count_states(np.zeros((1, 2), np.uint8))
    with pytest.raises(ValueError, match="of 1 and of 2 bytes cannot be merged"):
        one.merge(two)
    assert one != two


def test_equality_is_that_of_the_content(rows):
    found = count_states(rows)
    order = np.random.default_rng(0).permutation(found.distinct)
    shuffled = StateHistogram(
        found.keys[order], found.counts[order], found.first_rows[order], found.width
    )
    assert found == shuffled
    assert found != found.with_first_rows(found.first_rows + 1)
    counts = found.counts + (np.arange(found.distinct) == 0)
    assert found != StateHistogram(found.keys, counts, found.first_rows, found.width)
    assert found != "a histogram"


def test_sorted_is_by_mixed_hash(rows):
    hashes = mixed_hash(count_states(rows).sorted().keys)
    assert (hashes[1:] > hashes[:-1]).all()


def test_spectrum(rows):
    found = count_states(rows)
    times, states = found.spectrum()
    expected = np.unique(found.counts, return_counts=True)
    assert np.array_equal(times, expected[0])
    assert np.array_equal(states, expected[1])
    assert (times * states).sum() == found.total
    assert times.dtype == states.dtype == np.int64


def test_entropy():
    rows = np.repeat(np.arange(8, dtype=np.uint8), 5)[:, None]
    assert count_states(rows).entropy() == pytest.approx(3)
    assert count_states(rows).entropy(alpha=2) == pytest.approx(3)


def test_nothing_counted(tmp_path):
    fetch = lambda rows: np.zeros((0, 17), np.uint8)  # noqa: E731
    for width in (1, 8, 9, 17):
        found = count_states(np.zeros((0, width), np.uint8))
        assert (found.total, found.distinct, found.width) == (0, 0, width)
        assert found.keys.shape == ((0,) if width <= 8 else (0, 2))
        assert [part.tolist() for part in found.spectrum()] == [[], []]
        found.save(tmp_path / "nothing.zarr")
        assert StateHistogram.load(tmp_path / "nothing.zarr") == found == found.merge(found)
        assert found.packed_states(fetch).shape == (0, width)


def test_packed_states(rows):
    found = count_states(rows)
    states = found.packed_states(lambda numbers: rows[numbers])
    assert np.array_equal(states, rows[found.first_rows])
    stored = zarr.array(rows, store={}, chunks=(100, rows.shape[1]))
    assert np.array_equal(found.packed_states(stored.oindex.__getitem__), states)


def test_wide_states_are_fetched():
    rows = np.arange(60, dtype=np.uint8).reshape(3, 20)
    found = count_states(rows)
    with pytest.raises(ValueError, match="pass fetch"):
        found.packed_states()
    with pytest.raises(ValueError, match="row 0 does not hold the state"):
        found.packed_states(lambda numbers: rows[::-1][numbers])
    with pytest.raises(ValueError, match=r"of the shape \(3, 20\) was asked for"):
        found.packed_states(lambda numbers: rows[:1])


def test_arrays_do_not_change(rows):
    found = count_states(rows)
    for array in (found.keys, found.counts, found.first_rows):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_arrays_must_fit():
    with pytest.raises(ValueError, match=r"states of 8 bytes have the shapes \(2,\)"):
        StateHistogram(np.zeros((2, 2)), [1, 1], [0, 1], width=8)
    with pytest.raises(ValueError, match="bytes have the shapes"):
        StateHistogram([1, 2], [1, 1], [0], width=8)
    with pytest.raises(ValueError, match="at least one byte"):
        StateHistogram([], [], [], width=0)


def test_saved_and_loaded(rows, tmp_path):
    found = count_states(rows)
    found.save(tmp_path / "run.zarr", "layer/histogram")
    group = zarr.open_group(tmp_path / "run.zarr", mode="r")
    for loaded in (
        StateHistogram.load(tmp_path / "run.zarr", "layer/histogram"),
        StateHistogram.load(str(tmp_path / "run.zarr"), "layer/histogram"),
        StateHistogram.load(group["layer"], "histogram"),
        StateHistogram.load(group["layer/histogram"]),
    ):
        assert loaded == found
        assert np.array_equal(loaded.keys, found.sorted().keys)


def test_equal_histograms_give_equal_bytes(rows, tmp_path):
    count_states(rows).save(tmp_path / "one")
    by_parts = count_states(rows[:1000]).merge(
        (late := count_states(rows[1000:])).with_first_rows(late.first_rows + 1000)
    )
    by_parts.save(tmp_path / "two")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    by_parts.save(tmp_path / "one")
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_damage_is_found(tmp_path):
    found = count_states(np.random.default_rng(0).integers(0, 256, (5000, 8), dtype=np.uint8))
    store = tmp_path / "histogram.zarr"
    found.save(store)
    chunk = store / "counts" / "c" / "0"
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:10] + bytes([sound[10] ^ 1]) + sound[11:])
    with pytest.raises(ValueError, match="counts is damaged"):
        StateHistogram.load(store)
    chunk.unlink()
    with pytest.raises(ValueError, match="damaged"):
        StateHistogram.load(store)
    zarr.create_group(store, overwrite=True)
    with pytest.raises(ValueError, match="does not hold a complete histogram"):
        StateHistogram.load(store)
    with pytest.raises(FileNotFoundError):
        StateHistogram.load(tmp_path / "nowhere.zarr")
    zarr.open_group(store).attrs["tensorstate_histogram"] = {"format": 2}
    with pytest.raises(ValueError, match="format 2"):
        StateHistogram.load(store)


def test_it_travels(rows):
    found = count_states(rows)
    assert pickle.loads(pickle.dumps(found)) == found


@reproducible
@given(data=st.data(), seed=seeds)
def test_entropies_do_not_depend_on_the_order_of_rows_or_neurons(data, seed):
    rng = np.random.default_rng(seed)
    neurons, rows = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 200))
    fires = rng.random((rows, neurons)) < data.draw(st.sampled_from([0.02, 0.3]))
    other = fires[rng.permutation(rows)][:, rng.permutation(neurons)]
    one, two = (count_states(compress_states(some)) for some in (fires, other))
    for mine, theirs in zip(one.spectrum(), two.spectrum(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for alpha in (0, 1, 2, float("inf")):
        assert one.entropy(alpha) == two.entropy(alpha)
    assert 0 <= one.entropy() <= min(neurons, math.log2(rows)) + 1e-12
    half = rows // 2
    if half:
        parts = [count_states(compress_states(some)) for some in (fires[:half], fires[half:])]
        merged = parts[0].merge(parts[1].with_first_rows(lambda first: first + half))
        assert merged == one
