"""Memory that begins with a page."""

import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorstate.counting.pages import BLOCK, HUGE, blocks
from tensorstate.counting.pieces import empty_room
from tests.strategies import reproducible


@reproducible
@given(st.integers(0, 3 * HUGE))
def test_it_is_large_enough_and_zeroed(size):
    memory = blocks(size)
    assert size <= len(memory) < size + BLOCK + (size == 0)
    assert len(memory) % BLOCK == memory.ctypes.data % BLOCK == 0
    assert not memory.any()
    memory[:] = 1
    assert memory.all()


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="the system has no huge pages")
def test_large_memory_begins_with_a_huge_page():
    assert blocks(HUGE).ctypes.data % HUGE == 0
    assert blocks(5 * HUGE + 1).ctypes.data % HUGE == 0


def test_memory_outlives_what_cut_it():
    views = [blocks(HUGE)[1000:2000] for _ in range(20)]
    for number, view in enumerate(views):
        view[:] = number
    assert [set(view.tolist()) for view in views] == [{number} for number in range(20)]


@reproducible
@given(st.integers(0, HUGE // 4), st.sampled_from([1, 2]), st.sampled_from([np.int64, np.uint32]))
def test_a_room_has_three_arrays_that_do_not_overlap(size, words, dtype):
    keys, counts, rows = empty_room(size, words, dtype)
    assert keys.shape == ((size,) if words == 1 else (size, 2))
    assert counts.shape == rows.shape == (size,)
    assert (keys.dtype, counts.dtype, rows.dtype) == (np.uint64, dtype, dtype)
    keys[:], counts[:], rows[:] = 1, 2, 3
    for number, array in enumerate((keys, counts, rows), 1):
        assert (array == number).all()
