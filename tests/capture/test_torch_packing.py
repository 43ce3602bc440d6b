"""Packing with PyTorch's operations, against NumPy's."""

import numpy as np
import pytest
import torch

from tensorstate.bits import StatePacker
from tensorstate.capture.torch_packing import TensorBatch, pack_on_device

DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool),
]


def expected(x, threshold, axis):
    limits = np.asarray(threshold, float)
    if x.dtype.is_floating_point:
        limits = torch.tensor(limits).to(x.dtype).double().numpy()
        x = x.double()
    values = np.moveaxis(x.numpy(), axis, -1)
    return np.packbits(values > limits, axis=-1, bitorder="little")


def activations(shape, dtype, seed=0):
    x = 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x > 0 if dtype == torch.bool else x.to(dtype)


@pytest.mark.parametrize("neurons", range(1, 131))
def test_every_width(neurons):
    x = activations((3, neurons, 4), torch.float32, neurons)
    np.testing.assert_array_equal(pack_on_device(x)[0].numpy(), expected(x, 0, 1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("threshold", [0, 0.1, 0.5, -1, 1e6, -1e9, 2**60])
@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_every_dtype_threshold_and_axis(dtype, threshold, axis):
    x = activations((3, 13, 4, 5), dtype)
    packed, nans = pack_on_device(x, threshold, axis)
    np.testing.assert_array_equal(packed.numpy(), expected(x, threshold, axis))
    assert nans == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_threshold_for_each_neuron(dtype, axis):
    x = activations((4, 13, 13, 13), dtype)
    limits = np.random.default_rng(0).choice([-1e9, -200, -1, -0.5, 0, 0.1, 1, 300, 2**60], 13)
    packed, _ = pack_on_device(x, limits, axis)
    np.testing.assert_array_equal(packed.numpy(), expected(x, limits, axis))
    batch = TensorBatch(x.movedim(axis, -1))
    np.testing.assert_array_equal(batch.pack(1, 3, StatePacker(limits))[0], packed.numpy()[1:3])


@pytest.mark.parametrize("dtype", DTYPES[:4], ids=str)
def test_nan_does_not_fire_and_is_counted(dtype):
    x = activations((5, 20), dtype)
    x[2, 3:7] = torch.nan
    packed, nans = pack_on_device(x)
    np.testing.assert_array_equal(packed.numpy(), expected(x, 0, 1))
    assert nans == 4


@pytest.mark.parametrize("dtype", [torch.complex64, torch.uint16])
def test_dtypes_that_are_refused(dtype):
    with pytest.raises(TypeError, match="not packed on a device"):
        pack_on_device(torch.zeros(2, 3, dtype=dtype))
