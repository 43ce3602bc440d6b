"""Packing with JAX's operations, on whatever device an array is."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

__all__ = ["pack_on_device"]


def pack_on_device(
    x: jax.Array, threshold: ArrayLike = 0.0, channel_axis: int = -1
) -> tuple[Any, Any]:
    """Pack which neurons fire into bits, on the device of the activations, also in a trace.

    Parameters
    ----------
    x : jax.Array, shape (instances, ..., neurons, ...)
        Activations of any floating dtype.
    threshold : float or array_like of shape (neurons,), default 0
        A neuron fires where its activation is strictly greater. Thresholds are rounded to the
        dtype of `x` first, as `tensorstate.compress_states` does.
    channel_axis : int, default -1
        Axis of the neurons.

    Returns
    -------
    packed : jax.Array of uint8, shape (instances, ..., ceil(neurons / 8))
        The packed states, with the axes in their order except for the neurons, which are last.
        Equal to what `tensorstate.compress_states` gives on the host.
    nans : jax.Array of int32, shape ()
        How many activations are NaN, which do not fire.

    Examples
    --------
    >>> pack_on_device(jax.numpy.array([[0.5, -1.0, 2.0, 0.0]]))[0]
    Array([[5]], dtype=uint8)
    """
    last = jnp.moveaxis(x, channel_axis, -1)
    fires = last > np.asarray(threshold, np.float64).astype(x.dtype)
    return jnp.packbits(fires, axis=-1, bitorder="little"), jnp.isnan(x).sum(dtype=jnp.int32)
