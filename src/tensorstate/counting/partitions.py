"""Radix partitions, for states that are mostly new, and the merge of what was counted.

The top bits of a key's mixed hash tell its partition. Keys are copied partition by partition
(`scatter_rows`, `scatter_counted`), and a partition that is small enough for the processor's
cache is then counted in a dense table (`merge_partitions`): the output arrays in the order in
which the keys came, and four bytes a slot, which hold the place of a key in them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from tensorstate.counting.compiled import kernel
from tensorstate.counting.intrinsics import pointer
from tensorstate.counting.kernels import SLOT_MULTIPLIER
from tensorstate.counting.keys import copy_key, hash_at, keys_at, same_key

LARGEST_START = 18
"""A dense table starts with at most 2**18 slots (1 MiB, for the cache) and grows if it must."""

SLOTS_PER_KEY = 4
COLLISIONS_PER_KEY = 16
"""So many steps to a further slot, for each key, tell that keys collide by more than chance."""

_ONE = np.uint64(1)
_FREE = np.uint32(0)


@kernel
def partition_starts(keys: Any, bits: int, starts: Any) -> None:
    """Find where the partitions start when keys are laid partition by partition.

    Parameters
    ----------
    keys : (n,) or (n, 2) uint64
        Keys in any order.
    bits : int
        There are ``2**bits`` partitions.
    starts : (2**bits + 1,) int64
        Filled; the last is n.
    """
    # Two shifts: one of 64 bits, for a single partition, is undefined.
    shift = np.uint64(63 - bits)
    starts[:] = 0
    for i in range(len(keys)):
        starts[((hash_at(keys, i) >> _ONE) >> shift) + _ONE] += 1
    for p in range(1, len(starts)):
        starts[p] += starts[p - 1]


@kernel
def scatter_rows(keys: Any, bits: int, places: Any, to_keys: Any, to_rows: Any) -> None:
    """Copy keys partition by partition, each with its place among `keys`.

    Parameters
    ----------
    keys : (n,) or (n, 2) uint64
        Keys of consecutive rows.
    bits : int
        There are ``2**bits`` partitions.
    places : (2**bits,) int64
        Where each partition starts; changed to where it ends.
    to_keys : (n,) or (n, 2) uint64
        Filled.
    to_rows : (n,) uint32
        Filled.
    """
    shift = np.uint64(63 - bits)
    for i in range(len(keys)):
        p = (hash_at(keys, i) >> _ONE) >> shift
        place = places[p]
        copy_key(keys, i, to_keys, place)
        to_rows[place] = np.uint32(i)
        places[p] = place + 1


@kernel
def scatter_counted(
    keys: Any,
    counts: Any,
    rows: Any,
    bits: int,
    places: Any,
    to_keys: Any,
    to_counts: Any,
    to_rows: Any,
) -> None:
    """Copy keys partition by partition, each with its count and first row (all int64).

    The parameters are those of `scatter_rows`.
    """
    shift = np.uint64(63 - bits)
    for i in range(len(keys)):
        p = (hash_at(keys, i) >> _ONE) >> shift
        place = places[p]
        copy_key(keys, i, to_keys, place)
        to_counts[place] = counts[i]
        to_rows[place] = rows[i]
        places[p] = place + 1


@kernel
def merge_partitions(
    keys: Any, counts: Any, rows: Any, pieces: Any, starts: Any, first: int, last: int
) -> Any:
    """Count what several pieces hold of the partitions from `first` up to `last`.

    Parameters
    ----------
    keys : (n,) or (n, 2) uint64
        Filled from the start with the distinct keys, partition by partition, and as they come
        within a partition. There must be room for all entries of the pieces.
    counts, rows : (n,) int64
        Filled likewise with the sums of the counts and the smallest row numbers.
    pieces : (k, 4) int64
        Of each piece: the addresses of its keys, of its counts (int64; 0: every count is 1) and
        of its row numbers (uint32 where every count is 1, else int64), and a number to add to
        the row numbers.
    starts : (k, partitions + 1) int64
        Where each partition of each piece starts.
    first, last : int
        Which partitions.

    Returns
    -------
    distinct : int
        How many keys there are, or -1 if too many of them collide.
    """
    slots = np.empty(1 << LARGEST_START, np.uint32)
    patience: Any = COLLISIONS_PER_KEY * (len(counts) + 1024)
    done: Any = 0
    for p in range(first, last):
        begin = done
        total = 0
        for k in range(len(pieces)):
            total += starts[k, p + 1] - starts[k, p]
        bits = 4
        while bits < LARGEST_START and (1 << bits) < SLOTS_PER_KEY * total:
            bits += 1
        slots[: 1 << bits] = _FREE
        # A slot is the place of its key in the partition, from 1, and above it bits of the
        # hash: most keys that differ are told apart without a look at the key.
        place_bits = 1
        while place_bits < 32 and (1 << place_bits) <= total:
            place_bits += 1
        place_mask = np.uint32((1 << place_bits) - 1)
        for k in range(len(pieces)):
            begin_piece = starts[k, p]
            count = starts[k, p + 1] - begin_piece
            piece = keys_at(keys, pieces[k, 0], begin_piece + count)
            each_once = pieces[k, 1] == 0
            piece_counts = numba.carray(pointer(pieces[k, 1]), begin_piece + count, np.int64)
            short_rows = numba.carray(pointer(pieces[k, 2]), begin_piece + count, np.uint32)
            long_rows = numba.carray(pointer(pieces[k, 2]), begin_piece + count, np.int64)
            add = pieces[k, 3]
            for i in range(begin_piece, begin_piece + count):
                hashed = hash_at(piece, i)
                tag = np.uint32(hashed) & ~place_mask
                slot = (hashed * SLOT_MULTIPLIER) >> np.uint64(64 - bits)
                if each_once:
                    times = np.int64(1)
                    row = np.int64(short_rows[i]) + add
                else:
                    times = piece_counts[i]
                    row = long_rows[i] + add
                while True:
                    entry = slots[slot]
                    if entry == _FREE:
                        copy_key(piece, i, keys, done)
                        counts[done] = times
                        rows[done] = row
                        done += 1
                        slots[slot] = tag | np.uint32(done - begin)
                        break
                    if entry & ~place_mask == tag:
                        place = begin + np.int64(entry & place_mask) - 1
                        if same_key(piece, i, keys, place):
                            counts[place] += times
                            rows[place] = min(rows[place], row)
                            break
                    slot = (slot + _ONE) & np.uint64((1 << bits) - 1)
                    patience -= 1
                    if patience < 0:
                        return -1
                if 2 * (done - begin) > (1 << bits):
                    bits += 2
                    slots = np.zeros(max(len(slots), 1 << bits), np.uint32)
                    for place in range(begin, done):
                        hashed = hash_at(keys, place)
                        slot = (hashed * SLOT_MULTIPLIER) >> np.uint64(64 - bits)
                        while slots[slot] != _FREE:
                            slot = (slot + _ONE) & np.uint64((1 << bits) - 1)
                        tag = np.uint32(hashed) & ~place_mask
                        slots[slot] = tag | np.uint32(place - begin + 1)
    return done
