"""Kernels that pack which neurons fire into bits, at the speed of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tensorstate.compiled import kernel
from tensorstate.intrinsics import call_prefetch, popcount, prefetch_to_read

__all__ = ["LANES", "pack_channels_first", "pack_rows"]

LANES = 16
"""Elements that are compared together."""

# Elements to ask memory for ahead: the hardware's own prefetch stops at every page of 4 KiB.
_AHEAD = 2048

ROWS = 32
"""Rows of channels that are compared together: a bit of a word for each."""

# Rows of fewer elements are too short to ask for what comes later in them.
_SHORT_ROW = 640
_AHEAD_IN_ROW = 128


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


@intrinsic
def _compare_columns(typing_context, x, start, stride, limits, neuron, count, ahead, step, fires):  # type: ignore[no-untyped-def]
    """Compare 16 neighbouring elements in each of up to 32 rows; ask memory for a line a row.

    Row k begins at ``x[start + k * stride]`` and is compared with ``limits[neuron + k]``: bit k of
    ``fires[q]`` tells of its element q. Returns a bit for each q of which some element is NaN. The
    lines that are asked for begin at ``x[ahead + k * step]``, which may lie beyond the end.
    """
    element = x.dtype

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        word, index = ir.IntType(32), ir.IntType(64)
        number = context.get_value_type(element)
        numbers, words, masks = (ir.VectorType(t, LANES) for t in (number, word, ir.IntType(1)))
        data, limit_data, out = (
            context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 8)
        )
        start, stride, neuron, count, ahead, step = (args[k] for k in (1, 2, 4, 5, 6, 7))

        def splat(value: Any, vector: Any) -> Any:
            undefined = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(undefined, value, word(0))
            return builder.shuffle_vector(first, undefined, ir.Constant(words, [0] * LANES))

        no_bits, no_masks = ir.Constant(words, [0] * LANES), ir.Constant(masks, [0] * LANES)
        # Variables that LLVM turns into registers. What a kernel calls in a loop sets them anew.
        bits, nans = (cgutils.alloca_once(builder, vector) for vector in (words, masks))
        builder.store(no_bits, bits)
        builder.store(no_masks, nans)
        with cgutils.for_range(builder, count) as loop:
            k = loop.index
            line = builder.gep(data, [builder.add(ahead, builder.mul(k, step))])
            call_prefetch(builder, builder.ptrtoint(line, index), for_writing=0)
            place = builder.gep(data, [builder.add(start, builder.mul(k, stride))])
            values = builder.load(builder.bitcast(place, numbers.as_pointer()))
            values.align = context.get_abi_sizeof(number)
            limit = builder.load(builder.gep(limit_data, [builder.add(neuron, k)]))
            above = builder.fcmp_ordered(">", values, splat(limit, numbers))
            bit = builder.shl(word(1), builder.trunc(k, word))
            fired = builder.select(above, splat(bit, words), no_bits)
            builder.store(builder.or_(builder.load(bits), fired), bits)
            unordered = builder.fcmp_unordered("uno", values, values)
            builder.store(builder.or_(builder.load(nans), unordered), nans)
        builder.store(builder.load(bits), builder.bitcast(out, words.as_pointer())).align = 4
        return builder.zext(builder.bitcast(builder.load(nans), ir.IntType(LANES)), index)

    intp = types.intp
    return types.uint64(x, intp, intp, limits, intp, intp, intp, intp, fires), codegen


@kernel
def pack_channels_first(x: Any, limits: Any, out: Any) -> Any:
    """Pack activations that lie channel by channel; count the NaNs.

    Up to 32 neurons are compared at 16 positions together, so that what one position gets of them
    is a word. The processor does not follow so many rows by itself: memory is asked for ahead.

    Parameters
    ----------
    x : (instances, neurons, positions) float32 or float64
        Activations, C-contiguous; at least 16 positions.
    limits : (at least neurons,) of the same type
        A neuron fires where its activation is greater.
    out : (instances, positions, W) uint8
        Filled.
    """
    nans = 0
    instances, neurons, positions = x.shape
    width = out.shape[2]
    flat = out.reshape(-1)
    fires = np.empty(LANES, np.uint32)
    for i in range(instances):
        for neuron in range(0, neurons, ROWS):
            count = min(ROWS, neurons - neuron)
            size = (count + 7) // 8
            start = (i * neurons + neuron) * positions
            done = 0
            while done < positions:
                # The last 16 positions: some of them for the second time.
                at = min(done, positions - LANES)
                if positions < _SHORT_ROW:  # the next rows, one after the other
                    ahead, step = start + count * (positions + done), LANES
                else:
                    ahead, step = start + at + _AHEAD_IN_ROW, positions
                if _compare_columns(
                    x, start + at, positions, limits, neuron, count, ahead, step, fires
                ):
                    for k in range(count):
                        for p in range(done, at + LANES):
                            nans += np.isnan(x[i, neuron + k, p])
                o = (i * positions + at) * width + neuron // 8
                for q in range(LANES):
                    word = np.uint64(fires[q])
                    if size == 4:
                        _store(flat, o, word, 4)
                    elif size >= 2:
                        _store(flat, o, word, 2)
                    if size == 3:
                        _store(flat, o + 2, word >> np.uint64(16), 1)
                    elif size == 1:
                        _store(flat, o, word, 1)
                    o += width
                done = at + LANES
    return nans
