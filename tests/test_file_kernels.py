"""Files that are read and digested by one kernel: against Python's own reading."""

import os
import tempfile

import numpy as np
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorstate import file_kernels, intrinsics

PIECE = file_kernels.PIECE_BYTES
SIZES = st.one_of(
    st.integers(0, 300), st.sampled_from([PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17])
)


def read_by_python(content, room, start, digested):
    """The obvious twin: returns what the kernel does, and fills the room."""
    got = content[: len(room) - start]
    room[start : start + len(got)] = np.frombuffer(got, np.uint8)
    return start + len(got), xxhash.xxh3_64_intdigest(got[:digested])


@settings(max_examples=60, deadline=None)
@given(held=SIZES, wanted=SIZES, start=st.integers(0, 20), digested=SIZES, seed=st.integers(0, 99))
def test_a_file_is_read_and_digested_as_by_python(held, wanted, start, digested, seed):
    content = np.random.default_rng(seed).integers(0, 256, held, np.uint8).tobytes()
    expected, room = (np.zeros(start + wanted, np.uint8) for _ in range(2))
    told = read_by_python(content, expected, start, digested)
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(content)
        file.seek(0)
        filled, digest = file_kernels.read_digested(room, file.fileno(), start, digested)
        assert (filled, int(digest)) == told
        # What follows is read from there.
        assert file.tell() == filled - start
    np.testing.assert_array_equal(room, expected)


def test_what_cannot_be_read_ends_the_reading():
    room = np.full(100, 7, np.uint8)
    end, other_end = os.pipe()
    try:
        # This end of a pipe can only be written.
        filled, digest = file_kernels.read_digested(room, other_end, 10, 50)
    finally:
        os.close(end)
        os.close(other_end)
    assert filled == 10
    assert int(digest) == xxhash.xxh3_64_intdigest(b"")
    assert (room == 7).all()


def test_the_wheel_exports_what_digests_piece_by_piece():
    # Where it does not, threads that read wait for each other.
    assert intrinsics.HAS_XXH3_STREAM


def test_a_wheel_that_exports_nothing_of_the_kind_is_noticed():
    assert not intrinsics._export_xxh3(anything="XXH3_that_nobody_exports")
