"""Packing with JAX's operations, against NumPy's, and what a program hands over in packed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstate as ts

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

from tensorstate.capture.backends.jax import record_copy  # noqa: E402
from tensorstate.capture.jax_packing import pack_on_device  # noqa: E402

DTYPES = [jnp.float32, jnp.float16, jnp.bfloat16]


def activations(shape, dtype, seed=0):
    return jnp.asarray(3 * np.random.default_rng(seed).normal(size=shape), dtype)


def expected(x, threshold, axis=-1):
    values = np.moveaxis(np.asarray(x), axis, -1)
    return np.packbits(values > np.asarray(threshold).astype(x.dtype), axis=-1, bitorder="little")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(1, 70),
    st.sampled_from(DTYPES),
    st.sampled_from([1, 2, -1]),
    st.sampled_from([0.0, 0.1, -1.0, None]),
)
def test_every_width_dtype_axis_and_threshold(neurons, dtype, axis, threshold):
    shape = [3, 4, 5]
    shape[axis] = neurons
    x = activations(shape, dtype)
    if threshold is None:  # one for each, some of which are values that occur
        first = np.moveaxis(np.asarray(x), axis, -1)[0, 0].astype(float)
        threshold = np.where(np.arange(neurons) % 2, first, 0.1)
    packed, nans = pack_on_device(x, threshold, axis)
    np.testing.assert_array_equal(packed, expected(x, threshold, axis))
    assert nans == 0


def test_nan_does_not_fire_and_is_counted():
    x = activations((5, 20), jnp.float32).at[2, 3:7].set(jnp.nan)
    packed, nans = jax.jit(pack_on_device)(x)
    np.testing.assert_array_equal(packed, expected(x, 0.0))
    assert nans == 4


@pytest.mark.parametrize("threshold", [0.25, tuple(np.linspace(-1, 1, 13))])
def test_what_a_program_copies_to_the_host_is_packed(threshold):
    recorder = ts.StateRecorder("a", threshold=threshold, channel_axis=1)
    seen = []
    record_batch = recorder.record_batch
    recorder.record_batch = lambda batch: (seen.append(type(batch).__name__), record_batch(batch))
    run = jax.jit(lambda x: record_copy(recorder, x))
    batches = [activations((6, 13, 4), jnp.float32, seed) for seed in range(4)]
    for x in batches:
        run(x)
    jax.effects_barrier()
    rows = np.concatenate([expected(x, threshold, 1).reshape(-1, 2) for x in batches])
    np.testing.assert_array_equal(recorder.raw_states[:], rows)
    assert seen == ["PackedBatch"] * 4
    assert (recorder.neurons, recorder.positions, recorder.instance_count) == (13, 4, 24)


@pytest.mark.parametrize("kind", ["a function", "integers"])
def test_what_cannot_be_packed_there_is_copied_as_it_is(kind):
    threshold = (lambda x: np.median(x, axis=0)) if kind == "a function" else 1.0
    recorder = ts.StateRecorder("a", threshold=threshold)
    x = activations((6, 13), jnp.int32 if kind == "integers" else jnp.float32)
    jax.jit(lambda x: record_copy(recorder, x))(x)
    jax.effects_barrier()
    limits = np.median(x, axis=0) if kind == "a function" else 1.0
    np.testing.assert_array_equal(recorder.raw_states[:], expected(x, limits))


def test_nan_of_a_program_is_warned_of_and_a_wrong_number_of_thresholds_told():
    recorder = ts.StateRecorder("a")
    x = activations((6, 13), jnp.float32).at[1, 2].set(jnp.nan)
    run = jax.jit(lambda x: record_copy(recorder, x))

    def run_and_wait():
        run(x)
        jax.effects_barrier()

    with pytest.warns(RuntimeWarning, match="'a' met 1 NaN"):
        run_and_wait()
    wrong = ts.StateRecorder("b", threshold=[0.0, 1.0])
    with pytest.raises(ValueError, match="'b' has 2 thresholds, but its states have 13 neurons"):
        jax.jit(lambda x: record_copy(wrong, x))(x)
