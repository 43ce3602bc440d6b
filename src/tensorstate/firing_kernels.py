"""Kernels that count in how many states each neuron fires, and each pair of neurons together."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from tensorstate.compiled import kernel
from tensorstate.intrinsics import load64, popcount

__all__ = ["LANES", "add_firing", "add_pairs"]

LANES = 64
"""Neurons that are counted together: the bits of a word."""

_MOST = 255  # states until a count of 8 bits might overflow
_WORDS = 8  # words of 64 states in which pairs are looked for: they fill a vector of AVX-512


@intrinsic
def _sum_bits(typing_context, address, step, words, sums):  # type: ignore[no-untyped-def]
    """Set ``sums[b]`` to the number of words, `step` bytes from one to the next, with bit b."""
    vector, word = ir.VectorType(ir.IntType(8), LANES), ir.IntType(LANES)

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        total = cgutils.alloca_once_value(builder, ir.Constant(vector, None))
        with cgutils.for_range(builder, args[2]) as loop:
            place = builder.add(args[0], builder.mul(loop.index, args[1]))
            loaded = builder.load(builder.inttoptr(place, word.as_pointer()))
            loaded.align = 1
            bits = builder.zext(
                builder.bitcast(loaded, ir.VectorType(ir.IntType(1), LANES)), vector
            )
            builder.store(builder.add(builder.load(total), bits), total)
        out = context.make_array(signature.args[3])(context, builder, args[3]).data
        builder.store(builder.load(total), builder.bitcast(out, vector.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(types.uint64, types.intp, types.intp, sums), codegen


@kernel
def add_firing(states: Any, width: Any, rows: Any, counts: Any) -> None:
    """Add up in how many states each neuron fires.

    Parameters
    ----------
    states : (n,) uint8
        Packed states one after the other, and at least 7 bytes after those that are counted.
    width : int
        Bytes of a state.
    rows : int
        How many states.
    counts : (8 * width,) int64
        Added to.
    """
    address = np.uint64(states.ctypes.data)
    sums = np.empty(LANES, np.uint8)
    for first in range(0, rows, _MOST):
        some = min(_MOST, rows - first)
        for byte in range(0, width, 8):
            _sum_bits(address + np.uint64(first * width + byte), width, some, sums)
            # What lies behind a state was read with it, and is left out here.
            for bit in range(min(LANES, 8 * (width - byte))):
                counts[8 * byte + bit] += sums[bit]


@kernel
def add_pairs(states: Any, width: Any, rows: Any, counts: Any) -> None:
    """Add up in how many states two neurons fire together.

    Parameters
    ----------
    states, width, rows
        As for `add_firing`.
    counts : (neurons, neurons) int64
        Added to from the diagonal on: ``counts[i, j]`` with i <= j.
    """
    address = np.uint64(states.ctypes.data)
    neurons = counts.shape[0]
    columns = np.empty((8 * width + LANES, _WORDS), np.uint64)
    square = np.empty(LANES, np.uint64)
    for first in range(0, rows, LANES * _WORDS):
        for byte in range(0, width, 8):
            for word in range(_WORDS):
                start = first + LANES * word
                for row in range(LANES):
                    place = np.uint64((start + row) * width + byte)
                    square[row] = load64(address + place) if start + row < rows else np.uint64(0)
                _transpose(square)
                columns[8 * byte : 8 * byte + LANES, word] = square
        for i in range(neurons):
            for j in range(i, neurons):
                together = np.uint64(0)
                for word in range(_WORDS):
                    together += popcount(columns[i, word] & columns[j, word])
                counts[i, j] += np.int64(together)


@register_jitable
def _transpose(square: Any) -> None:
    """Swap rows and columns of 64 words of 64 bits: halves, then quarters, down to single bits."""
    # H. S. Warren, Hacker's Delight, 2nd ed. (2013), section 7-3.
    half = 32
    mask = np.uint64(0xFFFFFFFF)
    while half:
        shift = np.uint64(half)
        k = 0
        while k < LANES:
            swapped = ((square[k] >> shift) ^ square[k + half]) & mask
            square[k] ^= swapped << shift
            square[k + half] ^= swapped
            k = (k + half + 1) & ~half
        half >>= 1
        mask ^= mask << np.uint64(half)
