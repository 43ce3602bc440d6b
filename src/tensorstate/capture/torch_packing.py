"""Packing with PyTorch's own operations, on whatever device a tensor is."""

from __future__ import annotations

import math

import torch

from tensorstate.bits import packed_width

__all__ = ["pack_on_device", "rounded_threshold"]


def pack_on_device(
    x: torch.Tensor, threshold: float = 0.0, channel_axis: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pack which neurons fire into bits, on the device of the activations.

    What crosses to the host afterwards is a bit for an activation, and no activation. One byte for
    an activation is needed on the way, beside the packed states.

    Parameters
    ----------
    x : torch.Tensor, shape (instances, ..., neurons, ...)
        Activations: any floating dtype, bool, uint8 or a signed integer.
    threshold : float, default 0
        A neuron fires where its activation is strictly greater. The threshold is rounded to the
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
    nans = _compare(x, threshold, fires.narrow(axis, 0, neurons))
    bits = fires.view(torch.uint8).unflatten(axis, (width, 8))
    # In the order of the activations' memory; only the packed bytes are moved about.
    bits.mul_(_bit_values(x.device).view(8, *(1,) * (x.ndim - axis - 1)))
    packed = bits.sum(axis + 1, dtype=torch.uint8)
    return packed.movedim(axis, -1).contiguous(), nans


def rounded_threshold(threshold: float, dtype: torch.dtype) -> float:
    """Return the threshold rounded to a floating dtype, so that 0.1 is never greater than 0.1."""
    return float(torch.tensor(threshold, dtype=torch.float64).to(dtype).double().item())


def _compare(x: torch.Tensor, threshold: float, out: torch.Tensor) -> torch.Tensor:
    """Set `out` where an activation is greater than the threshold; return the number of NaN."""
    if x.dtype.is_floating_point:
        limit = rounded_threshold(threshold, x.dtype)
        if x.dtype.itemsize == 1:
            x = x.float()  # exact, and these dtypes have no comparison
        torch.gt(x, limit, out=out)
        return x.isnan().sum()
    if x.dtype.is_complex or x.dtype in (torch.uint16, torch.uint32, torch.uint64):
        raise TypeError(f"activations of {x.dtype} are not packed on a device")
    if x.dtype == torch.bool:
        x = x.view(torch.uint8)
    # Among integers, so that large ones are not rounded to floats.
    floor, info = math.floor(threshold), torch.iinfo(x.dtype)
    if floor < info.min:
        out.fill_(True)
    elif floor >= info.max:
        out.fill_(False)
    else:
        torch.gt(x, floor, out=out)
    return torch.zeros((), dtype=torch.int64, device=x.device)


def _bit_values(device: torch.device) -> torch.Tensor:
    """Return 1, 2, ..., 128 as bytes, made on the device: nothing is copied to it."""
    return torch.bitwise_left_shift(
        torch.ones(8, dtype=torch.uint8, device=device),
        torch.arange(8, dtype=torch.uint8, device=device),
    )
