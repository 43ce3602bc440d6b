from itertools import pairwise

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from tensorstate.counting import count_states, sources
from tests.strategies import (
    as_dict,
    chunkings,
    count_by_hand,
    packed_states,
    reproducible,
)


class Reader:
    """What storage hands in: no array, but rows when sliced."""

    dtype = np.dtype(np.uint8)

    def __init__(self, rows, chunks=None):
        self.rows, self.shape = rows, rows.shape
        if chunks:
            self.chunks = chunks

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        return self.rows[rows]


@pytest.fixture
def small_blocks(monkeypatch):
    """Make many tasks of little data."""
    monkeypatch.setattr(sources, "BLOCK_ROWS", 4000)


@reproducible
@given(data=st.data())
def test_counts_are_those_of_the_oracle(data):
    rows = data.draw(packed_states())
    width = rows.shape[1]
    lengths = data.draw(chunkings(len(rows)))
    edges = np.cumsum([0, *lengths])
    pieces = [rows[a:b] for a, b in pairwise(edges)]
    chunk = data.draw(st.integers(1, len(rows)))
    states = data.draw(
        st.sampled_from(
            [
                rows,
                pieces,
                np.asfortranarray(rows),
                zarr.array(rows, chunks=(chunk, width), store={}),
                da.from_array(rows, chunks=(lengths, -1)),
                da.from_array(rows, chunks=(chunk, max(width // 2, 1))),
                Reader(rows, chunks=(chunk, width)),
                [Reader(piece) for piece in pieces],
                [pieces[0], zarr.array(rows[edges[1] :], chunks=(chunk, width), store={})],
            ]
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "BLOCK_ROWS", data.draw(st.integers(1, 400)))
        found = count_states(states)
    assert as_dict(found, rows) == count_by_hand(rows)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
def test_schedulers(scheduler, rows, small_blocks):
    expected = count_by_hand(rows)
    with dask.config.set(scheduler=scheduler, num_workers=2):
        for states in (
            rows,
            zarr.array(rows, chunks=(1000, 12), store={}),
            da.from_array(rows, chunks=(2500, -1)),
            [rows[:10_000], Reader(rows[10_000:])],
        ):
            assert as_dict(count_states(states), rows) == expected


def test_counting_again_gives_the_same_order(rows, small_blocks):
    with dask.config.set(scheduler="threads", num_workers=4):
        counted = [count_states(rows) for _ in range(5)]
    for other in counted[1:]:
        assert np.array_equal(other.keys, counted[0].keys)
        assert np.array_equal(other.first_rows, counted[0].first_rows)


def test_an_unknown_scheduler_is_refused(rows):
    with (
        dask.config.set(scheduler="abacus"),
        pytest.raises(ValueError, match="Expected one of"),
    ):
        count_states(rows)


def test_rows_of_128_kib():
    rows = np.zeros((50, 131_072), np.uint8)
    rows[np.arange(50), np.arange(50) % 20 * 6000] = 1
    assert as_dict(count_states(rows), rows) == count_by_hand(rows)


def test_the_columns_of_a_dask_array_may_be_chunked(rows):
    found = count_states(da.from_array(rows, chunks=(7000, 5)))
    assert as_dict(found, rows) == count_by_hand(rows)


def test_an_error_of_a_source_is_raised(small_blocks):
    class Broken(Reader):
        def __getitem__(self, rows):
            raise OSError("chunk 3 of part-a fails its checksum")

    with pytest.raises(OSError, match="chunk 3 of part-a"):
        count_states(Broken(np.zeros((10_000, 4), np.uint8)))
