"""Rows that threads claim while they count: each exactly once, whoever is slow."""

from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorstate.counting import blocks, claims, count_states, sources
from tensorstate.counting.claims import Claims, Turn
from tensorstate.counting.histogram import StateHistogram
from tensorstate.counting.pieces import merged
from tests.strategies import as_dict, count_by_hand, packed_states, reproducible


@pytest.fixture(autouse=True, scope="module")
def few_at_once():
    """Let threads claim few rows at a time, also of the few that there are."""
    with patch.object(claims, "LEAST_AT_ONCE", 1):
        yield


def cut(rows, most_rows):
    """Cut arrays into blocks; large ones are not asked for, so that there are several."""
    return sources.cut(rows, 1, in_process=True, most_rows=most_rows)[0]


@reproducible
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    threads=st.integers(1, 4),
    data=st.data(),
)
def test_every_row_is_claimed_once_and_in_order(lengths, threads, data):
    every = np.arange(sum(lengths), dtype=np.uint8)[:, None]
    arrays = np.split(every, np.cumsum(lengths)[:-1])
    shared = Claims(cut(arrays, 16), 1, threads)
    turns = [(turn, iter(turn)) for turn in (Turn(shared) for _ in range(threads))]
    found = [[] for _ in turns]
    going = set(range(threads))
    while going:
        number = data.draw(st.sampled_from(sorted(going)))
        turn, batches = turns[number]
        batch = next(batches, None)
        if batch is None:
            going.remove(number)
            if shared.left:
                turn = Turn(shared)
                turns[number] = (turn, iter(turn))
                going.add(number)
            continue
        row, rows = batch
        np.testing.assert_array_equal(rows[:, 0], np.arange(row, row + len(rows)))
        found[number] += rows[:, 0].tolist()
        if data.draw(st.integers(0, 3)) == 0:
            assert turn.rows_from(row + len(rows)) >= 0
    assert sorted(row for rows in found for row in rows) == every[:, 0].tolist()
    assert all(rows == sorted(rows) for rows in found)


@reproducible
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5), after=st.integers(0, 5))
def test_a_turn_keeps_to_the_number_of_rows_that_it_settled(lengths, after):
    arrays = np.split(np.zeros((sum(lengths), 2), np.uint8), np.cumsum(lengths)[:-1])
    turn = Turn(Claims(cut(arrays, 16), 2, 2))
    settled = None
    for batch, (row, rows) in enumerate(turn):
        if settled is not None:
            settled -= len(rows)
        elif batch == after:
            settled = turn.rows_from(row) - len(rows)
    assert settled in (None, 0)


@reproducible
@given(rows=packed_states(), threads=st.integers(1, 4), bits=st.integers(0, 4))
def test_threads_that_claim_rows_count_them_all(rows, threads, bits):
    shared = Claims(cut(rows, 50), rows.shape[1], threads)
    with ThreadPoolExecutor(threads) as pool:
        counted = pool.map(lambda _: blocks.count_claims(shared, bits), range(threads))
        pieces = [piece for some in counted for piece in some]
    assert as_dict(StateHistogram(*merged(pieces), rows.shape[1]), rows) == count_by_hand(rows)


def test_states_that_are_new_at_first_and_come_back_later():
    rng = np.random.default_rng(11)
    new = rng.integers(0, 256, (300_000, 8), dtype=np.uint8)
    known = new[rng.integers(0, 1000, 700_000)]
    for rows in (np.concatenate([new, known]), np.concatenate([known, new])):
        with (
            dask.config.set(scheduler="threads", num_workers=3),
            patch.object(
                claims.Claims, "claim_share", autospec=True, side_effect=claims.Claims.claim_share
            ) as shares,
        ):
            histogram = count_states(rows)
        assert shares.called
        with dask.config.set(scheduler="sync"):
            assert histogram == count_states(rows)


class Chunks:
    """Rows that are read chunk by chunk, as those on a local disk are."""

    dtype = np.dtype(np.uint8)
    is_read_by_chunk = True

    def __init__(self, rows, chunk):
        self.shape, self.chunks, self.rows = rows.shape, (chunk, rows.shape[1]), rows
        self.read = []

    def read_batches(self, start, stop, at_once, kept):
        kept.setdefault("calls", []).append((start, stop))
        self.read.append((start, stop))
        for begin in range(start, stop, self.chunks[0]):
            yield self.rows[begin : min(begin + self.chunks[0], stop)]


@reproducible
@given(rows=packed_states(), threads=st.integers(1, 4), chunk=st.integers(1, 30))
def test_chunks_are_claimed_as_a_whole(rows, threads, chunk):
    source = Chunks(rows, chunk)
    assert Claims.suit(cut(source, 50))
    shared = Claims(cut(source, 50), rows.shape[1], threads)
    with ThreadPoolExecutor(threads) as pool:
        counted = pool.map(lambda _: blocks.count_claims(shared, 2), range(threads))
        pieces = [piece for some in counted for piece in some]
    assert as_dict(StateHistogram(*merged(pieces), rows.shape[1]), rows) == count_by_hand(rows)
    assert all(
        start % chunk == 0 and stop % chunk in (0, len(rows) % chunk) for start, stop in source.read
    )
    assert (
        sorted(start for start, _ in source.read)[1:]
        == sorted(stop for _, stop in source.read)[:-1]
    )


def test_a_turn_lets_sources_keep_what_is_slow_to_get():
    source = Chunks(np.zeros((100, 1), np.uint8), 10)
    turn = Turn(Claims(cut(source, 50), 1, 1))
    assert sum(len(rows) for _, rows in turn) == 100
    # A quarter of what is left at a time, in whole chunks.
    assert source.read == [(0, 30), (30, 50), (50, 70), (70, 80), (80, 90), (90, 100)]
    assert turn._kept["calls"] == source.read


def test_claims_are_many_rows_at_first_and_few_at_the_end():
    rows = np.broadcast_to(np.uint8(0), (4_000_000, 8))
    sizes = []
    with patch.object(claims, "LEAST_AT_ONCE", 1 << 16):
        shared = Claims(cut(rows, None), 8, 2)
        while shared.left:
            sizes.append(shared.claim().rows)
    assert sum(sizes) == len(rows)
    assert sizes[0] == 1 << 18
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)
    assert sizes[-2] == 1 << 16 >= sizes[-1]


def test_rows_that_come_from_files_are_not_claimed(tmp_path):
    rows = np.zeros((100, 3), np.uint8)
    np.save(tmp_path / "rows.npy", rows)
    assert Claims.suit(cut(rows, 50))
    assert not Claims.suit(cut([rows, np.load(tmp_path / "rows.npy", mmap_mode="r")], 50))
