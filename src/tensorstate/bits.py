"""Packed states: which neurons fire, as bits.

Neuron ``j`` of a state is bit ``j % 8`` of byte ``j // 8`` (little-endian bits); the unused high
bits of the last byte are 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import ArrayLike, NDArray

from tensorstate.compiled import kernel
from tensorstate.intrinsics import prefetch_to_read

__all__ = [
    "check_activations",
    "compress_states",
    "decompress_states",
    "pack_states",
    "packed_width",
]

# Elements that are copied at a time when an array's memory is not laid out row by row.
_BLOCK_ELEMENTS = 1 << 20

# Elements to ask memory for ahead: the hardware's own prefetch stops at every page of 4 KiB.
_AHEAD = 512

# Elements that are compared together.
_LANES = 16


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
    """Pack like `compress_states`, and count the NaN activations on the way.

    Parameters
    ----------
    x : ndarray, shape (..., neurons)
        Activations.
    threshold : float or array_like of shape (neurons,), default 0
        A neuron fires where its activation is strictly greater.

    Returns
    -------
    packed : ndarray of uint8, shape (..., ceil(neurons / 8))
        The packed states.
    nans : int
        How many activations were NaN.
    """
    limits = np.asarray(threshold)
    check_activations(x, limits)
    neurons = x.shape[-1]
    packed = np.empty((*x.shape[:-1], packed_width(neurons)), np.uint8)
    if x.size == 0:
        return packed, 0
    if x.ndim == 1:
        return packed, _pack_rows(x[np.newaxis], limits, packed[np.newaxis])
    if x.flags.c_contiguous:
        rows = x.reshape(-1, neurons)
        return packed, _pack_blocks(rows, limits, packed.reshape(len(rows), -1))
    return packed, _pack_blocks(x, limits, packed)


def check_activations(x: NDArray[Any], threshold: ArrayLike = 0.0) -> None:
    """Raise the TypeError or ValueError of `compress_states` for what cannot be packed."""
    is_number = x.dtype.kind in "fiub" or x.dtype.name == "bfloat16"
    if not is_number:
        raise TypeError(f"activations are real numbers or booleans, not {x.dtype}")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"activations need at least one neuron on the last axis, not {x.shape}")
    limits = np.asarray(threshold)
    if limits.dtype.kind not in "fiub":
        raise TypeError(f"thresholds are real numbers, not {limits.dtype}")
    if limits.ndim and limits.shape != x.shape[-1:]:
        raise ValueError(
            f"there is one threshold, or one for each of {x.shape[-1]} neurons, "
            f"but these have the shape {limits.shape}"
        )
    if np.isnan(limits).any():
        raise ValueError("a threshold is NaN: no activation would ever fire")


def _pack_blocks(x: NDArray[Any], limits: NDArray[Any], packed: NDArray[np.uint8]) -> int:
    """Pack along the first axis, block by block, so that copies stay small."""
    step = max(1, _BLOCK_ELEMENTS // (x.size // len(x)))
    if x.dtype in (np.float32, np.float64) and x.dtype.isnative and x.flags.c_contiguous:
        step = len(x)
    nans = 0
    for start in range(0, len(x), step):
        nans += _pack_rows(x[start : start + step], limits, packed[start : start + step])
    return nans


def _pack_rows(x: NDArray[Any], limits: NDArray[Any], packed: NDArray[np.uint8]) -> int:
    if x.dtype.kind in "iub":
        packed[...] = np.packbits(x > limits, axis=-1, bitorder="little")
        return 0
    # A threshold beyond what the dtype holds is an infinity, which nothing, or all, is above.
    with np.errstate(over="ignore"):
        limits = limits.astype(x.dtype.newbyteorder("="))
    wide = np.float64 if x.dtype.itemsize == 8 else np.float32
    if x.dtype.itemsize > 8:  # long double has no kernel
        packed[...] = np.packbits(x > limits, axis=-1, bitorder="little")
        return int(np.count_nonzero(np.isnan(x)))
    rows = np.ascontiguousarray(x, dtype=wide).view()
    rows.flags.writeable = False  # which is a type of its own for Numba
    neurons = x.shape[-1]
    padded = np.zeros(neurons + -neurons % _LANES, wide)
    padded[:neurons] = limits
    return int(_pack_kernel(rows.reshape(-1), neurons, padded, packed.reshape(-1)))


@intrinsic(prefer_literal=True)
def _compare(typing_context, x, i, limits, j, lanes):  # type: ignore[no-untyped-def]
    """Bits of ``x[i:i+lanes] > limits[j:j+lanes]``, and of ``x[i:i+lanes]`` being NaN."""
    count = lanes.literal_value
    element = x.dtype

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        vector = ir.VectorType(context.get_value_type(element), count)

        def load(array_type: Any, array: Any, start: Any) -> Any:
            data = context.make_array(array_type)(context, builder, array).data
            pointer = builder.bitcast(builder.gep(data, [start]), vector.as_pointer())
            loaded = builder.load(pointer)
            loaded.align = context.get_abi_sizeof(context.get_value_type(element))
            return loaded

        values = load(signature.args[0], args[0], args[1])
        limits = load(signature.args[2], args[2], args[3])
        masks = (
            builder.fcmp_ordered(">", values, limits),
            builder.fcmp_unordered("uno", values, values),
        )
        words = [
            builder.zext(builder.bitcast(mask, ir.IntType(count)), ir.IntType(64)) for mask in masks
        ]
        return context.make_tuple(builder, signature.return_type, words)

    return types.UniTuple(types.uint64, 2)(x, types.intp, limits, types.intp, lanes), codegen


@intrinsic(prefer_literal=True)
def _store(typing_context, out, i, bits, size):  # type: ignore[no-untyped-def]
    """Store the low ``size`` bytes of ``bits`` at ``out[i]``, little-endian, unaligned."""
    word = ir.IntType(8 * size.literal_value)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        array = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.bitcast(builder.gep(array.data, [args[1]]), word.as_pointer())
        builder.store(builder.trunc(args[2], word), pointer).align = 1
        return context.get_dummy_value()

    return types.void(out, types.intp, types.uint64, size), codegen


@intrinsic
def _popcount(typing_context, bits):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@kernel
def _pack_kernel(x, neurons, limits, out):  # type: ignore[no-untyped-def]
    """Pack flat rows of ``neurons`` floats, 16 compared at a time; count the NaNs.

    There is a limit for every neuron, and some more up to a multiple of 16.
    """
    o = 0
    nans = np.uint64(0)
    tail = neurons % _LANES
    used = np.uint64((1 << tail) - 1)
    i = 0
    end = 0
    while end < x.size:
        end += neurons
        j = 0
        while i + _LANES <= end:
            prefetch_to_read(x, i + _AHEAD)
            fires, nan = _compare(x, i, limits, j, 16)
            _store(out, o, fires, 2)
            nans += _popcount(nan)
            i += _LANES
            j += _LANES
            o += 2
        if tail == 0:
            continue
        if i + _LANES <= x.size:
            # Reading into the next row is cheaper than a loop over what is left of this one.
            fires, nan = _compare(x, i, limits, j, 16)
            fires &= used
            nan &= used
        else:
            fires = np.uint64(0)
            nan = np.uint64(0)
            for bit in range(tail):
                fires |= np.uint64(x[i + bit] > limits[j + bit]) << np.uint64(bit)
                nan |= np.uint64(x[i + bit] != x[i + bit]) << np.uint64(bit)
        nans += _popcount(nan)
        i = end
        if tail > 8:
            _store(out, o, fires, 2)
            o += 2
        else:
            _store(out, o, fires, 1)
            o += 1
    return nans
