"""Packing with PyTorch's own operations, on whatever device a tensor is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn.utils.rnn import PackedSequence

from tensorstate.bits import StatePacker, packed_width

__all__ = ["TensorBatch", "pack_on_device", "packed_order"]


def pack_on_device(
    x: torch.Tensor, threshold: ArrayLike = 0.0, channel_axis: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pack which neurons fire into bits, on the device of the activations.

    What crosses to the host afterwards is a bit for an activation, and no activation. One byte for
    an activation is needed on the way, beside the packed states.

    Parameters
    ----------
    x : torch.Tensor, shape (instances, ..., neurons, ...)
        Activations: any floating dtype, bool, uint8 or a signed integer.
    threshold : float or array_like of shape (neurons,), default 0
        A neuron fires where its activation is strictly greater. Thresholds are rounded to the
        dtype of `x` first if that is a floating one, as `tensorstate.compress_states` does.
    channel_axis : int, default 1
        Axis of the neurons.

    Returns
    -------
    packed : torch.Tensor of uint8, shape (instances, ..., ceil(neurons / 8))
        The packed states, on the device of `x`, with the axes in their order except for the
        neurons, which are last. Equal to what `tensorstate.compress_states` gives on the host.
    nans : torch.Tensor of int64, shape ()
        How many activations are NaN, which do not fire; on the device of `x`.

    Raises
    ------
    TypeError
        If the dtype is complex, or an unsigned integer of more than 8 bits.

    Examples
    --------
    >>> pack_on_device(torch.tensor([[0.5, -1.0, 2.0, 0.0]]))[0]
    tensor([[5]], dtype=torch.uint8)
    """
    x = x.detach()
    axis = channel_axis % x.ndim
    neurons = x.shape[axis]
    width = packed_width(neurons)
    fires = torch.empty(
        (*x.shape[:axis], 8 * width, *x.shape[axis + 1 :]), dtype=torch.bool, device=x.device
    )
    fires.narrow(axis, neurons, 8 * width - neurons).fill_(False)
    limits = np.asarray(threshold, np.float64)
    if limits.ndim:
        limits = limits.reshape(-1, *(1,) * (x.ndim - axis - 1))
    nans = _compare(x, limits, fires.narrow(axis, 0, neurons))
    bits = fires.view(torch.uint8).unflatten(axis, (width, 8))
    # In the order of the activations' memory; only the packed bytes are moved about.
    bits.mul_(_bit_values(x.device).view(8, *(1,) * (x.ndim - axis - 1)))
    packed = bits.sum(axis + 1, dtype=torch.uint8)
    return packed.movedim(axis, -1).contiguous(), nans


def _rounded(limits: NDArray[np.float64], dtype: torch.dtype) -> NDArray[np.float64]:
    """Return thresholds rounded to a floating dtype, so that 0.1 is never greater than 0.1."""
    rounded: NDArray[np.float64] = torch.tensor(limits).to(dtype).double().numpy()
    return rounded


def _compare(x: torch.Tensor, limits: NDArray[np.float64], out: torch.Tensor) -> torch.Tensor:
    """Set `out` where an activation is greater than its threshold; return the number of NaN."""
    if x.dtype.is_floating_point:
        limits = _rounded(limits, x.dtype)
        if x.dtype.itemsize == 1:
            x = x.float()  # exact, and these dtypes have no comparison
        torch.gt(x, _beside(x, torch.tensor(limits, dtype=x.dtype)), out=out)
        return x.isnan().sum()
    if x.dtype.is_complex or x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        raise TypeError(f"activations of {x.dtype} are not packed on a device")
    if x.dtype == torch.bool:
        x = x.view(torch.uint8)
    # Among integers, so that large ones are not rounded to floats.
    info = torch.iinfo(x.dtype)
    floors = [math.floor(limit) for limit in limits.ravel().tolist()]
    within = [min(max(floor, info.min), info.max) for floor in floors]
    torch.gt(x, _beside(x, torch.tensor(within, dtype=x.dtype).view(limits.shape)), out=out)
    if min(floors) < info.min:  # which any activation is above
        out |= _beside(x, torch.tensor([floor < info.min for floor in floors]).view(limits.shape))
    return torch.zeros((), dtype=torch.int64, device=x.device)


def _beside(x: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    """Return thresholds on the device of `x`; a single one may stay where it is."""
    # Memory that is not pinned has been read when this returns, and nobody need wait for the rest.
    return limits.to(x.device, non_blocking=True) if limits.ndim else limits


def _bit_values(device: torch.device) -> torch.Tensor:
    """Return 1, 2, ..., 128 as bytes, made on the device: nothing is copied to it."""
    return torch.bitwise_left_shift(
        torch.ones(8, dtype=torch.uint8, device=device),
        torch.arange(8, dtype=torch.uint8, device=device),
    )


def packed_order(packed: PackedSequence) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the steps of packed sequences are, sequence by sequence.

    A packed sequence holds the first steps of all sequences, the longest first, then the second
    steps of those that have one, and so on.

    Parameters
    ----------
    packed : PackedSequence
        What ``torch.nn.utils.rnn.pack_padded_sequence`` makes.

    Returns
    -------
    lengths : (instances,) int64
        The length of each sequence, in the order that they had before they were packed.
    rows : (n,) int64
        The rows of ``packed.data`` in that order, each sequence from its first step to its last.

    Examples
    --------
    >>> from torch.nn.utils.rnn import pack_sequence
    >>> packed = pack_sequence([torch.arange(2), torch.arange(3)], enforce_sorted=False)
    >>> lengths, rows = packed_order(packed)
    >>> lengths, packed.data[rows]
    (array([2, 3]), tensor([0, 1, 0, 1, 2]))
    """
    sizes = packed.batch_sizes.numpy().astype(np.int64)
    places = np.arange(sizes[0])
    if packed.unsorted_indices is not None:
        places = packed.unsorted_indices.cpu().numpy()
    has_step = places[:, None] < sizes
    rows = (np.cumsum(sizes) - sizes) + places[:, None]
    return has_step.sum(1), rows[has_step]


@dataclass(frozen=True)
class TensorBatch:
    """Activations in a tensor: packed where they are, so that only states leave a device.

    Attributes
    ----------
    tensor : torch.Tensor, shape (instances, ..., neurons)
        In any memory layout.
    """

    tensor: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(self.tensor.shape)

    def values(self) -> NDArray[Any]:
        """Return all activations on the host."""
        return _as_numpy(self.tensor.cpu())

    def pack(self, start: int, stop: int, packer: StatePacker) -> tuple[NDArray[np.uint8], int]:
        """Pack which neurons of some instances fire; see `Batch.pack`."""
        some = self.tensor[start:stop]
        if some.device.type != "cpu":
            packed, nans = pack_on_device(some, packer.limits, -1)
            return packed.cpu().numpy(), int(nans)
        if _is_unknown_to_numpy(some.dtype):
            packer = StatePacker(_rounded(packer.limits, some.dtype))
        return packer.pack(_as_numpy(some))


def _as_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor on the host as an array, of its own memory if NumPy knows its dtype."""
    if _is_unknown_to_numpy(tensor.dtype):
        tensor = tensor.float()  # exact
    array: NDArray[Any] = tensor.numpy(force=True)
    return array


def _is_unknown_to_numpy(dtype: torch.dtype) -> bool:
    """Whether it is bfloat16 or one of the floats of 8 bits."""
    return dtype == torch.bfloat16 or bool(dtype.is_floating_point and dtype.itemsize == 1)
