"""How often neurons fire, against sums over unpacked states."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorstate.bits import compress_states
from tensorstate.firing import cofiring_counts, firing_counts


def fires(rows, neurons, seed, rate=0.3):
    return np.random.default_rng(seed).random((rows, neurons)) < rate


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    rows=st.integers(0, 1200),
    neurons=st.integers(1, 200),
    seed=st.integers(0, 2**32 - 1),
    rate=st.sampled_from([0.0, 0.01, 0.5, 1.0]),
)
def test_counts_are_sums_of_unpacked_states(rows, neurons, seed, rate):
    unpacked = fires(rows, neurons, seed, rate)
    packed = compress_states(unpacked)
    found = firing_counts(packed, neurons)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, unpacked.sum(axis=0))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(rows=st.integers(0, 1200), neurons=st.integers(1, 100), seed=st.integers(0, 2**32 - 1))
def test_pairs_are_products_of_unpacked_states(rows, neurons, seed):
    unpacked = fires(rows, neurons, seed).astype(np.int64)
    found = cofiring_counts(compress_states(unpacked > 0), neurons)
    np.testing.assert_array_equal(found, unpacked.T @ unpacked)


@pytest.mark.parametrize("neurons", [20, 64, 513])
def test_any_strides_and_arrays_that_cannot_be_written(neurons):
    unpacked = fires(700, neurons, neurons)
    packed = compress_states(unpacked)
    wide = np.zeros((1400, 2 * packed.shape[1]), np.uint8)
    wide[::2, ::2] = packed
    fixed = packed.copy()
    fixed.flags.writeable = False
    for same in (np.asfortranarray(packed), wide[::2, ::2], packed[::-1], fixed):
        expected = unpacked.sum(axis=0)
        np.testing.assert_array_equal(firing_counts(same, neurons), expected)
        np.testing.assert_array_equal(np.diag(cofiring_counts(same, neurons)), expected)
    packed[0] ^= 1  # is not frozen by having been counted


def test_what_are_no_packed_states():
    packed = np.zeros((3, 2), np.uint8)
    for count in (firing_counts, cofiring_counts):
        with pytest.raises(
            ValueError, match=r"17 neurons have the shape \(rows, 3\), not \(3, 2\)"
        ):
            count(packed, 17)
        with pytest.raises(ValueError, match="of 0 neurons"):
            count(packed, 0)
        with pytest.raises(ValueError, match=r"not \(2,\)"):
            count(packed[0], 16)
        with pytest.raises(TypeError, match="are uint8, not int64"):
            count(packed.astype(np.int64), 16)
    with pytest.raises(ValueError, match="at most 4096 neurons, not of 5000"):
        cofiring_counts(np.zeros((1, 625), np.uint8), 5000)
