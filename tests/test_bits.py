"""Packing and unpacking against the slow, obvious twin: np.packbits of a comparison."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tensorstate.bits import compress_states, decompress_states, pack_states, packed_width

FLOATS = [np.float16, np.float32, np.float64, ml_dtypes.bfloat16]
OTHERS = [np.bool_, np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64]


def obvious(x, threshold=0.0):
    if x.dtype.kind in "fV":
        threshold = x.dtype.newbyteorder("=").type(threshold)
    return np.packbits(x > threshold, axis=-1, bitorder="little")


@st.composite
def activations(draw):
    """Arrays of every dtype, of one to four axes, with zeros, NaN and infinities among them."""
    dtype = draw(st.sampled_from(FLOATS + OTHERS))
    leading = draw(st.lists(st.integers(0, 5), min_size=0, max_size=3))
    neurons = draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.normal(scale=2, size=(*leading, neurons))
    special = [0.0, -0.0, np.nan, np.inf, -np.inf, 0.1]
    mask = rng.random(values.shape) < 0.3
    values[mask] = rng.choice(special, size=int(mask.sum()))
    if np.dtype(dtype).kind not in "fV":
        values = np.nan_to_num(values, posinf=100, neginf=-100)
    with np.errstate(invalid="ignore"):
        return values.astype(dtype)


def layouts(x):
    """Return the same values in several memory layouts."""
    yield x
    yield np.asfortranarray(x)
    yield x[..., ::-1].copy()[..., ::-1]
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2] = x
    yield wide[..., ::2]
    if x.dtype.kind in "fiu":
        yield x.astype(x.dtype.newbyteorder(">"))
    fixed = x.copy()
    fixed.flags.writeable = False
    yield fixed


@settings(max_examples=300, deadline=None, derandomize=True)
@given(activations(), st.sampled_from([0.0, 0.1, -1.0, 2.5]))
def test_packing_equals_packbits(x, threshold):
    expected = obvious(x, threshold)
    for same in layouts(x):
        packed, nans = pack_states(same, threshold)
        np.testing.assert_array_equal(packed, expected)
        assert nans == np.count_nonzero(x != x)
    assert packed.dtype == np.uint8


@settings(max_examples=200, deadline=None, derandomize=True)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=40)))
def test_unpacking_gives_back_what_was_packed(fires):
    packed = compress_states(fires)
    assert packed.shape == (*fires.shape[:-1], packed_width(fires.shape[-1]))
    np.testing.assert_array_equal(decompress_states(packed, fires.shape[-1]), fires)


@pytest.mark.parametrize("neurons", range(1, 140))
def test_every_number_of_neurons(neurons):
    rng = np.random.default_rng(neurons)
    x = rng.normal(size=(37, neurons)).astype(np.float32)
    np.testing.assert_array_equal(compress_states(x), obvious(x))
    np.testing.assert_array_equal(compress_states(x.astype(float)), obvious(x))


def test_arrays_larger_than_a_block_in_a_strange_layout():
    x = np.random.default_rng(3).normal(size=(3, 700, 50, 20)).astype(np.float32)
    turned = x.transpose(1, 3, 0, 2)
    np.testing.assert_array_equal(compress_states(turned), obvious(turned))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_channels_that_come_before_positions(data):
    neurons = data.draw(st.integers(1, 100))
    high, wide = (data.draw(st.integers(1, 9) | st.integers(20, 40)) for _ in range(2))
    dtype = data.draw(st.sampled_from([np.float32, np.float64, np.float16]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = rng.normal(size=(3, neurons, high, wide)).astype(dtype)
    x[rng.random(x.shape) < 0.05] = np.nan
    limits = data.draw(st.sampled_from([0.0, 0.1, rng.normal(size=neurons)]))
    last = np.moveaxis(x, 1, -1)
    packed, nans = pack_states(last, limits)
    expected = np.packbits(last > np.asarray(limits).astype(dtype), axis=-1, bitorder="little")
    np.testing.assert_array_equal(packed, expected)
    assert nans == np.count_nonzero(np.isnan(x))


def test_zero_and_nan_do_not_fire_and_nan_is_counted():
    x = np.array([[0.0, -0.0, np.nan, 1e-45, np.inf, -np.inf]], np.float32)
    packed, nans = pack_states(x)
    assert decompress_states(packed, 6).tolist() == [[False, False, False, True, True, False]]
    assert nans == 1


def test_no_rows_are_no_states():
    assert compress_states(np.empty((0, 20), np.float32)).shape == (0, 3)
    assert compress_states(np.empty((4, 0, 20))).shape == (4, 0, 3)


@pytest.mark.parametrize(
    ("x", "error", "says"),
    [
        (np.zeros((2, 3), complex), TypeError, "real numbers"),
        (np.array([["a", "b"]]), TypeError, "real numbers"),
        (np.array([[object()]]), TypeError, "real numbers"),
        (np.float32(1), ValueError, "at least one neuron"),
        (np.zeros((3, 0)), ValueError, "at least one neuron"),
    ],
)
def test_what_cannot_be_packed(x, error, says):
    with pytest.raises(error, match=says):
        compress_states(x)


def test_a_threshold_that_is_nan():
    with pytest.raises(ValueError, match="NaN"):
        compress_states(np.zeros((1, 3)), threshold=float("nan"))


@pytest.mark.parametrize(
    ("packed", "neurons", "error", "says"),
    [
        (np.zeros((2, 3), np.int8), 20, TypeError, "uint8"),
        (np.zeros((2, 3), np.uint8), 25, ValueError, "packed into 4 bytes"),
        (np.zeros((2, 3), np.uint8), 16, ValueError, "packed into 2 bytes"),
        (np.uint8(1), 8, ValueError, "packed into 1 bytes"),
        (np.full((2, 3), 255, np.uint8), 20, ValueError, "unused bits"),
        (np.zeros((2, 1), np.uint8), 0, ValueError, "at least one neuron"),
    ],
)
def test_what_cannot_be_unpacked(packed, neurons, error, says):
    with pytest.raises(error, match=says):
        decompress_states(packed, neurons)
