"""Packed states: which neurons fire, as bits.

Neuron ``j`` of a state is bit ``j % 8`` of byte ``j // 8`` (little-endian bits); the unused high
bits of the last byte are 0.
"""

from __future__ import annotations

import math
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


def packed_width(neurons: int) -> int:
    """Bytes of one packed state: ``ceil(neurons / 8)``.

    Examples
    --------
    >>> packed_width(20)
    3
    """
    return -(-neurons // 8)


def compress_states(x: ArrayLike, threshold: float = 0.0) -> NDArray[np.uint8]:
    """Pack which neurons fire into bits.

    Parameters
    ----------
    x : array_like, shape (..., neurons)
        Activations: float16, bfloat16, float32, float64, bool or any integer, in any memory
        layout. The last axis holds the neurons.
    threshold : float, default 0
        A neuron fires where its activation is strictly greater. The threshold is rounded to the
        dtype of `x` first if that is a floating one, so that 0.1 is never greater than 0.1.

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
        If there is no axis, or no neuron on it, or the threshold is NaN.

    Examples
    --------
    >>> compress_states([[0.5, -1.0, 2.0, 0.0]])
    array([[5]], dtype=uint8)
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


def pack_states(x: NDArray[Any], threshold: float = 0.0) -> tuple[NDArray[np.uint8], int]:
    """Pack like `compress_states`, and count the NaN activations on the way.

    Parameters
    ----------
    x : ndarray, shape (..., neurons)
        Activations.
    threshold : float, default 0
        A neuron fires where its activation is strictly greater.

    Returns
    -------
    packed : ndarray of uint8, shape (..., ceil(neurons / 8))
        The packed states.
    nans : int
        How many activations were NaN.
    """
    check_activations(x, threshold)
    neurons = x.shape[-1]
    packed = np.empty((*x.shape[:-1], packed_width(neurons)), np.uint8)
    if x.size == 0:
        return packed, 0
    if x.ndim == 1:
        return packed, _pack_rows(x[np.newaxis], threshold, packed[np.newaxis])
    if x.flags.c_contiguous:
        rows = x.reshape(-1, neurons)
        return packed, _pack_blocks(rows, threshold, packed.reshape(len(rows), -1))
    return packed, _pack_blocks(x, threshold, packed)


def check_activations(x: NDArray[Any], threshold: float = 0.0) -> None:
    """Raise the TypeError or ValueError of `compress_states` for what cannot be packed."""
    is_number = x.dtype.kind in "fiub" or x.dtype.name == "bfloat16"
    if not is_number:
        raise TypeError(f"activations are real numbers or booleans, not {x.dtype}")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"activations need at least one neuron on the last axis, not {x.shape}")
    if math.isnan(threshold):
        raise ValueError("the threshold is NaN: no activation would ever fire")


def _pack_blocks(x: NDArray[Any], threshold: float, packed: NDArray[np.uint8]) -> int:
    """Pack along the first axis, block by block, so that copies stay small."""
    step = max(1, _BLOCK_ELEMENTS // (x.size // len(x)))
    if x.dtype in (np.float32, np.float64) and x.dtype.isnative and x.flags.c_contiguous:
        step = len(x)
    nans = 0
    for start in range(0, len(x), step):
        nans += _pack_rows(x[start : start + step], threshold, packed[start : start + step])
    return nans


def _pack_rows(x: NDArray[Any], threshold: float, packed: NDArray[np.uint8]) -> int:
    if x.dtype.kind in "iub":
        packed[...] = np.packbits(x > threshold, axis=-1, bitorder="little")
        return 0
    limit = x.dtype.newbyteorder("=").type(threshold)
    wide = np.float64 if x.dtype.itemsize == 8 else np.float32
    if x.dtype.itemsize > 8:  # long double has no kernel
        packed[...] = np.packbits(x > limit, axis=-1, bitorder="little")
        return int(np.count_nonzero(np.isnan(x)))
    rows = np.ascontiguousarray(x, dtype=wide).view()
    rows.flags.writeable = False  # which is a type of its own for Numba
    return int(_pack_kernel(rows.reshape(-1), x.shape[-1], wide(limit), packed.reshape(-1)))


@intrinsic(prefer_literal=True)
def _compare(typing_context, x, i, limit, lanes):  # type: ignore[no-untyped-def]
    """Bits of ``x[i:i+lanes] > limit``, and of ``x[i:i+lanes]`` being NaN."""
    count = lanes.literal_value

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        array = context.make_array(signature.args[0])(context, builder, args[0])
        vector = ir.VectorType(context.get_value_type(signature.args[2]), count)
        pointer = builder.bitcast(builder.gep(array.data, [args[1]]), vector.as_pointer())
        values = builder.load(pointer)
        values.align = context.get_abi_sizeof(context.get_value_type(signature.args[2]))
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), args[2], _int32(0))
        indices = ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count)
        limits = builder.shuffle_vector(one, one, indices)
        masks = (
            builder.fcmp_ordered(">", values, limits),
            builder.fcmp_unordered("uno", values, values),
        )
        words = [
            builder.zext(builder.bitcast(mask, ir.IntType(count)), ir.IntType(64)) for mask in masks
        ]
        return context.make_tuple(builder, signature.return_type, words)

    return types.UniTuple(types.uint64, 2)(x, types.intp, limit, lanes), codegen


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


def _int32(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), value)


@kernel
def _pack_kernel(x, neurons, limit, out):  # type: ignore[no-untyped-def]
    """Pack flat rows of ``neurons`` floats, 16 compared at a time; count the NaNs."""
    o = 0
    nans = np.uint64(0)
    tail = neurons % 16
    used = np.uint64((1 << tail) - 1)
    i = 0
    end = 0
    while end < x.size:
        end += neurons
        while i + 16 <= end:
            prefetch_to_read(x, i + _AHEAD)
            fires, nan = _compare(x, i, limit, 16)
            _store(out, o, fires, 2)
            nans += _popcount(nan)
            i += 16
            o += 2
        if tail == 0:
            continue
        if i + 16 <= x.size:
            # Reading into the next row is cheaper than a loop over what is left of this one.
            fires, nan = _compare(x, i, limit, 16)
            fires &= used
            nan &= used
        else:
            fires = np.uint64(0)
            nan = np.uint64(0)
            for bit in range(tail):
                fires |= np.uint64(x[i + bit] > limit) << np.uint64(bit)
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
