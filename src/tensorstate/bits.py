"""Packed states: which neurons fire, as bits.

Neuron ``j`` of a state is bit ``j % 8`` of byte ``j // 8`` (little-endian bits); the unused high
bits of the last byte are 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate.bit_kernels import LANES, pack_channels_first, pack_rows

__all__ = [
    "StatePacker",
    "check_activations",
    "compress_states",
    "decompress_states",
    "pack_states",
    "packed_width",
]

# Elements that are copied at a time when an array's memory is not laid out row by row.
_BLOCK_ELEMENTS = 1 << 20

# The kernel compares so many positions together; of fewer, activations are copied into rows.
_LEAST_POSITIONS = LANES

_DTYPES_OF_KERNELS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


def packed_width(neurons: int) -> int:
    """Bytes of one packed state: ``ceil(neurons / 8)``.

    Examples
    --------
    >>> packed_width(20)
    3
    """
    return -(-neurons // 8)


def compress_states(x: ArrayLike, threshold: ArrayLike = 0.0) -> NDArray[np.uint8]:
    """Pack which neurons fire into bits.

    Parameters
    ----------
    x : array_like, shape (..., neurons)
        Activations: float16, bfloat16, float32, float64, bool or any integer, in any memory
        layout. The last axis holds the neurons.
    threshold : float or array_like of shape (neurons,), default 0
        A neuron fires where its activation is strictly greater: than one number for all, or than
        the one of each neuron. Thresholds are rounded to the dtype of `x` first if that is a
        floating one, so that 0.1 is never greater than 0.1.

    Returns
    -------
    ndarray of uint8, shape (..., ceil(neurons / 8))
        The packed states, equal to ``np.packbits(x > threshold, axis=-1, bitorder="little")``.
        A NaN does not fire.

    Raises
    ------
    TypeError
        If the dtype is complex or not a number.
    ValueError
        If there is no axis, or no neuron on it, a threshold is NaN, or there are neither one
        nor as many as neurons.

    Examples
    --------
    >>> compress_states([[0.5, -1.0, 2.0, 0.0]])
    array([[5]], dtype=uint8)
    >>> compress_states([[0.5, -1.0, 2.0, 0.0]], threshold=[1.0, -2.0, 1.0, 1.0])
    array([[6]], dtype=uint8)
    """
    return pack_states(np.asarray(x), threshold)[0]


def decompress_states(packed: ArrayLike, neurons: int) -> NDArray[np.bool_]:
    """Unpack bits into which neurons fire; the inverse of `compress_states`.

    Parameters
    ----------
    packed : array_like of uint8, shape (..., ceil(neurons / 8))
        Packed states.
    neurons : int
        Number of neurons in a state.

    Returns
    -------
    ndarray of bool, shape (..., neurons)
        True where a neuron fires.

    Raises
    ------
    TypeError
        If `packed` is not uint8.
    ValueError
        If the width does not fit the number of neurons, or an unused bit is set.

    Examples
    --------
    >>> decompress_states(np.array([[5]], np.uint8), 4)
    array([[ True, False,  True, False]])
    """
    packed = np.asarray(packed)
    if packed.dtype != np.uint8:
        raise TypeError(f"packed states are uint8, not {packed.dtype}")
    if neurons < 1:
        raise ValueError(f"a state has at least one neuron, not {neurons}")
    width = packed_width(neurons)
    if packed.ndim == 0 or packed.shape[-1] != width:
        raise ValueError(
            f"{neurons} neurons are packed into {width} bytes on the last axis, "
            f"but the array has shape {packed.shape}"
        )
    used = neurons % 8
    if used and np.any(packed[..., -1] >> used):
        raise ValueError(
            f"unused bits are set behind the last of {neurons} neurons: "
            "these are states of more neurons, or damaged"
        )
    bits = np.unpackbits(packed, axis=-1, count=neurons, bitorder="little")
    return bits.view(np.bool_)


def pack_states(x: NDArray[Any], threshold: ArrayLike = 0.0) -> tuple[NDArray[np.uint8], int]:
    """Pack like `compress_states`, and count the NaN activations; see `StatePacker.pack`."""
    return StatePacker(threshold).pack(x)


class StatePacker:
    """Packs the batches of a layer: what is the same for all of them is worked out once.

    Parameters
    ----------
    threshold : float or array_like of shape (neurons,), default 0
        A neuron fires where its activation is strictly greater.

    Attributes
    ----------
    limits : ndarray, shape () or (neurons,)
        The threshold.
    """

    def __init__(self, threshold: ArrayLike = 0.0) -> None:
        self.limits = np.asarray(threshold)
        self._padded: dict[tuple[np.dtype[Any], int], NDArray[Any]] = {}

    def pack(self, x: NDArray[Any]) -> tuple[NDArray[np.uint8], int]:
        """Pack a batch, and count the NaN activations on the way.

        Parameters
        ----------
        x : ndarray, shape (..., neurons)
            Activations.

        Returns
        -------
        packed : ndarray of uint8, shape (..., ceil(neurons / 8))
            The packed states.
        nans : int
            How many activations were NaN.

        Raises
        ------
        TypeError, ValueError
            As for `compress_states`.
        """
        padded = self._padded_for(x)
        neurons = x.shape[-1]
        packed = np.empty((*x.shape[:-1], packed_width(neurons)), np.uint8)
        if x.size == 0:
            return packed, 0
        if x.dtype in _DTYPES_OF_KERNELS:
            if x.flags.c_contiguous:
                flat = packed.reshape(-1)
                return packed, int(pack_rows(_fixed(x.reshape(-1)), neurons, padded, flat))
            channels = _channels_first(x)
            if channels is not None:
                by_position = packed.reshape(len(x), -1, packed.shape[-1])
                return packed, int(pack_channels_first(_fixed(channels), padded, by_position))
        return packed, self._pack_blocks(np.atleast_2d(x), padded, np.atleast_2d(packed))

    def _padded_for(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return a threshold for every neuron, rounded to the dtype of `x`, as kernels take it."""
        kind = (x.dtype, x.shape[-1] if x.ndim else 0)
        if kind not in self._padded:
            check_activations(x)
            _check_limits(self.limits, kind[1])
            self._padded[kind] = _padded(self.limits, *kind)
        return self._padded[kind]

    def _pack_blocks(self, x: NDArray[Any], padded: NDArray[Any], packed: NDArray[np.uint8]) -> int:
        """Pack along the first axis, block by block, so that copies stay small."""
        step = max(1, _BLOCK_ELEMENTS // (x.size // len(x)))
        nans = 0
        for start in range(0, len(x), step):
            nans += self._pack_rows(x[start : start + step], padded, packed[start : start + step])
        return nans

    def _pack_rows(self, x: NDArray[Any], padded: NDArray[Any], packed: NDArray[np.uint8]) -> int:
        if x.dtype.kind in "iub":
            packed[...] = np.packbits(x > self.limits, axis=-1, bitorder="little")
            return 0
        if x.dtype.itemsize > 8:  # long double has no kernel
            limits = self.limits.astype(x.dtype)
            packed[...] = np.packbits(x > limits, axis=-1, bitorder="little")
            return int(np.count_nonzero(np.isnan(x)))
        rows = _fixed(np.ascontiguousarray(x, dtype=padded.dtype))
        return int(pack_rows(rows.reshape(-1), x.shape[-1], padded, packed.reshape(-1)))


def check_activations(x: NDArray[Any]) -> None:
    """Raise the TypeError or ValueError of `compress_states` for what cannot be packed."""
    is_number = x.dtype.kind in "fiub" or x.dtype.name == "bfloat16"
    if not is_number:
        raise TypeError(f"activations are real numbers or booleans, not {x.dtype}")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"activations need at least one neuron on the last axis, not {x.shape}")


def _check_limits(limits: NDArray[Any], neurons: int) -> None:
    if limits.dtype.kind not in "fiub":
        raise TypeError(f"thresholds are real numbers, not {limits.dtype}")
    if limits.ndim and limits.shape != (neurons,):
        raise ValueError(
            f"there is one threshold, or one for each of {neurons} neurons, "
            f"but these have the shape {limits.shape}"
        )
    if np.isnan(limits).any():
        raise ValueError("a threshold is NaN: no activation would ever fire")


def _padded(limits: NDArray[Any], dtype: np.dtype[Any], neurons: int) -> NDArray[Any]:
    if dtype.kind in "iub" or dtype.itemsize > 8:  # which are compared with the limits themselves
        return limits
    padded = np.zeros(neurons + -neurons % LANES, np.float64 if dtype.itemsize == 8 else np.float32)
    # A threshold beyond what the dtype holds is an infinity, which nothing, or all, is above.
    with np.errstate(over="ignore"):
        padded[:neurons] = limits.astype(dtype.newbyteorder("="))
    return padded


def _channels_first(x: NDArray[Any]) -> NDArray[Any] | None:
    """Return (instances, neurons, positions) if memory holds them in this order, else None."""
    if math.prod(x.shape[1:-1]) < _LEAST_POSITIONS:
        return None
    turned = x.transpose(0, -1, *range(1, x.ndim - 1))
    return turned.reshape(*turned.shape[:2], -1) if turned.flags.c_contiguous else None


def _fixed(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array as one that cannot be written to, which is a type of its own for Numba."""
    view = array.view()
    view.flags.writeable = False
    return view
