import dask.array as da
import numpy as np
import pytest
import zarr

from tensorstate.counting import count_states, sources
from tensorstate.counting.sources import cut, read


def lengths(blocks):
    return [sum(span.stop - span.start for span in block.spans) for block in blocks]


def test_blocks_are_whole_chunks(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_ROWS", 250)
    stored = zarr.create_array(shape=(1050, 4), chunks=(100, 2), dtype="uint8", store={})
    blocks, rows, width = cut(stored, 1, in_process=True, most_rows=250)
    assert (rows, width) == (1050, 4)
    assert lengths(blocks) == [200, 200, 200, 200, 250]
    assert [block.first_row for block in blocks] == [0, 200, 400, 600, 800]
    assert all(block.spans[0].source is stored for block in blocks)
    assert {block.spans[0].step % 100 for block in blocks} == {0}


@pytest.mark.parametrize(
    ("rows", "threads", "expected"),
    [(1000, 2, [500, 500]), (1001, 2, [600, 401]), (950, 4, [300, 300, 300, 50]), (90, 4, [90])],
)
def test_whole_chunks_do_not_make_more_blocks(monkeypatch, rows, threads, expected):
    monkeypatch.setattr(sources, "LEAST_ROWS", 1)
    stored = zarr.create_array(shape=(rows, 4), chunks=(100, 4), dtype="uint8", store={})
    assert lengths(cut(stored, threads, in_process=True)[0]) == expected


def test_shards_are_not_divided(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_ROWS", 250)
    stored = zarr.create_array(
        shape=(1000, 4), chunks=(100, 4), shards=(500, 4), dtype="uint8", store={}
    )
    assert lengths(cut(stored, 1, in_process=True)[0]) == [500, 500]


def test_small_arrays_share_a_block(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_ROWS", 250)
    arrays = [np.zeros((rows, 3), np.uint8) for rows in (100, 0, 100, 100, 600, 1)]
    blocks, rows, _ = cut(arrays, 1, in_process=True)
    assert rows == 901
    assert lengths(blocks) == [200, 100, 250, 250, 101]
    assert [block.first_row for block in blocks] == [0, 200, 300, 550, 800]


def test_wide_rows_make_short_blocks():
    wide = np.broadcast_to(np.uint8(0), (3 * sources.BLOCK_BYTES // 4096, 4096))
    assert max(lengths(cut(wide, 1, in_process=True)[0])) == sources.BLOCK_BYTES // 4096


def test_there_is_a_block_for_every_thread():
    rows = np.broadcast_to(np.uint8(0), (4_000_000, 4))
    assert lengths(cut(rows, 1, in_process=True)[0]) == [4_000_000]
    assert lengths(cut(rows, 4, in_process=True)[0]) == [1_000_000] * 4
    assert max(lengths(cut(rows, 1000, in_process=True)[0])) == sources.LEAST_ROWS


def test_the_number_of_blocks_is_bounded():
    many = np.broadcast_to(np.uint8(0), (1 << 34, 1))
    assert len(cut(many, 1, in_process=True)[0]) <= sources.MOST_BLOCKS


def test_a_store_in_memory_does_not_travel():
    stored = zarr.array(np.ones((10, 2), np.uint8), chunks=(3, 2), store={})
    assert cut(stored, 1, in_process=True)[0][0].spans[0].source is stored
    assert isinstance(cut(stored, 1, in_process=False)[0][0].spans[0].source, np.ndarray)


def test_reading_gives_all_rows(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_ROWS", 300)
    monkeypatch.setattr(sources, "READ_BYTES", 500)
    rows = np.random.default_rng(0).integers(0, 256, (1000, 3), dtype=np.uint8)
    stored = zarr.array(rows, chunks=(70, 3), store={})
    blocks, _, width = cut([stored, rows], 1, in_process=True)
    found = [part for block in blocks for part in read(block, width)]
    assert np.array_equal(np.concatenate(found), np.concatenate([rows, rows]))


class Liar:
    """Claims more rows than it gives."""

    shape, dtype = (10, 2), np.dtype(np.uint8)

    def __getitem__(self, rows):
        return np.zeros((3, 2), np.uint8)


def test_a_source_that_gives_something_else_is_refused():
    (block,), _, width = cut(Liar(), 1, in_process=True)
    with pytest.raises(ValueError, match=r"rows 0 to 10 of Liar came back as .* \(3, 2\)"):
        list(read(block, width))


class Reusing:
    """Gives rows in batches, each where the one before it was."""

    dtype = np.dtype(np.uint8)

    def __init__(self, rows, at_once, missing=0):
        self.shape, self.rows, self.at_once, self.missing = rows.shape, rows, at_once, missing

    def read_batches(self, start, stop, at_once, kept=None):
        room = np.empty((self.at_once, self.rows.shape[1]), np.uint8)
        for begin in range(start, stop - self.missing, self.at_once):
            batch = self.rows[begin : min(begin + self.at_once, stop)]
            room[: len(batch)] = batch
            yield room[: len(batch)]
            room[:] = 255


@pytest.mark.parametrize("distinct", [50, 1 << 30])
@pytest.mark.parametrize("width", [1, 2, 5, 8, 13, 16, 20])
def test_counting_is_done_with_a_batch_before_the_next(width, distinct):
    rng = np.random.default_rng(width)
    pool = rng.integers(0, 256, (min(distinct, 300_000), width), np.uint8)
    rows = pool[rng.integers(0, len(pool), 300_000)]
    assert count_states(Reusing(rows, 30_001)) == count_states(rows)


@pytest.mark.parametrize(
    ("width", "missing", "message"),
    [
        (2, 3, "rows 8 to 10 of Reusing did not come"),
        (3, 0, r"rows 0 to 4 of Reusing came back as .* \(4, 2\), not as uint8 of .* \(4, 3\)"),
    ],
)
def test_batches_of_something_else_are_refused(width, missing, message):
    source = Reusing(np.zeros((10, 2), np.uint8), 4, missing)
    source.shape = (10, width)
    (block,), _, width = cut(source, 1, in_process=True)
    with pytest.raises(ValueError, match=message):
        list(read(block, width))


def test_more_batches_than_were_claimed_are_refused():
    source = Reusing(np.zeros((10, 2), np.uint8), 4)
    source.read_batches = lambda *_: Reusing.read_batches(source, 0, 14, 0)
    source.rows = np.zeros((14, 2), np.uint8)
    (block,), _, width = cut(source, 1, in_process=True)
    with pytest.raises(ValueError, match=r"rows 8 to 10 of Reusing came back as .* \(4, 2\)"):
        list(read(block, width))


@pytest.mark.parametrize(
    ("states", "error", "message"),
    [
        (np.zeros((3, 2)), TypeError, "states has the type float64, not uint8"),
        (np.zeros((3, 2), bool), TypeError, "not uint8: pack activations"),
        ([np.zeros((3, 2), np.uint8), np.zeros((3, 2), np.int8)], TypeError, r"states\[1\] has"),
        ("a run", TypeError, "states is a str, not an array"),
        ([[1, 2], [3, 4]], TypeError, r"states\[0\] is a list, not an array"),
        (np.zeros(3, np.uint8), ValueError, r"shape \(3,\)"),
        (np.zeros((3, 2, 2), np.uint8), ValueError, r"shape \(3, 2, 2\)"),
        (np.zeros((3, 0), np.uint8), ValueError, "rows of zero bytes"),
        ([], ValueError, "the list of arrays is empty"),
        (
            [np.zeros((3, 2), np.uint8), np.zeros((3, 3), np.uint8)],
            ValueError,
            r"states\[1\] has rows of 3 bytes and states\[0\] of 2",
        ),
    ],
)
def test_what_cannot_be_counted(states, error, message):
    with pytest.raises(error, match=message):
        cut(states, 1, in_process=True)


def test_dask_chunks_of_unknown_sizes():
    rows = da.from_array(np.zeros((10, 2), np.uint8), chunks=(5, 2))
    with pytest.raises(ValueError, match=r"call compute_chunk_sizes\(\)"):
        cut(rows[rows[:, 0] == 0], 1, in_process=True)
