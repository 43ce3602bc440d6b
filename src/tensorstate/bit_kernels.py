"""Kernels that pack which neurons fire into bits, at the speed of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tensorstate.compiled import kernel
from tensorstate.intrinsics import popcount, prefetch_to_read

__all__ = ["LANES", "pack_channels_first", "pack_rows"]

LANES = 16
"""Elements that are compared together."""

# Elements to ask memory for ahead: the hardware's own prefetch stops at every page of 4 KiB.
_AHEAD = 2048


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


@kernel
def pack_rows(x, neurons, limits, out):  # type: ignore[no-untyped-def]
    """Pack flat rows of ``neurons`` floats, 16 compared at a time; count the NaNs.

    There is a limit for every neuron, and some more up to a multiple of 16.
    """
    o = 0
    nans = np.uint64(0)
    tail = neurons % LANES
    used = np.uint64((1 << tail) - 1)
    i = 0
    end = 0
    while end < x.size:
        end += neurons
        j = 0
        while i + LANES <= end:
            prefetch_to_read(x, i + _AHEAD)
            fires, nan = _compare(x, i, limits, j, 16)
            _store(out, o, fires, 2)
            nans += popcount(nan)
            i += LANES
            j += LANES
            o += 2
        if tail == 0:
            continue
        if i + LANES <= x.size:
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
        nans += popcount(nan)
        i = end
        if tail > 8:
            _store(out, o, fires, 2)
            o += 2
        else:
            _store(out, o, fires, 1)
            o += 1
    return nans


@kernel
def pack_channels_first(x: Any, limits: Any, out: Any) -> Any:
    """Pack activations that lie channel by channel; count the NaNs.

    Parameters
    ----------
    x : (instances, neurons, positions) float32 or float64
        Activations, C-contiguous.
    limits : (at least neurons,) of the same type
        A neuron fires where its activation is greater.
    out : (instances, positions, W) uint8
        Filled.
    """
    nans = np.int64(0)
    positions = x.shape[2]
    fires = np.empty(positions, np.uint8)
    for i in range(x.shape[0]):
        for byte in range(out.shape[2]):
            fires[:] = 0
            for neuron in range(8 * byte, min(8 * byte + 8, x.shape[1])):
                bit = np.uint8(1 << (neuron - 8 * byte))
                limit = limits[neuron]
                values = x[i, neuron]
                some_nan = np.uint8(0)
                # Without a branch, so that many positions are compared at once.
                for p in range(positions):
                    fires[p] |= bit if values[p] > limit else np.uint8(0)
                    some_nan |= np.uint8(values[p] != values[p])
                if some_nan:
                    for p in range(positions):
                        nans += np.int64(values[p] != values[p])
            for p in range(positions):
                out[i, p, byte] = fires[p]
    return nans
